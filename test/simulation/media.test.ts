// What a medium does to guests that look at it: sectors that cannot be read, a storage without room, and what the judges
// know of rot.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import { vmView } from '@stellwerk/coordinator/view/vms.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { latentSectorError, silentCorruption } from '../../packages/cli/src/simulation/media-faults.ts'
import { TIMEOUT } from './support.ts'
import { Cluster, LAYOUT } from './volume-cluster.ts'

const ONE = ['san-a']
/** In a guest's log: read when it boots, and never written again. */
const BAD = LOG_START + 8 * KIB

function watched(cluster: Cluster) {
  const failed: { disk: string | undefined; offset: number; length: number }[] = []
  let read = 0
  cluster.world.sim.onRecord((record: TraceRecord) => {
    const { op, offset, length } = (record.body ?? {}) as { op?: string; offset: number; length: number }
    if (op !== 'read') return
    if (record.kind === 'disk.fail') failed.push({ disk: record.disk, offset, length })
    else if (record.kind === 'disk.ok' && offset <= BAD && BAD < offset + length) read += 1
  })
  return { failed, read: () => read }
}

/** The guest looks through its log. */
async function reboot(cluster: Cluster): Promise<void> {
  const { world } = cluster
  const phase = () => cluster.state.vms.get('vm-1')?.placement?.phase
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  await cluster.until(() => phase() === undefined)
  world.command({ kind: 'vm-start', name: 'vm-1', host: null })
  await cluster.until(() => phase() === 'running')
}

test('a sector that cannot be read is an error to who reads it, and to nobody else', TIMEOUT, async () => {
  const cluster = await new Cluster('one-bad-sector', ONE).start()
  const { world } = cluster
  const address = extentAddress(LAYOUT, cluster.extents.get('vm-1-0/0')!) + BAD
  const fault = latentSectorError(world, cluster.place('san-a', address))
  const { failed, read } = watched(cluster)
  await reboot(cluster)
  const before = cluster.placements()
  await cluster.until(() => failed.length >= 3)
  for (const { disk, offset, length } of failed) {
    expect([disk, offset <= BAD && BAD < offset + length]).toEqual(['vm-1-0', true])
  }
  expect(cluster.placements()).toBe(before)
  expect(cluster.view).toMatchObject({ warning: null, owner: expect.anything() })
  // The storage is started anew after a crash: the LUN is looked through, and opens all the same.
  world.sim.host('san-a').crash({ unsynced: 'torn' })
  await world.sim.runFor(1_000)
  world.startStorage('san-a')
  fault.heal()
  await cluster.until(() => read() > 0)
})

test('a sector that one leg cannot read is no error to anybody, and is written anew', TIMEOUT, async () => {
  const cluster = await new Cluster('one-bad-sector').start()
  const { world } = cluster
  const address = extentAddress(LAYOUT, cluster.extents.get('vm-1-0/0')!) + BAD
  const fault = latentSectorError(world, cluster.place('san-a', address))
  const { failed } = watched(cluster)
  await reboot(cluster)
  await world.sim.runFor(3_000)
  expect([failed, fault.hits]).toEqual([[], 1])
  const copies = cluster.records.flatMap(({ kind, body }) => (kind === 'mirror.copy' ? [body] : []))
  const [{ offset, length }] = copies as [{ offset: number; length: number }]
  expect([copies.length, offset <= address && address < offset + length]).toEqual([1, true])
})

test('a guest whose storage has no room stands still, says why, and goes on when there is room', TIMEOUT, async () => {
  const cluster = await new Cluster('storage-full', ONE).start()
  const { world } = cluster
  const { disk } = world.sim.host('san-a')
  const view = () => vmView(cluster.state, cluster.state.vms.get('vm-1')!, world.sim.now)
  disk.setQuota(disk.allocatedBytes)
  await cluster.until(() => view().state === 'paused-critical')
  expect(view().why).toBe('storage full (csv1)')
  const { failed } = watched(cluster)
  await world.sim.runFor(10_000)
  disk.setQuota(Number.POSITIVE_INFINITY)
  await cluster.until(() => view().state === 'running')
  expect(failed).toEqual([])
})

test('rot explains the sectors that rotted, until a scrub that was told the good leg is done', TIMEOUT, async () => {
  const cluster = await new Cluster('rot').start()
  const { world } = cluster
  const compared: unknown[] = []
  world.sim.onRecord(({ kind, body }) => kind === 'mirror.compared' && compared.push(body))
  const rotted: string[] = []
  void world.rot.begin('san-b', new SimRandom('rot'), volume => rotted.push(volume))
  await cluster.until(() => rotted.length > 0)
  const [spot] = world.rot.live(cluster.state.volumes.get('csv1')!)
  expect(spot?.leg).toBe('leg-1')
  // The other leg, and the same one elsewhere: an operator could not name a good leg for both.
  void world.rot.begin('san-a', new SimRandom('rot'), volume => rotted.push(volume))
  await world.sim.runFor(5_000)
  expect([rotted, world.scrubs.idle]).toEqual([['csv1'], true])
  world.scrubs.call('csv1', true)
  expect(world.scrubs.idle).toBe(false)
  await cluster.until(() => world.scrubs.done > 0, 120_000)
  expect(world.scrubs.idle).toBe(true)
  expect([world.scrubs.done, cluster.byte('san-b', spot!.address)]).toEqual([1, spot!.former[0]])
  expect(world.rot.live(cluster.state.volumes.get('csv1')!)).toEqual([])
  // A beat later the coordinator has heard it.
  await world.sim.runFor(2_000)
  expect(cluster.state.volumes.get('csv1')?.lastScrub).toMatchObject({ state: 'done' })
  // What rots and is known to nobody is a difference like any other.
  silentCorruption(world, cluster.place('san-b', spot!.address))
  expect(world.rot.explains('csv1', [], spot!.address, 512)).toBe(false)
})
