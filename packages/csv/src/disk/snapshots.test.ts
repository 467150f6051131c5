// Snapshots and clones as hosts use them: what a snapshot holds, who may write where, and what is left when it is deleted.

import { BlockError } from '@stellwerk/block/device.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { checkVolume } from '../check.ts'
import { Sealer } from '../format/checksum.ts'
import { readIntent } from '../format/slot.ts'
import type { DiskHosts } from '../owner/host-effects.ts'
import type { OwnerCall } from '../owner/request.ts'
import { VolumeOwner } from '../owner/volume-owner.ts'
import { CrashDevice } from '../testing/crash-device.ts'
import { codeOf, EXTENT, IO, legOn, quietLog, Records, readAll, smallVolume } from '../testing/fixture.ts'
import { callTo, openDisk, openHost, type TestHost, turns } from '../testing/host-fixture.ts'
import { CsvDisk } from './csv-disk.ts'
import { parseHandover } from './extent-map.ts'

const bytes = (value: number, length = 4096): Uint8Array => new Uint8Array(length).fill(value)
const v = 'csv1'

async function rig(sizeBytes?: number) {
  const { platter } = await smallVolume(sizeBytes)
  const hosts: TestHost[] = []
  let reached = true
  const diskOf = (host: string, disk: string): CsvDisk => {
    const held = reached ? hosts.find(each => each.volume.options.host === host)?.volume.disks.get(disk) : undefined
    if (held === undefined) throw new Error('not reached')
    return held
  }
  const calls: DiskHosts = {
    barrier: async (holder, disk) => diskOf(holder.host, disk).barrier(),
    resized: async (holder, disk, size, version) => diskOf(holder.host, disk).resized(size, version),
  }
  const records = new Records()
  const leg = legOn(platter)
  const owner = await VolumeOwner.open({
    legs: [leg],
    volume: v,
    ownerEpoch: 1,
    env: { trace: records, log: quietLog },
    hosts: calls,
  })
  /** What hosts have asked, and kinds whose questions wait on their way. */
  const asked: { kind: string; body: unknown }[] = []
  const held = new Map<string, Promise<void>>()
  const toOwner = callTo(() => owner)
  const call: OwnerCall = async (kind, body) => {
    asked.push({ kind, body })
    await held.get(kind)
    return toOwner(kind, body)
  }
  const hold = (kind: string) => {
    const release = Promise.withResolvers<void>()
    held.set(kind, release.promise)
    return release
  }
  const device = new CrashDevice(platter)
  const host = await openHost(platter, call, { device })
  hosts.push(host)
  const snapshot = (disk: string, name: string) =>
    owner.handle('volume.snapshot-disk', { volume: v, disk, snapshot: name, name })
  const clone = (from: string, name: string) =>
    owner.handle('volume.clone-disk', { volume: v, snapshot: from, disk: name, name })
  const attach = (disk: string, vm = disk, epoch = 1) => CsvDisk.attach({ volume: host.volume, disk, vm, epoch })
  const usage = async () => (await owner.handle('volume.usage', { volume: v })).usedBytes / EXTENT
  const check = async () => (await checkVolume([legOn(platter)])).findings.filter(f => f.severity !== 'degraded')
  return {
    ...{
      asked,
      hold,
      platter,
      owner,
      ownerDevice: leg.device,
      call,
      device,
      host,
      records,
      snapshot,
      clone,
      attach,
      usage,
      check,
    },
    setReached: (is: boolean) => {
      reached = is
    },
  }
}

afterEach(() => canaries.clear())

