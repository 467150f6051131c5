// A real machine with disks on two volumes, whose guest works on the second: it is made, snapshotted, moved, lost with its host,
// and deleted, with both of them.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { expect, it } from 'vitest'
import { createVm, extentAt, VOLUME_BYTES, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000
const VM = 'vm-1'

async function begin(seed: string) {
  const storages = ['san-a', 'san-b']
  const world = new World({ seed, hosts: HOSTS, storages, settings: {}, hostMemoryBytes: 4 * GIB, qemu: true })
  const { sim } = world
  const monitors = createMonitors({ fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } })
  const heard = { entries: 0, recovered: [] as number[], disks: new Set<string>() }
  sim.onRecord(record => {
    monitors.observe(record, sim.now)
    if (record.vm !== VM) return
    if (record.kind === 'guest.acknowledged') heard.entries = (record.body as { entry: number }).entry
    if (record.kind === 'guest.recovered') heard.recovered.push((record.body as { entry: number }).entry)
    if (record.kind === 'disk.invoke' && (record.body as { op: string }).op === 'write') {
      heard.disks.add(record.disk ?? '')
    }
  })
  await startWithVolume(world, ['san-a'])
  world.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: VOLUME_BYTES, storages: ['san-b'] })
  const vm = () => world.coordinator?.state.vms.get(VM)
  const until = async (what: string, predicate: () => boolean): Promise<void> => {
    expect([what, await sim.runUntil(predicate, SETTLE_MS)]).toEqual([what, true])
  }
  const ask = async (volume: string, kind: string, body: object): Promise<unknown> => {
    let answer: { ok: boolean; reply: unknown } | null = null
    world.askOwner(volume, kind, { volume, ...body }, each => {
      answer = each
    })
    await until(`${kind} is answered`, () => answer !== null)
    expect([kind, answer]).toMatchObject([kind, { ok: true }])
    return (answer as unknown as { reply: unknown }).reply
  }
  const sound = () => {
    const all = [...monitors.violations, ...monitors.finish(sim.now)]
    expect(all.map(({ rule, message }) => `${rule}: ${message}`)).toEqual([])
  }
  return { world, sim, heard, vm, until, ask, sound }
}

type Run = Awaited<ReturnType<typeof begin>>

/** With room for the guest's log on each, and the log on the second. */
async function create({ world, until, vm, heard }: Run): Promise<void> {
  const planned = { name: VM, hypervisor: 'qemu', volume: 'csv1', parameters: { writesPerSecond: 20 } } as const
  const one = createVm(planned)
  if (one.kind !== 'vm-create') throw new Error('a VM is made otherwise')
  const spec = { ...one.spec, parameters: { ...one.spec.parameters, disk: 'vdb' } }
  const disks = ['csv1', 'csv2'].map(volume => ({ volume, sizeBytes: 8 * MIB }))
  await until('every host has QEMU', () =>
    HOSTS.every(name => world.coordinator?.state.liveHosts.get(name)?.whyNoQemu === null),
  )
  world.create(planned, { ...one, spec, disks })
  await until('it runs', () => vm()?.placement?.phase === 'running' && heard.entries >= 20)
}

it('VM2 MIG1: lives on both, moves with both, and starts elsewhere with both', TIMEOUT, async () => {
  const run = await begin('several-disks')
  const { world, sim, heard, vm, until, ask, sound } = run
  await create(run)
  expect([...heard.disks]).toEqual([`${VM}-1`])
  await ask('csv2', 'volume.snapshot-disk', { disk: `${VM}-1`, snapshot: 's1', name: 's1' })

  const source = vm()?.placement?.host ?? ''
  const target = HOSTS.find(name => name !== source) ?? ''
  world.command({ kind: 'vm-migrate', name: VM, to: target, id: 'm1' })
  await until('it has moved', () => vm()?.placement?.host === target && vm()?.migration === null)
  const holders = async () => {
    const found: (string | null)[] = []
    for (const volume of ['csv1', 'csv2']) {
      const { disks } = (await ask(volume, 'volume.list-disks', {})) as {
        disks: { name: string; holder: { host: string } | null }[]
      }
      found.push(...disks.filter(({ name }) => name.startsWith(VM)).map(({ holder }) => holder?.host ?? null))
    }
    return found
  }
  await sim.runFor(2_000)
  expect(await holders()).toEqual([target, target])

  const acknowledged = heard.entries
  const lives = heard.recovered.length
  sim.host(target).crash({ unsynced: 'lost' })
  await until('it lives elsewhere', () => heard.recovered.length > lives && heard.entries > acknowledged + 20)
  expect(heard.recovered.at(-1)).toBeGreaterThanOrEqual(acknowledged)
  await sim.runFor(2_000)
  const third = vm()?.placement?.host
  expect(await holders()).toEqual([third, third])

  world.command({ kind: 'vm-delete', name: VM })
  await until('it is gone', () => vm() === undefined)
  expect(await holders()).toEqual([])
  sound()
})

it('a migration that is aborted leaves both to its source, and nothing reserved', TIMEOUT, async () => {
  const run = await begin('several-disks-abort')
  const { world, sim, heard, vm, until, sound } = run
  await create(run)
  const source = vm()?.placement?.host ?? ''
  const target = HOSTS.find(name => name !== source) ?? ''
  let switching = false
  sim.onRecord(({ kind }) => {
    if (kind === 'migration.switching') switching = true
  })
  world.command({ kind: 'vm-migrate', name: VM, to: target, id: 'm1' })
  await until('the switch begins', () => switching)
  sim.host(target).crash({ unsynced: 'lost' })
  await until('it is aborted', () => world.coordinator?.state.migrations.get('m1')?.phase === 'aborted')
  const before = heard.entries
  await until('it goes on where it was', () => heard.entries > before + 20 && vm()?.placement?.host === source)
  world.command({ kind: 'vm-delete', name: VM })
  await until('it is gone', () => vm() === undefined)
  sound()
})
