// Each kind of damage, planted and found; and an owner refuses, or gets by, each as its severity says.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import type { FindingCode, Severity } from './check/finding.ts'
import { checkVolume, repairLeaks } from './check.ts'
import { encodeCheckpoint } from './format/checkpoint.ts'
import { Sealer } from './format/checksum.ts'
import { clusterCopyAddress } from './format/cluster-copy.ts'
import { decodeRecord, Payload } from './format/journal.ts'
import {
  BLOCK_BYTES,
  checkpointAddress,
  type Layout,
  SLOT_INTENT_OFFSET,
  SUPERBLOCK_OFFSETS,
  slotAddress,
} from './format/layout.ts'
import type { Metadata } from './format/metadata.ts'
import { encodeIntentSector, encodeSlotHeader } from './format/slot.ts'
import { decodeSuperblock, encodeSuperblock, type Superblock } from './format/superblock.ts'
import { loadLeg } from './owner/load.ts'
import type { Platter } from './testing/crash-device.ts'
import { attachedDisk, codeOf, EXTENT, hold, legOn, openOwner, smallVolume } from './testing/fixture.ts'

interface Subject {
  readonly platter: Platter
  readonly layout: Layout
  readonly sealer: Sealer
}

/** Two disks, one of them attached and with two extents, both checkpoints written, some records after them. */
async function subject(): Promise<Subject> {
  const { platter, layout } = await smallVolume()
  const { owner } = await openOwner(platter, 3)
  await attachedDisk(owner)
  await owner.handle('volume.create-disk', { volume: 'csv1', disk: 'disk-2', name: 'second', sizeBytes: EXTENT })
  await owner.handle('volume.allocate', { ...hold, indexes: [0, 1], ahead: [] })
  await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version: 1, value: { vms: [] } })
  await owner.handle('volume.put-cluster-copy', { volume: 'csv1', version: 2, value: { vms: ['a'] } })
  await owner.close()
  return { platter, layout, sealer: new Sealer(layout.volumeId) }
}

/** Rewrites both checkpoints with changed metadata. */
async function rewrite({ platter, layout, sealer }: Subject, change: (metadata: Metadata) => void): Promise<void> {
  const loaded = await loadLeg(legOn(platter), {})
  change(loaded.metadata)
  for (const version of [loaded.checkpoint.version, loaded.checkpoint.version + 1]) {
    const address = checkpointAddress(layout, version)
    const header = { version, sequence: loaded.sequence, ownerEpoch: 3, journalPosition: loaded.position }
    platter.write(address, encodeCheckpoint(header, loaded.metadata, sealer, address))
  }
}

function flip(platter: Platter, offset: number): void {
  const bytes = platter.read(offset, 1)
  platter.write(offset, Uint8Array.of(bytes[0]! ^ 0x10))
}

/** Writes a superblock that checks out. */
function superblock(platter: Platter, copy: 0 | 1, change: (superblock: Superblock) => Superblock): void {
  const address = SUPERBLOCK_OFFSETS[copy]
  const found = decodeSuperblock(platter.read(address, BLOCK_BYTES), address)
  platter.write(address, encodeSuperblock(change(found as Superblock), address))
}

async function lastRecords({ platter }: Subject) {
  const loaded = await loadLeg(legOn(platter), {})
  return { loaded, at: loaded.layout.journalOffset, records: loaded.records }
}

const disk1 = (metadata: Metadata) => metadata.disks.get('disk-1')!

