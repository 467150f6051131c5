// Guests' networks in scenarios: where every switch believes a VM to be after it has moved, after its host was lost, and after
// a host came back in a new epoch. What frames are heard is judged by the rules NET1 and NET2 all along.

import { createMonitors, type MonitorSet } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { createVm, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const VMS = ['vm-1', 'vm-2', 'vm-3']
const SETTLE_MS = 60_000

class Network {
  readonly world: World
  readonly monitors: MonitorSet = createMonitors({ rules: ['NET1', 'NET2', 'VM1', 'MIG1'] })

  constructor(seed: string) {
    const guestNetwork = true
    this.world = new World({
      seed,
      hosts: HOSTS,
      storages: ['san-a'],
      settings: {},
      hostMemoryBytes: 4 * GIB,
      guestNetwork,
    })
    this.world.sim.onRecord(record => this.monitors.observe(record, this.world.sim.now))
  }

  async start(): Promise<this> {
    await startWithVolume(this.world, ['san-a'])
    for (const name of VMS) {
      const parameters = { writesPerSecond: 10, stepMs: 20 }
      this.world.command(createVm({ name, volume: 'csv1', parameters, network: 'lan' }))
    }
    await this.until(() => VMS.every(name => this.placed(name)?.phase === 'running'))
    await this.world.sim.runFor(2_000)
    return this
  }

  placed(vm: string) {
    return this.world.coordinator?.state.vms.get(vm)?.placement ?? null
  }

  mac(vm: string): string {
    return this.world.coordinator!.state.vms.get(vm)!.spec.nics![0]!.mac
  }

  /** Where each host that has a port in the network believes it to be; one that runs it says so of itself. */
  believed(vm: string): { [host: string]: string | undefined } {
    const mac = this.mac(vm)
    return Object.fromEntries(
      HOSTS.flatMap(host => {
        const network = this.world.agent(host)?.networks.find(each => each.network === 'lan')
        if (network === undefined) return []
        const isHere = network.ports.some(port => port.mac === mac)
        return [[host, isHere ? host : network.learnt.find(each => each.mac === mac)?.host]]
      }),
    )
  }

  knows(vm: string): boolean {
    const host = this.placed(vm)?.host
    return Object.values(this.believed(vm)).every(at => at === host)
  }

  async until(what: () => boolean, ms = SETTLE_MS): Promise<void> {
    expect(await this.world.sim.runUntil(what, ms)).toBe(true)
  }

  judged(): void {
    expect(this.monitors.finish()).toEqual([])
    expect(this.monitors.judged.get('NET1')).toBeGreaterThan(0)
  }
}

test('every switch knows at once where a VM is that has moved, and hears it from there', TIMEOUT, async () => {
  const network = await new Network('moved').start()
  for (const vm of VMS) expect(network.knows(vm), JSON.stringify(network.believed(vm))).toBe(true)
  const from = network.placed('vm-1')!.host
  const to = HOSTS.find(host => host !== from)!
  network.world.command({ kind: 'vm-migrate', name: 'vm-1', to, id: 'm1' })
  await network.until(() => network.placed('vm-1')?.host === to)
  await network.world.sim.runFor(200)
  expect(new Set(Object.values(network.believed('vm-1')))).toEqual(new Set([to]))
  network.judged()
})

test('what a clogged link lets go after a VM has moved is not heard (NET2)', TIMEOUT, async () => {
  const network = await new Network('clogged').start()
  const from = network.placed('vm-1')!.host
  const to = HOSTS.find(host => host !== from)!
  const clog = network.world.sim.network.clog({ from, network: 'guest' })
  await network.world.sim.runFor(1_000)
  network.world.command({ kind: 'vm-migrate', name: 'vm-1', to, id: 'm1' })
  await network.until(() => network.placed('vm-1')?.host === to)
  await network.world.sim.runFor(1_000)
  clog.heal()
  await network.world.sim.runFor(1_000)
  // `from` hears again, too: from its peers, and what it held of others' is no news.
  expect(network.knows('vm-1'), JSON.stringify(network.believed('vm-1'))).toBe(true)
  network.judged()
})

test(
  'a VM whose host is lost is found where it restarts, and the host is heard again in its new epoch (NET1)',
  TIMEOUT,
  async () => {
    const network = await new Network('lost').start()
    const lost = network.placed('vm-1')!.host
    network.world.sim.host(lost).crash({ unsynced: 'lost' })
    await network.until(() => {
      const now = network.placed('vm-1')
      return now !== null && now.host !== lost && now.phase === 'running'
    })
    await network.world.sim.runFor(1_000)
    expect(network.knows('vm-1'), JSON.stringify(network.believed('vm-1'))).toBe(true)
    network.world.startHost(lost)
    await network.until(() => network.world.agent(lost)?.standing === 'admitted')
    await network.world.sim.runFor(3_000)
    network.world.command({ kind: 'vm-migrate', name: 'vm-2', to: lost, id: 'm2' })
    await network.until(() => network.placed('vm-2')?.host === lost)
    await network.world.sim.runFor(2_000)
    for (const vm of VMS) expect(network.knows(vm), JSON.stringify(network.believed(vm))).toBe(true)
    network.judged()
  },
)

test('a VM with a card is not placed on a host that is not on the guest network', TIMEOUT, async () => {
  const world = new World({ seed: 'off', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  await startWithVolume(world, ['san-a'])
  world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: {}, network: 'lan' }))
  await world.sim.runFor(5_000)
  const { state } = world.coordinator!
  expect(state.vms.get('vm-1')?.placement).toBe(null)
  expect(state.liveVms.get('vm-1')?.whyNot).toMatch(/it is not on the guest network/)
})
