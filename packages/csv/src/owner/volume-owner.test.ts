import { BlockError } from '@stellwerk/block/device.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { describe, expect, it } from 'vitest'
import { checkVolume } from '../check.ts'
import { extentAddress, SUPERBLOCK_OFFSETS } from '../format/layout.ts'
import {
  attachedDisk,
  codeOf,
  EXTENT,
  hold,
  host,
  IO,
  legOn,
  openOwner,
  quietLog,
  readAll,
  smallVolume,
} from '../testing/fixture.ts'
import { turns } from '../testing/host-fixture.ts'
import { VolumeOwner } from './volume-owner.ts'

describe('a volume owner', () => {
  it('finds what its predecessor had answered', async () => {
    const { platter } = await smallVolume()
    const first = await openOwner(platter, 1)
    await attachedDisk(first.owner)
    const granted = await first.owner.handle('volume.allocate', { ...hold, indexes: [3, 5], ahead: [] })
    await first.owner.close()

    const second = await openOwner(platter, 2)
    const { disks } = await second.owner.handle('volume.list-disks', { volume: 'csv1' })
    expect(disks).toMatchObject([{ disk: 'disk-1', allocatedBytes: 2 * EXTENT, holder: { host: 'host-a', epoch: 1 } }])
    const again = await second.owner.handle('volume.allocate', { ...hold, indexes: [3, 5], ahead: [] })
    expect(again.runs).toEqual(granted.runs)
  })

  it('refuses to open after a later one', async () => {
    const { platter } = await smallVolume()
    await openOwner(platter, 5)
    expect(await codeOf(openOwner(platter, 4))).toBe('stale-owner')
  })

  it('CSV3: grants only extents that read as zeroes', async () => {
    const { platter, layout } = await smallVolume()
    const { owner, device, records } = await openOwner(platter, 1)
    const dirty = new Uint8Array(EXTENT).fill(7)
    for (let e = 0; e < layout.extentCount; e += 1) {
      await device.write(extentAddress(layout, e), [dirty], { fua: true }, { origin: 'test', deadlineAt: null })
    }
    await attachedDisk(owner)
    const { runs } = await owner.handle('volume.allocate', { ...hold, indexes: [0], ahead: [1, 2] })
    const granted = records.events.filter(event => event.kind === 'extent.granted')
    expect(granted.length).toBeGreaterThan(0)
    expect(granted.every(event => (event.body as { zero: boolean }).zero)).toBe(true)
    expect((await readAll(device, extentAddress(layout, runs[1]!), EXTENT)).every(byte => byte === 0)).toBe(true)
  })

  it('touches no extent that a record frees before that record is durable', async () => {
    const { platter, layout } = await smallVolume()
    const all = Array.from({ length: layout.extentCount }, (_, index) => index)
    const first = await openOwner(platter, 1)
    await attachedDisk(first.owner, 'victim', all.length * EXTENT)
    for (let i = 0; i < all.length; i += 8) {
      await first.owner.handle('volume.allocate', {
        ...hold,
        disk: 'victim',
        indexes: all.slice(i, i + 8),
        ahead: [],
      })
    }
    for (const extent of all) {
      const address = extentAddress(layout, extent)
      await first.device.write(address, [new Uint8Array(EXTENT).fill(7)], { fua: true }, IO)
    }
    await first.owner.handle('volume.detach', { volume: 'csv1', disk: 'victim', host: 'host-a', epoch: 1 })
    await attachedDisk(first.owner, 'disk-1', 4 * EXTENT)
    await first.owner.close()

    // The second owner dies in a journal write: of a deletion that frees, and of an allocation that needs what it frees.
    const { owner, device } = await openOwner(platter, 2)
    device.hold = new Promise(() => undefined)
    device.holdAt = offset => offset >= layout.journalOffset && offset < layout.journalOffset + layout.journalBytes
    const answers = [
      codeOf(owner.handle('volume.delete-disk', { volume: 'csv1', disk: 'victim' })),
      codeOf(owner.handle('volume.allocate', { ...hold, indexes: [0], ahead: [] })),
    ]
    await turns(20)
    expect(await Promise.race([...answers, Promise.resolve('unanswered')])).toBe('unanswered')

    const third = await openOwner(platter, 3)
    const { disks } = await third.owner.handle('volume.list-disks', { volume: 'csv1' })
    expect(disks.find(disk => disk.name === 'victim')).toMatchObject({ allocatedBytes: all.length * EXTENT })
    for (const extent of all) {
      const bytes = await readAll(third.device, extentAddress(layout, extent), EXTENT)
      expect(bytes.every(byte => byte === 7)).toBe(true)
    }
  })

  it('CSV3: the record tells when the canary extent-not-zeroed is planted', async () => {
    canaries.add('extent-not-zeroed')
    try {
      const { platter, layout } = await smallVolume()
      const { owner, device, records } = await openOwner(platter, 1)
      const dirty = new Uint8Array(EXTENT).fill(7)
      for (let e = 0; e < layout.extentCount; e += 1) {
        await device.write(extentAddress(layout, e), [dirty], { fua: true }, { origin: 'test', deadlineAt: null })
      }
      await attachedDisk(owner)
      await owner.handle('volume.allocate', { ...hold, indexes: [0], ahead: [] })
      const granted = records.events.find(event => event.kind === 'extent.granted')
      expect(granted?.body).toMatchObject({ zero: false })
    } finally {
      canaries.delete('extent-not-zeroed')
    }
  })

  it('goes on with a reservation as soon as the one before has its outcome, whichever that is', async () => {
    for (const outcome of ['committed', 'aborted'] as const) {
      const { platter } = await smallVolume()
      const { owner } = await openOwner(platter, 1)
      await attachedDisk(owner)
      for (const name of ['host-b', 'host-c'])
        await owner.handle('volume.open-host', { ...host, host: name, slot: null })
      const reserve = (to: string, epoch: number) =>
        owner.handle('volume.reserve', {
          ...{ volume: 'csv1', disk: 'disk-1', vm: 'web-1', host: to, hostEpoch: 1, epoch },
        })
      await reserve('host-b', 2)
      let isReserved = false
      const next = reserve('host-c', 3).then(() => {
        isReserved = true
      })
      await turns()
      expect(isReserved).toBe(false)
      if (outcome === 'committed') {
        await owner.handle('volume.attach', {
          ...{ volume: 'csv1', disk: 'disk-1', vm: 'web-1', host: 'host-b', hostEpoch: 1, epoch: 2, committed: true },
        })
      } else await owner.handle('volume.abort', { volume: 'csv1', disk: 'disk-1', epoch: 2 })
      await next
      await owner.close()
    }
  })

  it('writes requests that come together as one record', async () => {
    const { platter } = await smallVolume()
    const { owner, device } = await openOwner(platter, 1)
    const before = device.writes
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        owner.handle('volume.create-disk', { volume: 'csv1', disk: `d${i}`, name: `n${i}`, sizeBytes: EXTENT }),
      ),
    )
    expect(device.writes - before).toBe(1)
  })

  it('goes on for many times the length of its journal', async () => {
    const { platter } = await smallVolume()
    let { owner } = await openOwner(platter, 1)
    await attachedDisk(owner)
    for (let round = 0; round < 300; round += 1) {
      const { runs, mapVersion } = await owner.handle('volume.allocate', { ...hold, indexes: [round % 7], ahead: [] })
      expect(mapVersion).toBe(round * 2 + 1)
      await owner.handle('volume.free', { ...hold, runs })
      if (round % 97 === 0) {
        await owner.close()
        owner = (await openOwner(platter, round + 2)).owner
      }
    }
    const { disks } = await owner.handle('volume.list-disks', { volume: 'csv1' })
    expect(disks).toMatchObject([{ mapVersion: 600, allocatedBytes: 0 }])
  })

  it('a full volume refuses what may be asked again, and goes on when there is room', async () => {
    const { platter, layout } = await smallVolume()
    const { owner } = await openOwner(platter, 1)
    await attachedDisk(owner, 'disk-1', 200 * EXTENT)
    const all: number[] = []
    for (let index = 0; index < layout.extentCount; index += 1) {
      all.push(...(await owner.handle('volume.allocate', { ...hold, indexes: [index], ahead: [] })).runs)
    }
    const more = { ...hold, indexes: [layout.extentCount], ahead: [] }
    expect(await codeOf(owner.handle('volume.allocate', more))).toBe('volume-full')
    await owner.handle('volume.free', { ...hold, runs: all.slice(0, 4) })
    expect(await codeOf(owner.handle('volume.allocate', more))).toBe('resolved')
  })

  it('a full backing store is refused as a full volume and goes on when there is room', async () => {
    const { platter } = await smallVolume()
    const { owner, device } = await openOwner(platter, 1)
    await attachedDisk(owner)
    device.refuse = op => (op === 'zero' ? new BlockError('ENOSPC', 'none', 'full') : null)
    const one = { ...hold, indexes: [0], ahead: [] }
    expect(await codeOf(owner.handle('volume.allocate', one))).toBe('volume-full')
    device.refuse = null
    expect(await codeOf(owner.handle('volume.allocate', one))).toBe('resolved')
  })

  it('leaves an extent alone that cannot be zeroed', async () => {
    const { platter, layout } = await smallVolume()
    const { owner, device } = await openOwner(platter, 1)
    await attachedDisk(owner)
    const bad = extentAddress(layout, 0)
    device.refuse = (op, offset) => (op === 'zero' && offset === bad ? new BlockError('EIO', 'none', 'bad spot') : null)
    const { runs } = await owner.handle('volume.allocate', { ...hold, indexes: [0], ahead: [] })
    expect(runs[1]).not.toBe(0)
  })

  it('ends when its journal cannot be written, and answers nothing that is not durable', async () => {
    const { platter } = await smallVolume()
    let ended = ''
    const { owner, device } = await openOwner(platter, 1, { onEnd: error => (ended = error.code) })
    device.refuse = op => (op === 'write' ? new BlockError('EPERM', 'none', 'a later owner is here') : null)
    const create = { volume: 'csv1', disk: 'a', name: 'a', sizeBytes: EXTENT }
    expect(await codeOf(owner.handle('volume.create-disk', create))).toBe('owner-failed')
    expect(await codeOf(owner.handle('volume.list-disks', { volume: 'csv1' }))).toBe('owner-failed')
    expect(ended).toBe('owner-failed')
    const next = await openOwner(platter, 2)
    expect(await next.owner.handle('volume.list-disks', { volume: 'csv1' })).toEqual({ disks: [] })
  })

  it('tells the storage whose a slot is before it gives it out', async () => {
    const { platter } = await smallVolume()
    const told: string[] = []
    const { owner } = await openOwner(platter, 1, {
      onRanges: async ranges => {
        await null
        told.push(ranges.slots.map(slot => slot.host).join())
      },
    })
    await owner.handle('volume.open-host', { ...host, slot: 2 }).then(view => told.push(`answered ${view.slot}`))
    expect(told).toEqual(['', 'host-a', 'answered 2'])
  })

  it('makes a leg equal that its predecessor left behind', async () => {
    const { platter } = await smallVolume()
    const first = await openOwner(platter, 1)
    const behind = platter.copy()
    await attachedDisk(first.owner)
    await first.owner.handle('volume.allocate', { ...hold, indexes: [1], ahead: [] })
    await first.owner.close()
    const legs = [{ ...legOn(behind), id: 'san-b' }, legOn(platter)]
    const env = { trace: first.records, log: quietLog }
    const owner = await VolumeOwner.open({ legs, volume: 'csv1', ownerEpoch: 2, env })
    await owner.handle('volume.allocate', { ...hold, indexes: [2], ahead: [] })
    await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version: 1, value: {} })
    await owner.close()
    expect((await checkVolume(legs)).findings).toEqual([])
    for (const each of [platter, behind]) {
      const { owner: alone } = await openOwner(each.copy(), 3)
      expect(await alone.handle('volume.usage', { volume: 'csv1' })).toMatchObject({ usedBytes: 2 * EXTENT })
    }
  })

  it('keeps the newest copy of the cluster and refuses one that is too large', async () => {
    const { platter } = await smallVolume()
    const { owner } = await openOwner(platter, 1)
    const put = (version: number, value: unknown) =>
      owner.handle('volume.put-cluster-copy', { volume: 'csv1', version, value })
    await Promise.all([put(3, { vms: ['c'] }), put(1, { vms: ['a'] }), put(2, { vms: ['b'] })])
    expect(await put(2, { vms: ['late'] })).toEqual({ version: 3 })
    expect(await codeOf(put(4, 'x'.repeat(20_000)))).toBe('cluster-copy-too-large')
    await owner.close()
    const next = await openOwner(platter, 2)
    expect(await next.owner.handle('volume.get-cluster-copy', { volume: 'csv1' })).toEqual({
      version: 3,
      value: { vms: ['c'] },
    })
  })
})

