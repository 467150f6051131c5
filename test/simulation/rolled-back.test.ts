// A coordinator that is put back from a copy of its state which was made while it ran. Since then a host was lost and came back at a
// higher epoch, and the VM was moved there; now that host is heard by storages alone.

import { EXIT_DEPOSED } from '@stellwerk/coordinator/decider.ts'
import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { COORDINATOR_HOST, createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const STORAGES = ['san-a', 'san-b']
const SETTLE_MS = 30_000

type Entries = readonly (readonly [string, Json])[]

function makeWorld(seed: string) {
  const world = new World({
    ...{ seed, hosts: HOSTS, storages: STORAGES, settings: {}, hostMemoryBytes: 4 * GIB },
  })
  const { sim } = world
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  sim.onRecord(record => monitors.observe(record, sim.now))
  const state = () => world.coordinator?.state
  const store = () => sim.host(COORDINATOR_HOST).disk.directory('coordinator').store
  const entries = (): Entries => structuredClone([...store().withPrefix('')])
  return {
    ...{ world, sim, state, entries },
    placed: () => state()?.vms.get('vm-1')?.placement ?? null,
    until: async (what: () => boolean) => expect(await sim.runUntil(what, SETTLE_MS)).toBe(true),
    putBack: (saved: Entries) => {
      for (const [key] of entries()) store().delete(key)
      for (const [key, value] of saved) store().set(key, value)
    },
    killCoordinator: () => sim.host(COORDINATOR_HOST).process('coordinator')?.kill(),
    violations: () => monitors.violations.map(({ rule, message }) => `${rule}: ${message}`),
  }
}

it(
  'decides nothing, however often it is started, and the newest state is taken again (VM1, FEN1)',
  TIMEOUT,
  async () => {
    const { world, sim, state, placed, until, entries, putBack, killCoordinator, violations } = makeWorld('rolled-back')
    const decided: string[] = []
    let steps = 0
    sim.onRecord(({ kind, process }) => {
      if (kind === 'guest.step') steps += 1
      if (process === 'coordinator' && /^decision\.|^failover/.test(kind)) decided.push(kind)
    })

    await startWithVolume(world)
    world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50 } }))
    await until(() => placed()?.phase === 'running')
    const host = placed()!.host
    const copy = entries()

    sim.host(host).crash()
    await until(() => placed()?.phase === 'running' && placed()?.host !== host)
    world.startHost(host)
    await until(() => state()?.hosts.get(host)?.phase === 'admitted' && state()?.hosts.get(host)?.epoch === 2)
    await sim.runFor(2_000)
    world.command({ kind: 'vm-migrate', name: 'vm-1', to: host, id: 'm1' })
    await until(() => placed()?.phase === 'running' && placed()?.host === host)
    const cut = sim.network.cut(host, COORDINATOR_HOST, { network: 'cluster' })
    await sim.runFor(500)

    killCoordinator()
    const newest = entries()
    putBack(copy)
    decided.length = 0
    for (let start = 0; start < 3; start += 1) {
      world.startCoordinator()
      const process = sim.host(COORDINATOR_HOST).process('coordinator')!
      await until(() => !process.alive)
      expect([EXIT_DEPOSED, 1]).toContain(process.exit?.code)
      await sim.runFor(1_000)
    }
    expect(decided).toEqual([])

    putBack(newest)
    world.startCoordinator()
    cut.heal()
    await until(() => placed()?.phase === 'running' && state()?.hosts.get(host)?.phase === 'admitted')
    const before = steps
    await sim.runFor(5_000)
    expect(placed()).toMatchObject({ host, phase: 'running' })
    expect(steps - before).toBeGreaterThan(50)
    expect(violations()).toEqual([])
  },
)

it(
  'a state that no storage confirms takes no command, and does not stand in the way of the newest',
  TIMEOUT,
  async () => {
    const { world, sim, placed, until, entries, putBack, killCoordinator, violations } = makeWorld('rolled-back/terms')
    await startWithVolume(world)
    world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50 } }))
    await until(() => placed()?.phase === 'running')
    const copy = entries()
    world.command({ kind: 'host-drain', name: HOSTS.find(host => host !== placed()?.host)!, why: 'a change' })
    await sim.runFor(500)
    killCoordinator()
    const newest = entries()
    putBack(copy)
    const cut = sim.network.cut([COORDINATOR_HOST, ...HOSTS], STORAGES, { class: 'control' })
    const refused: string[] = []
    for (let start = 0; start < 4; start += 1) {
      world.startCoordinator()
      await sim.runFor(100)
      world.command(createVm({ name: 'vm-2', volume: 'csv1', parameters: {} }), ({ code }) => refused.push(code))
      await sim.runFor(6_000)
      killCoordinator()
    }
    expect(refused).toEqual(Array(4).fill('unconfirmed-state'))
    expect(entries().filter(([key]) => key.startsWith('vms/'))).toHaveLength(1)

    cut.heal()
    putBack(newest)
    world.startCoordinator()
    await until(() => world.coordinator?.state.announced.size === 2)
    await sim.runFor(5_000)
    expect(world.coordinator?.state.cluster.term).toBe(2)
    expect(placed()?.phase).toBe('running')
    expect(violations()).toEqual([])
  },
)

it(
  'where one storage missed the last changes and answers first, the other’s word counts, and no term stands in the newest’s way',
  TIMEOUT,
  async () => {
    const { world, sim, state, placed, until, entries, putBack, killCoordinator, violations } =
      makeWorld('rolled-back/behind')
    const decided: string[] = []
    sim.onRecord(({ kind, process }) => {
      if (process === 'coordinator' && /^decision\.|^lease/.test(kind)) decided.push(kind)
    })
    const other = () => HOSTS.find(host => host !== placed()?.host)!
    const termsOfAgents = () => HOSTS.map(host => sim.host(host).disk.directory(`${host}/agent`).store.get('term'))
    await startWithVolume(world)
    world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50 } }))
    await until(() => placed()?.phase === 'running')
    sim.host('san-b').process('san-b')?.kill()
    world.command({ kind: 'host-drain', name: other(), why: 'a change' })
    await sim.runFor(500)
    const copy = entries()
    world.command({ kind: 'host-resume', name: other() })
    await sim.runFor(500)
    killCoordinator()
    const newest = entries()
    world.startStorage('san-b')
    await sim.runFor(500)
    const terms = termsOfAgents()
    const slow = sim.network.slow({ from: COORDINATOR_HOST, to: 'san-a', bothWays: true }, { delayMs: 15 })
    putBack(copy)
    decided.length = 0
    for (let start = 0; start < 4; start += 1) {
      world.startCoordinator()
      const process = sim.host(COORDINATOR_HOST).process('coordinator')!
      await until(() => !process.alive)
    }
    expect(decided).toEqual([])
    expect(termsOfAgents()).toEqual(terms)

    slow.heal()
    putBack(newest)
    world.startCoordinator()
    await until(() => state()?.announced.size === 2 && decided.length > 0)
    await sim.runFor(5_000)
    expect(sim.host(COORDINATOR_HOST).process('coordinator')?.alive).toBe(true)
    expect(state()?.cluster.term).toBeGreaterThan(5)
    expect(placed()?.phase).toBe('running')
    expect(violations()).toEqual([])
  },
)
