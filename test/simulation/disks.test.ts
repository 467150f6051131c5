// Snapshots, growth and full volumes in the simulated cluster: what operators see, and that a guest never hears of it.

import { connectNbd } from '@stellwerk/block/nbd/client.ts'
import { exportOf } from '@stellwerk/coordinator/core/exports.ts'
import { statusOf } from '@stellwerk/coordinator/view/status.ts'
import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { Environment, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { createVm, extentAt, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 20_000
const EXTENT = 4 * MIB
const V = { volume: 'csv1' }

async function begin(seed: string, load = { writesPerSecond: 20, scratchPerSecond: 5 }) {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB })
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  const records: TraceRecord[] = []
  const heard = { entries: 0, highest: 0, words: [] as string[] }
  world.sim.onRecord(record => {
    monitors.observe(record, world.sim.now)
    if (record.level === 'decision') records.push(record)
    if (record.kind === 'guest.acknowledged' && record.vm === 'vm-1') heard.entries++
    if (record.kind === 'disk.invoke') {
      heard.highest = Math.max(heard.highest, (record.body as { offset: number }).offset)
    }
    if (record.kind === 'disk.fail' || record.kind === 'disk.info') heard.words.push(record.kind)
  })
  await startWithVolume(world)
  world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: load }))
  expect(await world.sim.runUntil(() => vm(world)?.placement?.phase === 'running', SETTLE_MS)).toBe(true)
  await world.sim.runFor(1_000)
  const ask = async (kind: string, body: object): Promise<unknown> => {
    let answer: { ok: boolean; reply: unknown } | null = null
    world.askOwner('csv1', kind, { ...V, ...body }, each => {
      answer = each
    })
    expect(await world.sim.runUntil(() => answer !== null, SETTLE_MS)).toBe(true)
    const { ok, reply } = answer as unknown as { ok: boolean; reply: unknown }
    return ok ? reply : null
  }
  const view = () => statusOf(world.coordinator!.state, world.sim.now).vms['vm-1']!
  const sound = () => expect([...monitors.violations, ...monitors.finish(world.sim.now)]).toEqual([])
  return { world, records, heard, ask, view, sound }
}

const vm = (world: World) => world.coordinator?.state.vms.get('vm-1')

/** Another disk takes all that is free. */
async function fill({ ask }: { ask: (kind: string, body: object) => Promise<unknown> }): Promise<void> {
  const { freeBytes } = (await ask('volume.usage', {})) as { freeBytes: number }
  const count = freeBytes / EXTENT
  await ask('volume.create-disk', { disk: 'ballast', name: 'ballast', sizeBytes: count * EXTENT })
  await ask('volume.open-host', { host: 'host-x', hostEpoch: 1, slot: null })
  const held = { disk: 'ballast', host: 'host-x', epoch: 1, committed: false }
  await ask('volume.attach', { ...held, vm: 'ballast', hostEpoch: 1 })
  for (let index = 0; index < count; index++) await ask('volume.allocate', { ...held, indexes: [index], ahead: [] })
  await ask('volume.detach', { disk: 'ballast', host: 'host-x', epoch: 1 })
}

it(
  'a guest that writes to a full volume stands still, everybody sees why, and it goes on by itself when room is made',
  async () => {
    const run = await begin('volume-full')
    const { world, heard, ask, view, records } = run
    await fill(run)
    expect(await ask('volume.snapshot-disk', { disk: 'vm-1-0', snapshot: 's1', name: 's1' })).not.toBe(null)
    await world.sim.runFor(6_000)
    expect(view()).toMatchObject({ state: 'paused-critical', why: 'volume full (csv1)' })
    const before = heard.entries
    await world.sim.runFor(5_000)
    expect(heard.entries).toBe(before)
    await ask('volume.delete-disk', { disk: 's1' })
    await world.sim.runFor(5_000)
    expect(view().state).toBe('running')
    expect(heard.entries).toBeGreaterThan(before + 20)
    expect(heard.words).toEqual([])
    expect(records.some(({ kind }) => kind === 'vm.paused-critical')).toBe(true)
    run.sound()
  },
  TIMEOUT.timeout,
)

