// A real machine whose guest changes its memory faster than it is carried: it is moved with a longer pause, or stays, as whoever
// moves it has asked.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b']
const SETTLE_MS = 30_000
/** What it aims at unless it is told: so short that this guest never gets there. */
const LIMITS = { downtimeMs: 1 }

it('stays where it is, or moves with a pause longer than was aimed at', TIMEOUT, async () => {
  const world = new World({
    ...{ seed: 'diverging', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB, qemu: true },
  })
  const { sim } = world
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  let entries = 0
  sim.onRecord(record => {
    monitors.observe(record, sim.now)
    if (record.kind === 'guest.acknowledged') entries++
  })
  await startWithVolume(world)
  const until = async (what: string, predicate: () => boolean, limitMs = SETTLE_MS): Promise<void> => {
    expect([what, await sim.runUntil(predicate, limitMs)]).toEqual([what, true])
  }
  await until('every host has QEMU', () =>
    HOSTS.every(name => world.coordinator?.state.liveHosts.get(name)?.whyNoQemu === null),
  )
  const parameters = { writesPerSecond: 20, stepMs: 5, pages: 400, dirtyPagesPerStep: 400 }
  const planned = { name: 'vm-1', hypervisor: 'qemu', volume: 'csv1', parameters } as const
  world.create(planned, createVm(planned))
  const vm = () => world.coordinator?.state.vms.get('vm-1')
  await until('it runs', () => vm()?.placement?.phase === 'running' && entries >= 5)
  const source = vm()?.placement?.host
  const to = HOSTS.find(name => name !== source) ?? ''
  const migration = (id: string) => world.coordinator?.state.migrations.get(id)

  const limits = { ...LIMITS, whenDiverging: 'abort' } as const
  world.command({ kind: 'vm-migrate', name: 'vm-1', to, id: 'm1', limits })
  await until('it is given up', () => migration('m1')?.phase === 'aborted', world.settings.precopyMs)
  expect(migration('m1')).toMatchObject({ limits, reason: expect.stringMatching(/not-converging/) })
  const before = entries
  await until('it goes on', () => entries >= before + 10)
  expect(vm()?.placement?.host).toBe(source)

  world.command({ kind: 'vm-migrate', name: 'vm-1', to, id: 'm2', limits: LIMITS })
  await until('it has moved', () => migration('m2')?.phase === 'done', world.settings.precopyMs)
  expect(vm()?.placement?.host).toBe(to)
  expect([...monitors.violations, ...monitors.finish(sim.now)]).toEqual([])
})
