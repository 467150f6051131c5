// The source of a committed migration that heard of its end only when the VM had long been started a third time.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000

it(
  'a source that was not told of the commit never runs again, though its migration is remembered no more (VM1, VM2)',
  TIMEOUT,
  async () => {
    const world = new World({
      seed: 'forgotten-migration',
      hosts: HOSTS,
      storages: ['san-a', 'san-b'],
      settings: { migrationsKept: 0 },
      hostMemoryBytes: 4 * GIB,
    })
    const { sim } = world
    const runs: TraceRecord[] = []
    const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
    sim.onRecord(record => {
      monitors.observe(record, sim.now)
      if (record.kind === 'vm.run') runs.push(record)
    })
    const placed = () => world.coordinator?.state.vms.get('vm-1')?.placement ?? null
    await startWithVolume(world)
    world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: { writesPerSecond: 50 } }))
    expect(await sim.runUntil(() => placed()?.phase === 'running', SETTLE_MS)).toBe(true)
    const source = placed()?.host ?? ''
    const [target = '', third = ''] = HOSTS.filter(name => name !== source)
    world.command({ kind: 'volume-own', name: 'csv1', host: third })
    await sim.runFor(3_000)

    // In the instant of the commit the source loses the coordinator; its peers and its storage still reach it.
    let cut: { heal(): void } | null = null
    sim.onRecord(record => {
      if (record.kind === 'migration.committed') cut ??= sim.network.cut(source, 'coord', { network: 'cluster' })
    })
    world.command({ kind: 'vm-migrate', name: 'vm-1', to: target, id: 'm1' })
    expect(await sim.runUntil(() => placed()?.host === target, SETTLE_MS)).toBe(true)
    await sim.runFor(2_000)
    expect(world.agent(source)?.machines.map(machine => machine.state)).toEqual(['released'])
    sim.host(target).process(`${target}/agent`)?.kill()
    expect(await sim.runUntil(() => placed()?.host === third && placed()?.phase === 'running', SETTLE_MS)).toBe(true)

    // Others are asked for meanwhile, and what is over could be forgotten; then the link is there again.
    let asked = false
    for (let i = 0; i < 50 && !asked; i++) {
      world.command({ kind: 'vm-migrate', name: 'vm-1', to: target, id: `m2-${i}` }, ({ ok }) => {
        asked ||= ok
      })
      await sim.runFor(500)
    }
    expect(asked).toBe(true)
    await sim.runFor(3_000)
    expect(world.coordinator?.state.hosts.get(source)).toMatchObject({ phase: 'admitted', epoch: 1 })
    const before = runs.length
    const healed = cut as { heal(): void } | null
    healed?.heal()
    await sim.runFor(10_000)
    expect(runs.slice(before).filter(record => record.host === source)).toEqual([])
    expect(world.agent(source)?.machines).toEqual([])
    expect(monitors.violations.map(({ rule, message }) => `${rule}: ${message}`)).toEqual([])
  },
)
