// What a host lets go of leaves nothing behind: an ownership that ends while a leg does not answer, and never will; a volume
// that cannot be opened.

import { planLayout, SLOT_INTENT_OFFSET, slotAddress } from '@stellwerk/csv/format/layout.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { VOLUME_BYTES, World } from '../../packages/cli/src/simulation/world.ts'
import { guestAt, startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000

function cluster(seed: string): World {
  const storages = ['san-a', 'san-b']
  return new World({ seed, hosts: HOSTS, storages, settings: {}, hostMemoryBytes: 4 * GIB })
}

test('a host that was fenced is admitted again, though an ownership that it was ending waits for a lost storage', async () => {
  const world = cluster('ending-owner')
  const state = () => world.coordinator?.state
  const volume = () => state()?.volumes.get('csv1')
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world, ['san-a', 'san-b'])
  await until(() => volume()?.phase === 'ready')
  const former = volume()!.owner!.host
  const next = HOSTS.find(name => name !== former)!

  // The owner is in the middle of a write of its journal when san-b goes for good, and is to hand the volume over.
  world.sim.host('san-b').crash()
  world.command(guestAt(next))
  await world.sim.runFor(200)
  world.command({ kind: 'volume-own', name: 'csv1', host: next })
  await until(() => state()?.vms.get('vm-1')?.placement?.phase === 'running')
  const { epoch } = state()!.hosts.get(former)!
  world.command({ kind: 'host-remove', name: former })
  world.command({ kind: 'host-readmit', name: former })
  await until(() => state()?.hosts.get(former)?.phase === 'admitted' && state()!.hosts.get(former)!.epoch > epoch)
})

test('a volume that cannot be opened leaves no paths behind on the host', async () => {
  const world = cluster('no-opening')
  const state = () => world.coordinator?.state
  const placed = () => state()?.vms.get('vm-1')?.placement ?? null
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world, ['san-a', 'san-b'])
  await until(() => state()?.volumes.get('csv1')?.phase === 'ready')
  const elsewhere = HOSTS.find(name => name !== state()?.volumes.get('csv1')?.owner?.host)!
  world.command(guestAt(elsewhere))
  await until(() => placed()?.phase === 'running' && placed()?.host === elsewhere)
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  await until(() => placed() === null)
  world.sim.host(elsewhere).process(`${elsewhere}/agent`)?.kill()
  await until(() => state()?.liveHosts.get(elsewhere)?.session?.incarnation === 2)
  await world.sim.runFor(3_000)

  // What it marked in its slot, the first one, does not check out any more.
  const layout = planLayout({ volumeId: 'v1', clusterId: 'sim', volumeBytes: VOLUME_BYTES })
  for (const storage of ['san-a', 'san-b']) {
    const file = world.sim.host(storage).disk.file(storage, 'luns/v1.data')!
    file.write(slotAddress(layout, 0) + SLOT_INTENT_OFFSET, [new Uint8Array(4096).fill(7)])
  }
  world.command({ kind: 'vm-start', name: 'vm-1', host: elsewhere })
  await until(() => (state()?.vms.get('vm-1')?.failures ?? 0) > 0)
  await world.sim.runFor(100)
  expect(state()?.liveVms.get('vm-1')?.endedAt?.why).toContain('does not check out')
  expect(world.agent(elsewhere)?.access).toEqual([])
})
