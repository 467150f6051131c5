// What the wait before a restart counts from: a host that no storage has seen for long may hold a lease of the coordinator's
// all the same.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { afterEach, expect, it } from 'vitest'
import { createVm, extentAt, FABRICS, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000

afterEach(() => canaries.clear())

/** A host loses every way to storage, not the coordinator, and after a while dies of it. Gives what the rules say. */
async function lostBehindItsCables(): Promise<string[]> {
  const world = new World({
    seed: 'wait-rule',
    hosts: HOSTS,
    storages: ['san-a'],
    settings: { isolatedMs: 60_000 },
    hostMemoryBytes: 4 * GIB,
  })
  const { sim } = world
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  sim.onRecord(record => monitors.observe(record, sim.now))
  const placed = () => world.coordinator?.state.vms.get('vm-1')?.placement ?? null
  await startWithVolume(world)
  world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50 } }))
  expect(await sim.runUntil(() => placed()?.phase === 'running', SETTLE_MS)).toBe(true)
  const host = placed()?.host ?? ''
  const others = HOSTS.filter(name => name !== host)
  world.command({ kind: 'volume-own', name: 'csv1', host: others[0]! })
  await sim.runFor(3_000)
  for (const network of FABRICS) sim.network.cut(host, 'san-a', { network })
  for (const peer of others) sim.network.cut(host, peer, { network: 'cluster' })
  await sim.runFor(4 * world.settings.leaseMs)
  expect(world.coordinator?.state.hosts.get(host)?.phase).toBe('admitted')
  sim.host(host).crash({ unsynced: 'lost' })
  const elsewhere = () => placed()?.host !== host && placed()?.phase === 'running'
  expect(await sim.runUntil(elsewhere, SETTLE_MS)).toBe(true)
  return monitors.violations.map(({ rule, message }) => `${rule}: ${message}`)
}

it(
  'a VM of a host that storage has not seen for long waits for the last lease it was granted (FEN1)',
  TIMEOUT,
  async () => {
    expect(await lostBehindItsCables()).toEqual([])
  },
)

it('FEN1 finds wait-without-last-grant: the wait does not count from the last lease granted', TIMEOUT, async () => {
  canaries.add('wait-without-last-grant')
  expect((await lostBehindItsCables())[0]).toMatch(/^FEN1: /)
})