type Plant = (subject: Subject) => void | Promise<void>
const DAMAGE: readonly (readonly [FindingCode, Severity, Plant])[] = [
  [
    'parent-missing',
    'damage',
    s =>
      rewrite(s, metadata => {
        disk1(metadata).parent = 'nobody'
      }),
  ],
  [
    'parent-circular',
    'damage',
    s =>
      rewrite(s, metadata => {
        disk1(metadata).parent = 'disk-2'
        metadata.disks.get('disk-2')!.parent = 'disk-1'
      }),
  ],
  [
    'shared-at-different-indexes',
    'damage',
    s =>
      rewrite(s, metadata => {
        const extent = disk1(metadata).map.get(1)!
        metadata.disks.get('disk-2')!.map.set(0, extent)
        metadata.references[extent] = 2
      }),
  ],
  ['superblock-copy-damaged', 'degraded', ({ platter }) => flip(platter, SUPERBLOCK_OFFSETS[0] + 100)],
  [
    'superblock-damaged',
    'damage',
    ({ platter }) => {
      for (const offset of SUPERBLOCK_OFFSETS) flip(platter, offset + 200)
    },
  ],
  ['not-a-volume', 'damage', ({ platter }) => platter.zero(0, 128 * 1024)],
  [
    'superblock-conflict',
    'damage',
    ({ platter }) => superblock(platter, 1, s => ({ ...s, layout: { ...s.layout, volumeId: 'vol-2' } })),
  ],
  [
    'foreign-volume',
    'damage',
    ({ platter }) => {
      for (const copy of [0, 1] as const)
        superblock(platter, copy, s => ({ ...s, layout: { ...s.layout, clusterId: 'x' } }))
    },
  ],
  [
    'format-unsupported',
    'damage',
    ({ platter }) => {
      for (const copy of [0, 1] as const) superblock(platter, copy, s => ({ ...s, incompatFeatures: 1 }))
    },
  ],
  [
    'superblock-geometry',
    'damage',
    ({ platter }) => {
      for (const copy of [0, 1] as const) {
        superblock(platter, copy, s => ({ ...s, layout: { ...s.layout, slotsOffset: s.layout.journalOffset } }))
      }
    },
  ],
  ['checkpoint-copy-damaged', 'degraded', ({ platter, layout }) => flip(platter, layout.checkpointOffset + 40)],
  [
    'checkpoint-damaged',
    'damage',
    ({ platter, layout }) => {
      for (const version of [0, 1]) flip(platter, checkpointAddress(layout, version) + 20)
    },
  ],
  [
    'journal-damaged',
    'damage',
    async subject => {
      const { at, records } = await lastRecords(subject)
      // A torn record in the middle: its second half never landed.
      flip(subject.platter, at + records[1]!.position + 40)
    },
  ],
  [
    'journal-record-misdirected',
    'degraded',
    async ({ platter, ...rest }) => {
      const { at, records, loaded } = await lastRecords({ platter, ...rest })
      const record = records[2]!
      platter.write(at + loaded.position + 8 * BLOCK_BYTES, platter.read(at + record.position, record.length))
    },
  ],
  [
    'journal-epoch',
    'damage',
    async ({ platter, layout, sealer }) => {
      const { at, loaded } = await lastRecords({ platter, layout, sealer })
      const payload = new Payload()
      payload.add({ type: 'owner', epoch: 2 })
      const address = at + loaded.position
      platter.write(address, payload.encode({ sequence: loaded.sequence + 1, ownerEpoch: 2 }, sealer, address))
    },
  ],
  [
    'journal-inconsistent',
    'damage',
    async ({ platter, layout, sealer }) => {
      const { at, loaded } = await lastRecords({ platter, layout, sealer })
      const payload = new Payload()
      const holder = { vm: 'v', host: 'host-a', hostEpoch: 1, epoch: 1 }
      payload.add({ type: 'attached', disk: 'no-such-disk', holder })
      const address = at + loaded.position
      platter.write(address, payload.encode({ sequence: loaded.sequence + 1, ownerEpoch: 3 }, sealer, address))
    },
  ],
  ['cluster-copy-damaged', 'degraded', ({ platter, layout }) => flip(platter, clusterCopyAddress(layout, 0) + 70)],
  [
    'extent-mapped-twice',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.disks.get('disk-2')!.map.set(0, disk1(metadata).map.get(0)!)
        metadata.disks.get('disk-2')!.mapVersion = 9
      }),
  ],
  [
    'reference-count-wrong',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.references[disk1(metadata).map.get(1)!] = 3
      }),
  ],
  [
    'extent-leaked',
    'leak',
    subject =>
      rewrite(subject, metadata => {
        metadata.references[30] = 1
      }),
  ],
  [
    'extent-version-wrong',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.versions[disk1(metadata).map.get(0)!] = 99
      }),
  ],
  [
    'map-beyond-disk',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.references[31] = 1
        disk1(metadata).map.set(64, 31)
      }),
  ],
  [
    'map-beyond-volume',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        disk1(metadata).map.set(9, metadata.layout.extentCount)
      }),
  ],
  [
    'disk-name-twice',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.disks.set('disk-3', { ...metadata.disks.get('disk-2')!, id: 'disk-3', map: new Map() })
      }),
  ],
  [
    'disk-size-wrong',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.disks.get('disk-2')!.sizeBytes = 1000
      }),
  ],
  [
    'attachment-host-unknown',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        metadata.disks.get('disk-2')!.holder = { vm: 'v', host: 'host-x', hostEpoch: 1, epoch: 1 }
      }),
  ],
  [
    'attachment-epoch-wrong',
    'damage',
    subject =>
      rewrite(subject, metadata => {
        disk1(metadata).reserved = { vm: 'web-1', host: 'host-a', hostEpoch: 1, epoch: 1 }
      }),
  ],
  ['slot-twice', 'damage', subject => rewrite(subject, metadata => void metadata.slots.set('host-b', 0))],
  ['slot-beyond-volume', 'damage', subject => rewrite(subject, metadata => void metadata.slots.set('host-b', 4))],
  ['slot-damaged', 'damage', ({ platter, layout }) => flip(platter, slotAddress(layout, 0) + 30)],
  [
    'slot-wrong-host',
    'damage',
    ({ platter, layout, sealer }) => {
      const address = slotAddress(layout, 0)
      platter.write(address, encodeSlotHeader({ slot: 0, host: 'host-z', sequence: 9 }, sealer, address))
    },
  ],
  ['slot-unknown-host', 'damage', subject => mark(subject, 2, [40])],
  [
    'intent-damaged',
    'degraded',
    subject => {
      mark(subject, 0, [firstRegion(subject)])
      flip(subject.platter, slotAddress(subject.layout, 0) + SLOT_INTENT_OFFSET + 40)
    },
  ],
  ['intent-outside-extents', 'degraded', subject => mark(subject, 0, [firstRegion(subject) + 4 * 50])],
  [
    'intent-not-held',
    'degraded',
    async subject => {
      await rewrite(subject, metadata => {
        disk1(metadata).holder = null
      })
      mark(subject, 0, [firstRegion(subject)])
    },
  ],
]