describe('snapshots and clones', () => {
  it('a snapshot holds what was written before it, and a clone of it goes its own way', async () => {
    const { host, call, snapshot, clone, attach, usage, check } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await disk.write(5 * EXTENT, [bytes(2)], {}, IO)
    const info = await snapshot('disk-1', 's1')
    expect(info).toMatchObject({
      parent: 'disk-1',
      snapshot: true,
      allocatedBytes: 2 * EXTENT,
      sharedBytes: 2 * EXTENT,
    })
    expect(await usage()).toBe(2)
    await disk.write(0, [bytes(3)], {}, IO)
    expect(await usage()).toBe(3)
    await clone('s1', 'c1')
    const copy = await attach('c1')
    expect(await readAll(copy, 0, 4096)).toEqual(Buffer.from(bytes(1)))
    await copy.write(5 * EXTENT + 4096, [bytes(4)], {}, IO)
    expect(await readAll(copy, 5 * EXTENT, 8192)).toEqual(Buffer.concat([bytes(2), bytes(4)]))
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(3)))
    expect(await readAll(disk, 5 * EXTENT, 8192)).toEqual(Buffer.concat([bytes(2), bytes(0)]))
    const frozen = await attach('s1')
    expect(await readAll(frozen, 0, 4096)).toEqual(Buffer.from(bytes(1)))
    expect(await readAll(frozen, 5 * EXTENT, 8192)).toEqual(Buffer.concat([bytes(2), bytes(0)]))
    expect(await usage()).toBe(4)
    expect(await check()).toEqual([])
  })

  it('a snapshot cannot be written, allocated in, trimmed, resized or snapshotted', async () => {
    const { host, call, owner, snapshot, attach } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    const frozen = await attach('s1')
    expect(frozen.caps.readOnly).toBe(true)
    for (const change of [
      () => frozen.write(0, [bytes(9)], {}, IO),
      () => frozen.trim(0, EXTENT, {}, IO),
      () => frozen.zero(0, EXTENT, {}, IO),
    ]) {
      await expect(change()).rejects.toMatchObject({ errno: 'EPERM' })
    }
    const claim = { volume: v, disk: 's1', host: 'host-a', epoch: 1, committed: false }
    expect(await codeOf(owner.handle('volume.allocate', { ...claim, indexes: [7], ahead: [] }))).toBe('read-only-disk')
    expect(await codeOf(owner.handle('volume.unshare', { ...claim, indexes: [0], extents: [0], mapVersion: 9 }))).toBe(
      'read-only-disk',
    )
    expect(await codeOf(owner.handle('volume.free', { ...claim, runs: [0, 0, 1, 1] }))).toBe('read-only-disk')
    expect(await codeOf(owner.handle('volume.resize-disk', { volume: v, disk: 's1', sizeBytes: EXTENT }))).toBe(
      'read-only-disk',
    )
    expect(await codeOf(snapshot('s1', 's2'))).toBe('read-only-disk')
  })

  it('what is refused changes nothing', async () => {
    const { owner, snapshot, clone, host, call } = await rig()
    await openDisk(host, call)
    expect(await codeOf(snapshot('none', 's1'))).toBe('disk-missing')
    await snapshot('disk-1', 's1')
    expect(await codeOf(snapshot('disk-1', 'disk-1'))).toBe('disk-exists')
    expect(await codeOf(clone('none', 'c1'))).toBe('disk-missing')
    expect(await codeOf(clone('disk-1', 'c1'))).toBe('not-a-snapshot')
    expect(await codeOf(clone('s1', 's1'))).toBe('disk-exists')
    expect(await codeOf(owner.handle('volume.delete-disk', { volume: v, disk: 'disk-1' }))).toBe('disk-attached')
    const { disks } = await owner.handle('volume.list-disks', { volume: v })
    expect(disks.map(({ disk }) => disk)).toEqual(['disk-1', 's1'])
    // Asked again, because the answer was lost.
    expect(await snapshot('disk-1', 's1')).toMatchObject({ disk: 's1' })
  })

  it('a chain of clones is bounded, and deleting one in the middle makes it shorter', async () => {
    const { owner, snapshot, clone } = await rig()
    await owner.handle('volume.create-disk', { volume: v, disk: 'd0', name: 'd0', sizeBytes: EXTENT })
    let at = 0
    for (; ; at += 1) {
      await snapshot(`d${at}`, `s${at}`)
      const cloned = await codeOf(clone(`s${at}`, `d${at + 1}`))
      if (cloned === 'resolved') continue
      expect(cloned).toBe('chain-too-long')
      break
    }
    expect(at).toBe(15)
    await owner.handle('volume.delete-disk', { volume: v, disk: 'd3' })
    const { disks } = await owner.handle('volume.list-disks', { volume: v })
    expect(disks.find(({ disk }) => disk === 's3')?.parent).toBe('s2')
    expect(await codeOf(clone('s15', 'other'))).toBe('resolved')
  })

  it('deleting a snapshot gives back only what nobody else has', async () => {
    const { host, call, owner, snapshot, clone, usage, attach, check } = await rig()
    const disk = await openDisk(host, call)
    for (const index of [4, 2, 0]) await disk.write(index * EXTENT, [bytes(index + 1)], {}, IO)
    await snapshot('disk-1', 's1')
    await clone('s1', 'c1')
    await disk.write(0, [bytes(7)], {}, IO)
    expect(await usage()).toBe(4)
    await owner.handle('volume.delete-disk', { volume: v, disk: 's1' })
    expect(await usage()).toBe(4)
    const copy = await attach('c1')
    expect(await readAll(copy, 0, 4096)).toEqual(Buffer.from(bytes(1)))
    await copy.drain()
    await copy.close()
    await owner.handle('volume.detach', { volume: v, disk: 'c1', host: 'host-a', epoch: 1 })
    await owner.handle('volume.delete-disk', { volume: v, disk: 'c1' })
    expect(await usage()).toBe(3)
    // What was shared is the disk's own again: nothing is copied any more.
    await disk.write(4 * EXTENT, [bytes(8)], {}, IO)
    expect(await usage()).toBe(3)
    expect(await check()).toEqual([])
  })

  it('the barrier waits for the writes in flight, which are in the snapshot; later ones are not', async () => {
    const { host, call, device, snapshot, attach } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    const held = Promise.withResolvers<void>()
    device.hold = held.promise
    const early = disk.write(0, [bytes(2)], {}, IO)
    await turns()
    let made = false
    const making = snapshot('disk-1', 's1').then(() => {
      made = true
    })
    await turns(4)
    const late = disk.write(4096, [bytes(3)], {}, IO)
    await turns(4)
    expect(made).toBe(false)
    device.hold = null
    held.resolve()
    await Promise.all([early, making, late])
    const frozen = await attach('s1')
    expect(await readAll(frozen, 0, 8192)).toEqual(Buffer.concat([bytes(2), bytes(0)]))
    expect(await readAll(disk, 0, 8192)).toEqual(Buffer.concat([bytes(2), bytes(3)]))
  })

  it('a host that is not reached fails the snapshot, and its disk goes on', async () => {
    const { host, call, snapshot, setReached, usage, owner } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    setReached(false)
    expect(await codeOf(snapshot('disk-1', 's1'))).toBe('barrier-failed')
    const { disks } = await owner.handle('volume.list-disks', { volume: v })
    expect(disks.length).toBe(1)
    await disk.write(0, [bytes(2)], {}, IO)
    expect(await usage()).toBe(1)
    setReached(true)
    expect(await codeOf(snapshot('disk-1', 's1'))).toBe('resolved')
  })

  it('nothing of what a snapshot shares stays marked: whoever recovers the slot looks at what its host holds', async () => {
    const { platter, host, call, snapshot } = await rig()
    const inSlot = async () => {
      const { volumeId, slotOffset } = host.volume.view
      return (await readIntent(new CrashDevice(platter), slotOffset, new Sealer(volumeId), IO)).regions
    }
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    expect(await inSlot()).not.toEqual([])
    await snapshot('disk-1', 's1')
    expect(await inSlot()).toEqual([])
    canaries.add('marked-past-barrier')
    await disk.write(0, [bytes(2)], {}, IO)
    await snapshot('disk-1', 's2')
    expect(await inSlot()).not.toEqual([])
  })

  it('a write of unknown outcome fails the snapshot', async () => {
    const { host, call, device, snapshot } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    device.refuse = op => (op === 'write' ? new BlockError('EIO', 'unknown', 'cut off') : null)
    await expect(disk.write(0, [bytes(2)], {}, IO)).rejects.toThrow()
    device.refuse = null
    expect(await codeOf(snapshot('disk-1', 's1'))).toBe('barrier-failed')
    disk.settleUnknown()
    expect(await codeOf(snapshot('disk-1', 's1'))).toBe('resolved')
  })

  it('a snapshot waits out nothing while a migration switches: it is refused', async () => {
    const { host, call, owner, snapshot } = await rig()
    await openDisk(host, call)
    await owner.handle('volume.open-host', { volume: v, host: 'host-b', hostEpoch: 1, slot: null })
    const target = { volume: v, disk: 'disk-1', vm: 'web-1', host: 'host-b', hostEpoch: 1, epoch: 2 }
    await owner.handle('volume.reserve', target)
    expect(await codeOf(snapshot('disk-1', 's1'))).toBe('disk-switching')
  })

  it('a shared extent that cannot be read is an error to its writer, and only that', async () => {
    const { host, call, ownerDevice, snapshot } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await disk.write(EXTENT, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    const bad = host.volume.view.dataOffset
    ownerDevice.refuse = (op, offset) =>
      op === 'read' && offset >= bad && offset < bad + EXTENT ? new BlockError('EIO', 'none', 'latent') : null
    const results = await Promise.allSettled([0, 1].map(i => disk.write(i * EXTENT, [bytes(5)], {}, IO)))
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(disk.state).toBe('up')
    ownerDevice.refuse = null
    for (const index of [0, 1]) await disk.write(index * EXTENT, [bytes(6)], {}, IO)
  })

  it('a full volume keeps the writer of a shared extent waiting until room is made', async () => {
    const { host, call, owner, snapshot, attach } = await rig(2 * 1024 * 1024)
    const { freeBytes } = await owner.handle('volume.usage', { volume: v })
    const extents = freeBytes / EXTENT
    const disk = await openDisk(host, call, 'disk-1', extents)
    for (let index = 0; index < extents; index += 1) await disk.write(index * EXTENT, [bytes(index)], {}, IO)
    await snapshot('disk-1', 's1')
    const states: string[] = []
    disk.onState((state, reason) => states.push(`${state}: ${reason}`))
    let written = false
    const writing = disk.write(0, [bytes(9)], {}, IO).then(() => {
      written = true
    })
    await host.timers.advance(5_000)
    expect(written).toBe(false)
    expect(states[0]).toContain('volume-full')
    await owner.handle('volume.delete-disk', { volume: v, disk: 's1' })
    await host.timers.advance(5_000)
    await writing
    expect(disk.state).toBe('up')
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(9)))
    await expect(attach('s1')).rejects.toThrow()
  })

  it('a storage without room keeps the writer of a shared extent waiting, and is not asked as fast as it refuses', async () => {
    const { host, call, ownerDevice, snapshot } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    let refused = 0
    ownerDevice.refuse = (op, offset) => {
      if (op === 'read' || offset < host.volume.view.dataOffset) return null
      refused += 1
      return new BlockError('ENOSPC', 'none', 'full')
    }
    const writing = disk.write(0, [bytes(2)], {}, IO)
    await host.timers.advance(1_000)
    expect(refused).toBeGreaterThan(0)
    // 50 ms, 100, 200, and so on: what is asked again backs off.
    expect(refused).toBeLessThan(10)
    ownerDevice.refuse = null
    await host.timers.advance(5_000)
    await writing
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(2)))
  })

  it('trimming what is shared gives the disk’s share back and leaves the snapshot’s', async () => {
    const { host, call, snapshot, attach, usage, check } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    await disk.trim(0, EXTENT, {}, IO)
    await turns(10)
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(0)))
    await disk.write(0, [bytes(2)], {}, IO)
    expect(await usage()).toBe(2)
    expect(await readAll(await attach('s1'), 0, 4096)).toEqual(Buffer.from(bytes(1)))
    expect(await check()).toEqual([])
  })

  it('IO1: what a guest zeroes behind a trim of what is shared stays zero, also when nothing can be given back', async () => {
    const { host, call, owner, snapshot } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    await owner.handle('volume.open-host', { volume: v, host: 'host-b', hostEpoch: 1, slot: null })
    const target = { volume: v, disk: 'disk-1', vm: 'web-1', host: 'host-b', hostEpoch: 1, epoch: 2 }
    await owner.handle('volume.reserve', target)
    await disk.trim(0, EXTENT, {}, IO)
    await disk.zero(0, 4096, {}, IO)
    await turns(10)
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(0)))
  })

  it('and is acknowledged only when a successor would read zeroes, too', async () => {
    const { host, call, owner, snapshot, hold } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    const freeing = hold('volume.free')
    await disk.trim(0, EXTENT, {}, IO)
    let zeroed = false
    const zeroing = disk.zero(0, EXTENT, {}, IO).then(() => {
      zeroed = true
    })
    await turns(10)
    expect(zeroed).toBe(false)
    freeing.resolve()
    await zeroing
    const { disks } = await owner.handle('volume.list-disks', { volume: v })
    expect(disks.find(({ name }) => name === 'disk-1')).toMatchObject({ allocatedBytes: 0 })
  })

  it('nor is it when the disk ends before its owner has taken the extent back', async () => {
    const { host, call, snapshot, hold } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    hold('volume.free').reject(new StellwerkError('owner-away', 'nobody owns it now'))
    await disk.trim(0, EXTENT, {}, IO)
    const zeroing = disk.zero(0, EXTENT, {}, IO)
    const outcome = expect(zeroing).rejects.toMatchObject({ errno: 'ESHUTDOWN', outcome: 'none' })
    await turns(10)
    disk.abandon()
    await outcome
  })

  it('CSV2: a question that comes late, after it was answered, moves nothing of what its host has', async () => {
    const { host, call, owner, snapshot, asked, check } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    await disk.write(0, [bytes(2)], {}, IO)
    const late = asked.filter(({ kind }) => kind === 'volume.unshare')
    expect(late.length).toBeGreaterThan(0)
    // Shared once more, as it was when that was asked: but it is another snapshot.
    await snapshot('disk-1', 's2')
    const mapped = async () => (await owner.handle('volume.map', { ...claim, from: 0 })).runs
    const claim = { volume: v, disk: 'disk-1', host: 'host-a', epoch: 1, committed: false }
    const before = await mapped()
    for (const { body } of late) await owner.handle('volume.unshare', body as never)
    expect(await mapped()).toEqual(before)
    // Nor does one about the very extent that is there now, if it was asked before the snapshot.
    const [index = 0, extent = 0, , version = 0] = before
    const old = { ...claim, indexes: [index], extents: [extent], mapVersion: version }
    expect(await owner.handle('volume.unshare', old)).toMatchObject({ runs: [0, extent, 1, version], shared: [0, 1] })
    expect(await mapped()).toEqual(before)
    await owner.handle('volume.delete-disk', { volume: v, disk: 's2' })
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(2)))
    await disk.write(0, [bytes(3)], {}, IO)
    expect(await check()).toEqual([])
  })

  it('a snapshot makes no host’s map too old to be handed over', async () => {
    const { host, call, owner, snapshot } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await snapshot('disk-1', 's1')
    const { disks } = await owner.handle('volume.list-disks', { volume: v })
    const { mapVersion, mappedVersion } = disks.find(({ name }) => name === 'disk-1')!
    await disk.drain()
    const given = parseHandover(disk.handover(), host.volume.view.volumeId)
    expect(given.mapVersion).toBeLessThan(mapVersion)
    expect(given.mapVersion).toBeGreaterThanOrEqual(mappedVersion)
  })

  it('a disk that was given up is not attached by what comes late', async () => {
    const { host, call, owner } = await rig()
    const disk = await openDisk(host, call)
    const late = { volume: v, disk: 'disk-1', vm: 'web-1', host: 'host-a', hostEpoch: 1, epoch: 1, committed: false }
    await disk.drain()
    await disk.close()
    await owner.handle('volume.detach', { volume: v, disk: 'disk-1', host: 'host-a', epoch: 1 })
    expect(await codeOf(owner.handle('volume.attach', late))).toBe('stale-epoch')
    expect(await codeOf(owner.handle('volume.attach', { ...late, epoch: 2 }))).toBe('resolved')
  })

  it('a disk in use grows under its guest; it shrinks only detached, and never below what is in use', async () => {
    const { host, call, owner } = await rig()
    const disk = await openDisk(host, call, 'disk-1', 4)
    await disk.write(2 * EXTENT, [bytes(1)], {}, IO)
    const resize = (extents: number) =>
      owner.handle('volume.resize-disk', { volume: v, disk: 'disk-1', sizeBytes: extents * EXTENT })
    await resize(8)
    await turns()
    expect(disk.size).toBe(8 * EXTENT)
    await disk.write(7 * EXTENT, [bytes(2)], {}, IO)
    expect(await codeOf(resize(4))).toBe('disk-attached')
    await disk.trim(7 * EXTENT, EXTENT, {}, IO)
    await disk.drain()
    await disk.close()
    await owner.handle('volume.detach', { volume: v, disk: 'disk-1', host: 'host-a', epoch: 1 })
    expect(await codeOf(resize(2))).toBe('disk-too-small')
    expect(await codeOf(resize(3))).toBe('resolved')
  })

  it('a snapshot of 2,560 extents is one small journal record', async () => {
    const { owner, snapshot, clone, ownerDevice } = await rig(300 * 1024 * 1024)
    await owner.handle('volume.open-host', { volume: v, host: 'host-a', hostEpoch: 1, slot: null })
    const sizeBytes = 2_560 * EXTENT
    await owner.handle('volume.create-disk', { volume: v, disk: 'd', name: 'd', sizeBytes })
    const held = { volume: v, disk: 'd', host: 'host-a', epoch: 1, committed: false }
    await owner.handle('volume.attach', { ...held, vm: 'web', hostEpoch: 1 })
    for (let first = 0; first < 2_560; first += 64) {
      const indexes = Array.from({ length: 64 }, (_, i) => first + i)
      await owner.handle('volume.allocate', { ...held, indexes, ahead: [] })
    }
    await owner.handle('volume.detach', { volume: v, disk: 'd', host: 'host-a', epoch: 1 })
    const before = ownerDevice.writes
    expect((await snapshot('d', 's')).sharedBytes).toBe(sizeBytes)
    expect((await clone('s', 'c')).sharedBytes).toBe(sizeBytes)
    expect(ownerDevice.writes - before).toBe(2)
  })
})
