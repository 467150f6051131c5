import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { World } from '../../packages/cli/src/simulation/world.ts'
import { guestAt, startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 20_000

/** A cluster with one VM that runs; faults are the test's. */
async function cluster(seed: string): Promise<{ world: World; records: TraceRecord[]; host: string }> {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB })
  const records: TraceRecord[] = []
  world.sim.onRecord(record => {
    if (record.level === 'decision') records.push(record)
  })
  await startWithVolume(world)
  await createVm(world)
  return { world, records, host: placed(world)?.host ?? '' }
}

async function createVm(world: World): Promise<void> {
  world.command(guestAt(null))
  expect(await world.sim.runUntil(() => placed(world)?.phase === 'running', SETTLE_MS)).toBe(true)
}

function placed(world: World) {
  return world.coordinator?.state.vms.get('vm-1')?.placement ?? null
}

describe('a guardian', () => {
  it('that was paused alone reads its pipe before it judges: its agent lives on', async () => {
    const { world, host } = await cluster('guardian-pause')
    const guardian = world.sim.host(host).process(`${host}/guardian`)
    const agent = world.sim.host(host).process(`${host}/agent`)
    guardian?.pause()
    await world.sim.runFor(2_500)
    guardian?.resume()
    await world.sim.runFor(2_000)
    expect(agent?.alive).toBe(true)
    expect(placed(world)?.host).toBe(host)
  })
})

describe('a host without any lease (FEN2)', () => {
  it('freezes its machines and thaws them when a lease is back, with the same agent', async () => {
    const { world, records, host } = await cluster('freeze-thaw')
    const agent = world.sim.host(host).process(`${host}/agent`)
    // Peers hear it, so nobody fences it; coordinator and storage do not, and no peer could carry its probes.
    const cuts = [
      world.sim.network.cut(host, 'coord', { network: 'cluster' }),
      ...HOSTS.map(each => world.sim.network.cut(each, 'san-a', { network: ['fabric-0', 'fabric-1'] })),
    ]
    await world.sim.runFor(5_000)
    const frozen = records.filter(r => r.kind === 'vm.halt' && r.host === host).at(-1)
    expect(frozen?.body).toMatchObject({ how: 'frozen' })
    for (const cut of cuts) cut.heal()
    await world.sim.runFor(12_000)
    expect(agent?.alive).toBe(true)
    expect(records.filter(r => r.kind === 'vm.run' && r.host === host).at(-1)?.body).toMatchObject({ how: 'thaw' })
  })
})

describe('a VM that is to run again while it is being stopped', () => {
  it('is stopped and started anew, though nobody was told to stop it yet', async () => {
    const { world } = await cluster('stop-start')
    const first = placed(world)?.epoch ?? 0
    // Power is lost in the very commit that says so.
    let unplugged = false
    world.sim.onCommit(point => {
      if (unplugged || point.process.name !== 'coordinator') return
      if (point.stage === 'after' && placed(world)?.phase === 'stopping') {
        unplugged = true
        world.sim.host('coord').crash({ unsynced: 'lost' })
      }
    })
    world.command({ kind: 'vm-stop', name: 'vm-1' })
    expect(await world.sim.runUntil(() => !world.sim.host('coord').powered, SETTLE_MS)).toBe(true)
    world.startCoordinator()
    expect(await world.sim.runUntil(() => world.coordinator !== null, SETTLE_MS)).toBe(true)
    world.command({ kind: 'vm-start', name: 'vm-1', host: null })
    const again = () => placed(world)?.phase === 'running' && (placed(world)?.epoch ?? 0) > first
    expect(await world.sim.runUntil(again, SETTLE_MS)).toBe(true)
  })
})

describe('a name that is used again', () => {
  it('starts on the same hosts as its predecessor', async () => {
    const { world } = await cluster('same-name')
    world.command({ kind: 'vm-delete', name: 'vm-1' })
    const gone = () => world.coordinator?.state.vms.has('vm-1') === false
    expect(await world.sim.runUntil(gone, SETTLE_MS)).toBe(true)
    await createVm(world)
  })
})

describe('an abort that was durable before anyone was told (MIG2)', () => {
  it('is told by the next run of the coordinator: no half of the migration stays', async () => {
    const { world, host, records } = await cluster('abort-untold')
    const target = HOSTS.find(name => name !== host) ?? ''
    world.sim.barrier('migration.precopy', () => world.command({ kind: 'vm-cancel', name: 'vm-1' }))
    // Power is lost in the very commit that makes the abort durable.
    world.sim.onCommit(point => {
      const aborted = world.coordinator?.state.migrations.get('m1')?.phase === 'aborted'
      if (point.stage === 'after' && point.process.name === 'coordinator' && aborted) {
        world.sim.host('coord').crash({ unsynced: 'lost' })
      }
    })
    world.command({ kind: 'vm-migrate', name: 'vm-1', to: target, id: 'm1' })
    expect(await world.sim.runUntil(() => !world.sim.host('coord').powered, SETTLE_MS)).toBe(true)
    world.startCoordinator()
    await world.sim.runFor(10_000)
    const machines = [...(world.coordinator?.state.liveHosts.values() ?? [])].flatMap(live => [
      ...live.machines.values(),
    ])
    expect(machines.map(machine => machine.state)).toEqual(['running'])
    expect(placed(world)?.host).toBe(host)
    expect(records.some(record => record.kind === 'migration.committed')).toBe(false)
  })
})