describe('a check of an open volume', () => {
  it('finds a busy volume sound, between two journal writes, and everything goes on', async () => {
    const { platter } = await smallVolume()
    const { owner, device } = await openOwner(platter, 1)
    await attachedDisk(owner)
    const busy: Promise<unknown>[] = []
    for (let index = 0; index < 16; index += 1) {
      busy.push(owner.handle('volume.allocate', { ...hold, indexes: [index], ahead: [index + 1] }))
    }
    const reports = [owner.check(), owner.check()]
    busy.push(owner.handle('volume.put-cluster-copy', { volume: 'csv1', version: 7, value: { a: 1 } }))
    const [report, other] = await Promise.all(reports)
    expect(report).toMatchObject({ clean: true, findings: [], summary: { disks: 1, ownerEpoch: 1 } })
    expect(other).toBe(report)
    await Promise.all(busy)
    const written = device.writes
    const last = await owner.check()
    expect(last.summary?.usedExtents).toBeGreaterThanOrEqual(16)
    expect([last.clean, last.findings]).toEqual([true, []])
    expect(device.writes).toBe(written)
    await owner.close()
    expect(await codeOf(owner.check())).toBe('owner-closed')
  })

  it('reports what is damaged on the leg while the owner goes on from memory', async () => {
    const { platter, layout } = await smallVolume()
    const { owner, device } = await openOwner(platter, 1)
    await attachedDisk(owner)
    const io = { origin: 'test', deadlineAt: null }
    for (const offset of SUPERBLOCK_OFFSETS) await device.write(offset, [new Uint8Array(4096)], { fua: true }, io)
    const bad = await owner.check()
    expect(bad.clean).toBe(false)
    expect(bad.findings.map(({ code, leg }) => [code, leg])).toEqual([['not-a-volume', 'san-a']])
    expect(layout.volumeId).toBe('vol-1')
    const { disks } = await owner.handle('volume.list-disks', { volume: 'csv1' })
    expect(disks).toHaveLength(1)
    await owner.close()
  })

  it('tells when what is durable is not what the owner believes', async () => {
    const { platter, layout } = await smallVolume()
    const first = await openOwner(platter, 1)
    await attachedDisk(first.owner)
    const journal = await readAll(first.device, layout.journalOffset, layout.journalBytes)
    await first.owner.handle('volume.allocate', { ...hold, indexes: [0, 1], ahead: [] })
    // The journal falls back to what it was, whole and sound in itself.
    const io = { origin: 'test', deadlineAt: null }
    await first.device.write(layout.journalOffset, [journal], { fua: true }, io)
    const report = await first.owner.check()
    expect(report.clean).toBe(false)
    expect(new Set(report.findings.map(({ code }) => code))).toEqual(new Set(['owner-differs']))
    expect(report.findings.map(({ where }) => where)).toContain('disk disk-1')
    await first.owner.close()
  })
})
