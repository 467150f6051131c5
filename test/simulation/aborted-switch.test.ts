// A migration that is aborted after its switch-over has paused the guest, while its source has lost every lease.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000

interface Heard {
  readonly at: number
  readonly record: TraceRecord
}

/** A cluster whose one VM is being migrated, in the instant of the switch. */
async function switching(seed: string) {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB })
  const { sim } = world
  const heard: Heard[] = []
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  let steps = 0
  let switched = false
  sim.onRecord(record => {
    monitors.observe(record, sim.now)
    if (record.level === 'decision' || record.kind === 'lease.granted') heard.push({ at: sim.now, record })
    if (record.kind === 'guest.step') steps += 1
    if (record.kind === 'migration.switching') switched = true
  })
  const placed = () => world.coordinator?.state.vms.get('vm-1')?.placement ?? null
  await startWithVolume(world)
  world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 200 } }))
  expect(await sim.runUntil(() => placed()?.phase === 'running', SETTLE_MS)).toBe(true)
  await sim.runFor(2_000)
  const source = placed()?.host ?? ''
  const target = HOSTS.find(name => name !== source) ?? ''
  world.command({ kind: 'vm-migrate', name: 'vm-1', to: target, id: 'm1' })
  expect(await sim.runUntil(() => switched, SETTLE_MS)).toBe(true)
  const agent = sim.host(source).process(`${source}/agent`)
  return { world, sim, heard, monitors, source, target, agent, placed, steps: () => steps }
}

type Run = Awaited<ReturnType<typeof switching>>

/** What its source did with the guest since the switch: nothing between the pause and the abort, then one resume. */
async function expectResumed({ world, sim, heard, monitors, source, agent, placed, steps }: Run): Promise<void> {
  const before = steps()
  await sim.runFor(5_000)
  expect(steps() - before).toBeGreaterThan(50)
  expect(agent?.alive).toBe(true)
  expect(placed()).toMatchObject({ host: source, phase: 'running' })
  expect(world.agent(source)?.machines.map(machine => machine.state)).toEqual(['running'])
  const from = heard.findIndex(({ record }) => record.kind === 'migration.switching')
  const of = heard.slice(from).filter(({ record }) => record.host === source && record.vm === 'vm-1')
  const lives = of.filter(({ record }) => record.kind.startsWith('vm.') || record.kind === 'machine.resumed')
  const how = lives.map(({ record }) => (record.body as { how?: string }).how ?? 'aborted')
  const paused = how.indexOf('released')
  expect(how.slice(paused, paused + 3)).toEqual(['released', 'aborted', 'resume'])
  expect(monitors.violations.map(({ rule, message }) => `${rule}: ${message}`)).toEqual([])
}

describe('the source of an aborted migration whose leases are lost (MIG2, FEN2, LIV1)', () => {
  it('in the drain of its disks stands still as paused, and runs again once it may', TIMEOUT, async () => {
    const run = await switching('abort-in-drain')
    const { sim, source, target } = run
    const slow = sim
      .host('san-a')
      .disk.fault({ operation: ['write', 'sync'], verdict: { delayMs: 5_000, jitterMs: 0 } })
    await sim.runFor(30)
    const coordinator = sim.network.cut(source, 'coord', { network: 'cluster' })
    const storage = sim.network.cut(source, 'san-a', { network: ['fabric-0', 'fabric-1'], class: 'control' })
    await sim.runFor(70)
    sim.host(target).process(`${target}/agent`)?.kill()
    await sim.runFor(7_000)
    slow.heal()
    await sim.runFor(3_000)
    storage.heal()
    await sim.runFor(2_000)
    coordinator.heal()
    await sim.runFor(5_000)
    await expectResumed(run)
  })

  it(
    'hears of the abort before a lease is back: its guardian does not take it for one past its deadline',
    TIMEOUT,
    async () => {
      const run = await switching('abort-without-lease')
      const { sim, source, target, heard, placed } = run
      const stuck = sim.network.clog({ from: source, to: target, bothWays: true, class: 'bulk' })
      // What the coordinator says arrives; what the source says does not.
      const cuts = [
        sim.network.cut(source, 'coord', { network: 'cluster', oneWay: true }),
        sim.network.cut(source, 'san-a', { network: ['fabric-0', 'fabric-1'], class: 'control' }),
      ]
      await sim.runFor(3_400)
      stuck.heal()
      sim.host(target).process(`${target}/agent`)?.kill()
      const resumed = () => heard.find(({ record }) => record.kind === 'machine.resumed')
      expect(await sim.runUntil(() => resumed() !== undefined, 2_000)).toBe(true)
      const granted = heard.filter(({ record }) => record.kind === 'lease.granted' && record.host === source).at(-1)
      expect((resumed()?.at ?? 0) - (granted?.at ?? 0)).toBeGreaterThan(3_000)
      await sim.runFor(1_000)
      for (const cut of cuts) cut.heal()
      expect(await sim.runUntil(() => placed()?.host === source, SETTLE_MS)).toBe(true)
      await sim.runFor(10_000)
      await expectResumed(run)
    },
  )
})

describe('a migration that is aborted because its source has died (LIV1)', () => {
  it('leaves nothing reserved: a VM that is deleted then is gone, and its disk with it', TIMEOUT, async () => {
    const { world, sim, agent, monitors } = await switching('source-dies')
    agent?.kill()
    let deleted = false
    world.command({ kind: 'vm-delete', name: 'vm-1' }, ({ ok }) => {
      deleted = ok
    })
    expect(await sim.runUntil(() => world.coordinator?.state.vms.has('vm-1') === false, SETTLE_MS)).toBe(true)
    expect(deleted).toBe(true)
    expect(monitors.violations.map(({ rule, message }) => `${rule}: ${message}`)).toEqual([])
  })
})
