// A VM's orderly stop in a whole cluster: the guest ends by itself, or is killed when its time is over.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { World } from '../../packages/cli/src/simulation/world.ts'
import { guestAt, startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 20_000

async function cluster(seed: string) {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  const records: TraceRecord[] = []
  world.sim.onRecord(record => {
    if (record.kind === 'vm.halt') records.push(record)
  })
  const state = () => world.coordinator?.state
  const placed = () => state()?.vms.get('vm-1')?.placement ?? null
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world)
  world.command(guestAt(null))
  await until(() => placed()?.phase === 'running')
  await world.sim.runFor(1_000)
  return { world, placed, until, ends: () => records.map(record => (record.body as { how: string }).how) }
}

test('a stop lets the guest shut down, and the next start finds all it acknowledged', async () => {
  const { world, placed, until, ends } = await cluster('orderly')
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  await until(() => placed() === null)
  expect(ends()[0]).toBe('halted')
  expect(world.coordinator?.state.vms.get('vm-1')).toMatchObject({ desired: 'stopped', gaveUp: null })
  world.command({ kind: 'vm-start', name: 'vm-1', host: null })
  await until(() => placed()?.phase === 'running')
})

test('a forced stop does not ask', async () => {
  const { world, placed, until, ends } = await cluster('forced')
  world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 0 })
  await until(() => placed() === null)
  expect(ends()).toEqual(['killed'])
})

test('a guest that cannot end is killed when its time is over; a later, shorter order counts', async () => {
  const { world, placed, until, ends } = await cluster('stuck')
  // Its entry never gets to the disk, not over a peer either: it goes on trying.
  const cuts = HOSTS.map(host => world.sim.network.cut(host, 'san-a', { network: ['fabric-0', 'fabric-1'] }))
  await world.sim.runFor(500)
  world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 600_000 })
  await world.sim.runFor(8_000)
  expect(ends()).toEqual([])
  world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 1_000 })
  await world.sim.runFor(3_000)
  for (const cut of cuts) cut.heal()
  await until(() => placed() === null)
  expect(ends()).toEqual(['killed'])
})

test('a VM under migration is asked once it has settled on a host', async () => {
  const { world, placed, until, ends } = await cluster('migrating')
  const to = HOSTS.find(name => name !== placed()?.host) ?? ''
  world.sim.barrier('migration.precopy', () => world.command({ kind: 'vm-stop', name: 'vm-1' }))
  world.command({ kind: 'vm-migrate', name: 'vm-1', to, id: 'm1' })
  await until(() => world.coordinator?.state.vms.get('vm-1')?.desired === 'stopped' && placed() === null)
  expect(ends().filter(how => how !== 'released')[0]).toBe('halted')
})

test('a halt of the cluster asks every guest; what is to run stays wanted', async () => {
  const { world, placed, until, ends } = await cluster('halt')
  world.command({ kind: 'cluster-halt' })
  await until(() => placed() === null)
  expect(ends()[0]).toBe('halted')
  expect(world.coordinator?.state.vms.get('vm-1')?.desired).toBe('running')
})