function mark({ platter, layout, sealer }: Subject, slot: number, regions: number[]): void {
  const address = slotAddress(layout, slot) + SLOT_INTENT_OFFSET
  const sector = new Uint8Array(512)
  encodeIntentSector(sector, regions, 1, sealer, address)
  platter.write(address, sector)
}

/** Of extent 0. */
function firstRegion({ layout }: Subject): number {
  return layout.dataOffset / layout.regionBytes
}

afterEach(() => canaries.clear())

describe('volume check', () => {
  it('finds nothing on a volume in order', async () => {
    const { platter } = await subject()
    const report = await checkVolume([legOn(platter)])
    expect(report.findings).toEqual([])
    expect(report).toMatchObject({ clean: true, summary: { disks: 2, usedExtents: 2, ownerEpoch: 3 } })
  })

  it.each(DAMAGE)('finds %s (%s), and changes nothing', async (code, severity, plant) => {
    const planted = await subject()
    await plant(planted)
    const before = planted.platter.copy()
    const report = await checkVolume([legOn(planted.platter)], { clusterId: 'cluster-1' })
    expect(report.findings).toContainEqual(expect.objectContaining({ code, severity, leg: 'san-a' }))
    expect(report.findings.every(each => each.severity === severity)).toBe(true)
    expect(report.clean).toBe(severity === 'degraded')
    expect([...planted.platter.pages]).toEqual([...before.pages])
  })

  /** What concerns one host's slot does not keep the volume's owner from opening it. */
  const SLOT_ONLY: readonly FindingCode[] = ['slot-damaged', 'slot-wrong-host', 'slot-unknown-host']
  const DAMAGED = DAMAGE.filter(([code, severity]) => severity === 'damage' && !SLOT_ONLY.includes(code))

  it.each(DAMAGED)('%s: an owner refuses to open, and writes nothing', async (code, _severity, plant) => {
    const planted = await subject()
    await plant(planted)
    const leg = legOn(planted.platter)
    const { VolumeOwner } = await import('./owner/volume-owner.ts')
    const env = { trace: { on: () => false } as never, log: { error: () => undefined } as never }
    const open = VolumeOwner.open({
      legs: [leg],
      volume: 'csv1',
      expected: { clusterId: 'cluster-1' },
      ownerEpoch: 4,
      env,
    })
    expect(['metadata-damaged', code]).toContain(await codeOf(open))
    expect(leg.device.writes).toBe(0)
  })

  it.each(DAMAGE.filter(([, severity]) => severity === 'degraded'))(
    '%s: an owner gets by and answers as before',
    async (_code, _severity, plant) => {
      const planted = await subject()
      await plant(planted)
      const { owner } = await openOwner(planted.platter, 4)
      expect(await owner.handle('volume.get-cluster-copy', { volume: 'csv1' })).toMatchObject({ version: 2 })
      expect((await owner.handle('volume.list-disks', { volume: 'csv1' })).disks).toMatchObject([
        { disk: 'disk-1', allocatedBytes: 2 * EXTENT },
        { disk: 'disk-2' },
      ])
    },
  )

  it('a blanked journal is damage: by the owner epoch that the storage knows, or after a checkpoint by itself', async () => {
    const blank = async (checkpointed: boolean) => {
      const planted = await subject()
      if (checkpointed) await rewrite(planted, () => undefined)
      planted.platter.write(planted.layout.journalOffset, new Uint8Array(planted.layout.journalBytes))
      return planted.platter
    }
    const fresh = await blank(false)
    // Owner 4 had opened its connection and died before its record: it is not what the journal must know of.
    const report = await checkVolume([legOn(fresh)], {}, 3)
    expect(report).toMatchObject({ clean: false, findings: [{ code: 'journal-lost', severity: 'damage' }] })
    expect(await codeOf(openOwner(fresh, 5, { leastOwnerEpoch: 3 }))).toBe('journal-lost')
    const late = await blank(true)
    expect((await checkVolume([legOn(late)])).findings).toMatchObject([{ code: 'journal-damaged', severity: 'damage' }])
    expect(await codeOf(openOwner(late, 5))).toBe('journal-damaged')
    const sound = (await subject()).platter
    expect((await checkVolume([legOn(sound)], {}, 3)).findings).toEqual([])
    expect(await codeOf(openOwner(sound, 5, { leastOwnerEpoch: 3 }))).toBe('resolved')
  })

  it('a leg that is behind the storage’s mark is degraded while another is not', async () => {
    const { platter } = await subject()
    const behind = platter.copy()
    await (await openOwner(platter, 4)).owner.close()
    const legs = [{ ...legOn(behind), id: 'san-b' }, legOn(platter)]
    expect(await checkVolume(legs, {}, 4)).toMatchObject({ clean: true, findings: [{ code: 'legs-differ' }] })
  })

  it('disks without any copy of the cluster are reported as degraded', async () => {
    const { platter, layout } = await subject()
    for (const area of [0, 1]) platter.write(clusterCopyAddress(layout, area), new Uint8Array(layout.clusterCopyBytes))
    const report = await checkVolume([legOn(platter)])
    expect(report).toMatchObject({ clean: true, findings: [{ code: 'cluster-copy-missing', severity: 'degraded' }] })
  })

  it('the next owner mends a bad superblock', async () => {
    const { platter } = await subject()
    flip(platter, 100)
    await openOwner(platter, 4)
    expect((await checkVolume([legOn(platter)])).findings).toEqual([])
  })

  it('repairs leaks and nothing else', async () => {
    const leaking = await subject()
    await rewrite(leaking, metadata => {
      metadata.references[30] = 1
      metadata.references[31] = 2
    })
    expect(await repairLeaks([legOn(leaking.platter)])).toBe(2)
    expect(await checkVolume([legOn(leaking.platter)])).toMatchObject({ findings: [], summary: { usedExtents: 2 } })
    expect(await repairLeaks([legOn(leaking.platter)])).toBe(0)
    await rewrite(leaking, metadata => {
      metadata.references[30] = 1
      metadata.disks.get('disk-2')!.sizeBytes = 1000
    })
    expect(await codeOf(repairLeaks([legOn(leaking.platter)]))).toBe('metadata-damaged')
  })

  it('an owner repairs leaks of a volume that is open, in its journal', async () => {
    const leaking = await subject()
    await rewrite(leaking, metadata => {
      for (let extent = 20; extent < 26; extent += 1) metadata.references[extent] = 1
      metadata.usedExtents += 6
    })
    const { owner } = await openOwner(leaking.platter, 4)
    const used = async () => (await owner.handle('volume.usage', { volume: 'csv1' })).usedBytes / EXTENT
    expect(await used()).toBe(8)
    expect(await owner.handle('volume.repair-leaks', { volume: 'csv1' })).toEqual({ freed: 6 })
    expect(await owner.handle('volume.repair-leaks', { volume: 'csv1' })).toEqual({ freed: 0 })
    expect(await used()).toBe(2)
    expect((await owner.check()).findings).toEqual([])
    expect((await checkVolume([legOn(leaking.platter)])).findings).toEqual([])
  })

  it('finds references of shared extents that were not counted', async () => {
    const shared = await subject()
    const { owner } = await openOwner(shared.platter, 4)
    await owner.handle('volume.detach', { volume: 'csv1', disk: 'disk-1', host: 'host-a', epoch: 1 })
    await owner.handle('volume.snapshot-disk', { volume: 'csv1', disk: 'disk-1', snapshot: 's1', name: 's1' })
    await owner.handle('volume.clone-disk', { volume: 'csv1', snapshot: 's1', disk: 'c1', name: 'c1' })
    await owner.close()
    expect((await checkVolume([legOn(shared.platter)])).findings).toEqual([])
    await rewrite(shared, metadata => {
      const [extent] = disk1(metadata).map.values()
      metadata.references[extent!] = 2
    })
    const { findings } = await checkVolume([legOn(shared.platter)])
    expect(findings).toMatchObject([{ code: 'reference-count-wrong', severity: 'damage' }])
    expect(await codeOf(openOwner(shared.platter, 6))).toBe('metadata-damaged')
  })

  it('finds legs that went apart', async () => {
    const { platter } = await subject()
    const behind = platter.copy()
    const { owner } = await openOwner(platter, 4)
    await owner.close()
    const report = await checkVolume([legOn(platter), { ...legOn(behind), id: 'san-b' }])
    expect(report.findings).toMatchObject([{ code: 'legs-differ', leg: 'san-b' }])
  })

  it('a device that is too small for its volume is refused', async () => {
    const { platter, layout } = await subject()
    const { Platter: P } = await import('./testing/crash-device.ts')
    const small = new P(layout.volumeBytes - EXTENT)
    for (const [page, content] of platter.pages) if (page * 4096 < small.size) small.pages.set(page, content)
    expect((await checkVolume([legOn(small)])).findings).toMatchObject([{ code: 'volume-truncated' }])
  })

  it('the canary journal-crc-unchecked lets a misdirected record in, and the check sees its effect', async () => {
    const planted = await subject()
    const { loaded, at } = await lastRecords(planted)
    const payload = new Payload()
    payload.add({ type: 'disk-deleted', disk: 'disk-2' })
    const elsewhere = at + loaded.position + BLOCK_BYTES
    const bytes = payload.encode({ sequence: loaded.sequence + 1, ownerEpoch: 3 }, planted.sealer, elsewhere)
    planted.platter.write(at + loaded.position, bytes)
    expect((await checkVolume([legOn(planted.platter)])).summary?.disks).toBe(2)
    canaries.add('journal-crc-unchecked')
    expect((await checkVolume([legOn(planted.platter)])).summary?.disks).toBe(1)
    const ring = planted.platter.read(planted.layout.journalOffset, planted.layout.journalBytes)
    expect(decodeRecord(ring, loaded.position, planted.layout, planted.sealer)).not.toBeNull()
  })
})