it(
  'a VM that stands still on a full volume can be stopped and deleted, which makes room',
  async () => {
    const run = await begin('volume-full-stop')
    const { world, ask, view } = run
    await fill(run)
    await ask('volume.snapshot-disk', { disk: 'vm-1-0', snapshot: 's1', name: 's1' })
    await world.sim.runFor(6_000)
    expect(view().state).toBe('paused-critical')
    world.command({ kind: 'vm-delete', name: 'vm-1' })
    expect(await world.sim.runUntil(() => vm(world) === undefined, SETTLE_MS)).toBe(true)
    await ask('volume.delete-disk', { disk: 's1' })
    expect(((await ask('volume.usage', {})) as { freeBytes: number }).freeBytes).toBeGreaterThan(0)
    run.sound()
  },
  TIMEOUT.timeout,
)

it(
  'a snapshot is exported, to be read only, while its VM runs and writes',
  async () => {
    const run = await begin('export-snapshot')
    const { world, heard, ask } = run
    await ask('volume.snapshot-disk', { disk: 'vm-1-0', snapshot: 's1', name: 's1' })
    const command = { kind: 'disk-export', id: 'e1', ...V, disk: 's1', readOnly: true } as const
    world.command({ ...command, host: null, socket: '/run/export.sock', port: 0 })
    const exported = () => exportOf(world.coordinator!.state, 'csv1', 's1')?.placement
    expect(await world.sim.runUntil(() => exported()?.phase === 'running', SETTLE_MS)).toBe(true)
    const seen: { first: Buffer | null; second: Buffer | null; refused: string } = {
      ...{ first: null, second: null, refused: '' },
    }
    const io = { origin: 'tool', deadlineAt: null }
    world.sim.program('tool', async (env: Environment) => {
      const stream = await env.network.dialStream({ network: 'local', host: '/run/export.sock', port: 0 })
      const disk = await connectNbd(stream, { exportName: '', timers: env.timers })
      const read = async () => Buffer.concat(await disk.read(0, MIB, io))
      seen.first = await read()
      await new Promise<void>(resolve => env.timers.after(3_000, resolve))
      seen.second = await read()
      await disk.write(0, [new Uint8Array(4096)], {}, io).catch((error: { errno?: string }) => {
        seen.refused = error.errno ?? 'unknown'
      })
    })
    const before = heard.entries
    world.sim.host(exported()!.host).spawn('tool', 'tool', null)
    await world.sim.runFor(5_000)
    expect(heard.entries).toBeGreaterThan(before + 20)
    expect(seen.first?.some(byte => byte !== 0)).toBe(true)
    expect(seen.second?.equals(seen.first!)).toBe(true)
    expect(seen.refused).toBe('EPERM')
    run.sound()
  },
  TIMEOUT.timeout,
)

it(
  'a disk grows under its guest, and has that size after a migration too',
  async () => {
    const run = await begin('grow')
    const { world, ask, heard } = run
    const disk = () => {
      const host = vm(world)?.placement?.host ?? ''
      return { host, epoch: vm(world)?.placement?.epoch }
    }
    const from = disk().host
    await ask('volume.resize-disk', { disk: 'vm-1-0', sizeBytes: 12 * MIB })
    await world.sim.runFor(2_000)
    world.command({ kind: 'vm-migrate', name: 'vm-1', to: null, id: 'm1' })
    expect(await world.sim.runUntil(() => disk().host !== from, SETTLE_MS)).toBe(true)
    const before = heard.entries
    await world.sim.runFor(4_000)
    expect(heard.entries).toBeGreaterThan(before + 20)
    const { disks } = (await ask('volume.list-disks', {})) as { disks: { sizeBytes: number }[] }
    expect(disks[0]).toMatchObject({ sizeBytes: 12 * MIB })
    // The guest sees it: its scratch area lies at the end of the disk.
    expect(heard.highest).toBeGreaterThan(7 * MIB)
    run.sound()
  },
  TIMEOUT.timeout,
)

it(
  'a VM whose disk has nothing to do is moved after a snapshot of it, once and once more',
  async () => {
    const run = await begin('idle-after-snapshot', { writesPerSecond: 0, scratchPerSecond: 0 })
    const { world, ask } = run
    const host = () => vm(world)?.placement?.host
    for (const n of [1, 2]) {
      expect(await ask('volume.snapshot-disk', { disk: 'vm-1-0', snapshot: `s${n}`, name: `s${n}` })).not.toBe(null)
      await world.sim.runFor(2_000)
      const from = host()
      world.command({ kind: 'vm-migrate', name: 'vm-1', to: null, id: `m${n}` })
      expect(await world.sim.runUntil(() => host() !== from, SETTLE_MS)).toBe(true)
      await world.sim.runFor(4_000)
    }
    run.sound()
  },
  TIMEOUT.timeout,
)
