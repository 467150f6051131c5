// The superblock, in two copies: what the volume is, which leg this is, and where everything stands.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { getText, getU64, setText, setU64, viewOf } from './bytes.ts'
import { Sealer } from './checksum.ts'
import { readWhatCan, writeBytes } from './device-io.ts'
import { BLOCK_BYTES, isSane, type Layout, SUPERBLOCK, SUPERBLOCK_OFFSETS } from './layout.ts'

export const SUPERBLOCK_MAGIC = 0x53565753
export const FORMAT_VERSION = 1
/** Features this code knows. Unknown compat ones are ignored, ro-compat ones forbid writing, incompat ones everything. */
export const KNOWN_INCOMPAT = 0
export const KNOWN_RO_COMPAT = 0

export interface Superblock {
  readonly layout: Layout
  readonly compatFeatures: number
  readonly incompatFeatures: number
  readonly roCompatFeatures: number
  /** Raised by every rewriting: of two good copies the higher is the newer. */
  readonly version: number
  readonly legId: string
  readonly legIndex: number
  readonly legCount: number
}

export type SuperblockProblem = 'blank' | 'damaged' | 'unsupported' | 'unreadable'

export function encodeSuperblock(superblock: Superblock, address: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES)
  const view = viewOf(bytes)
  const { layout } = superblock
  const f = SUPERBLOCK
  view.setUint32(f.magic.offset, SUPERBLOCK_MAGIC, true)
  view.setUint32(f.formatVersion.offset, FORMAT_VERSION, true)
  view.setUint32(f.blockBytes.offset, BLOCK_BYTES, true)
  setU64(view, f.compatFeatures.offset, superblock.compatFeatures)
  setU64(view, f.incompatFeatures.offset, superblock.incompatFeatures)
  setU64(view, f.roCompatFeatures.offset, superblock.roCompatFeatures)
  setU64(view, f.version.offset, superblock.version)
  setText(bytes, f.volumeId.offset, f.volumeId.length, layout.volumeId)
  setText(bytes, f.clusterId.offset, f.clusterId.length, layout.clusterId)
  setText(bytes, f.legId.offset, f.legId.length, superblock.legId)
  view.setUint16(f.legIndex.offset, superblock.legIndex, true)
  view.setUint16(f.legCount.offset, superblock.legCount, true)
  view.setUint32(f.extentBytes.offset, layout.extentBytes, true)
  view.setUint32(f.regionBytes.offset, layout.regionBytes, true)
  view.setUint32(f.slotCount.offset, layout.slotCount, true)
  view.setUint32(f.extentCount.offset, layout.extentCount, true)
  for (const name of U64_LAYOUT) setU64(view, f[name].offset, layout[name])
  sealerOf(bytes).seal(address, bytes, f.crc.offset)
  return bytes
}

export function decodeSuperblock(bytes: Uint8Array, address: number): Superblock | SuperblockProblem {
  const view = viewOf(bytes)
  const f = SUPERBLOCK
  if (view.getUint32(f.magic.offset, true) !== SUPERBLOCK_MAGIC) return 'blank'
  if (!hasText(bytes) || !sealerOf(bytes).isSealed(address, bytes, f.crc.offset)) return 'damaged'
  if (view.getUint32(f.formatVersion.offset, true) !== FORMAT_VERSION) return 'unsupported'
  if (view.getUint32(f.blockBytes.offset, true) !== BLOCK_BYTES) return 'unsupported'
  const numbers = Object.fromEntries(U64_LAYOUT.map(name => [name, getU64(view, f[name].offset)]))
  return {
    compatFeatures: getU64(view, f.compatFeatures.offset),
    incompatFeatures: getU64(view, f.incompatFeatures.offset),
    roCompatFeatures: getU64(view, f.roCompatFeatures.offset),
    version: getU64(view, f.version.offset),
    legId: getText(bytes, f.legId.offset, f.legId.length),
    legIndex: view.getUint16(f.legIndex.offset, true),
    legCount: view.getUint16(f.legCount.offset, true),
    layout: {
      ...(numbers as Record<(typeof U64_LAYOUT)[number], number>),
      volumeId: getText(bytes, f.volumeId.offset, f.volumeId.length),
      clusterId: getText(bytes, f.clusterId.offset, f.clusterId.length),
      extentBytes: view.getUint32(f.extentBytes.offset, true),
      regionBytes: view.getUint32(f.regionBytes.offset, true),
      slotCount: view.getUint32(f.slotCount.offset, true),
      extentCount: view.getUint32(f.extentCount.offset, true),
    },
  }
}

/** What was found in each place, and which of them to use. */
export interface FoundSuperblock {
  readonly copies: readonly (Superblock | SuperblockProblem)[]
  readonly superblock: Superblock
}

export interface Expected {
  readonly volumeId?: string
  readonly clusterId?: string
}

export async function readSuperblockCopies(device: BlockDevice, io: Io): Promise<(Superblock | SuperblockProblem)[]> {
  const copies: (Superblock | SuperblockProblem)[] = []
  for (const address of SUPERBLOCK_OFFSETS) {
    const { bytes, unreadable } = await readWhatCan(device, address, BLOCK_BYTES, io)
    copies.push(unreadable.size > 0 ? 'unreadable' : decodeSuperblock(bytes, address))
  }
  return copies
}

/** The newer good copy; refuses a device that is no volume, another volume, or of a format this code does not know. */
export async function findSuperblock(device: BlockDevice, expected: Expected, io: Io): Promise<FoundSuperblock> {
  const copies = await readSuperblockCopies(device, io)
  const good = copies.filter(copy => typeof copy !== 'string')
  const superblock = good.reduce<Superblock | null>((a, b) => (a === null || b.version > a.version ? b : a), null)
  const where = expected.volumeId ?? 'volume'
  if (superblock === null) {
    if (copies.includes('unsupported')) throw unsupported('another format version', where)
    throw noSuperblock(copies, where)
  }
  if (good.some(copy => copy.layout.volumeId !== superblock.layout.volumeId)) {
    throw new StellwerkError('superblock-conflict', 'the two superblocks belong to different volumes', { where })
  }
  for (const key of ['volumeId', 'clusterId'] as const) {
    const wanted = expected[key]
    if (wanted === undefined || wanted === superblock.layout[key]) continue
    throw new StellwerkError('foreign-volume', `this is ${key} ${superblock.layout[key]}, not ${wanted}`, {
      where,
      hint: 'name the right LUN, or the cluster it belongs to',
    })
  }
  if ((superblock.incompatFeatures & ~KNOWN_INCOMPAT) !== 0) throw unsupported('features unknown here', where)
  if (!isSane(superblock.layout)) {
    throw new StellwerkError('superblock-geometry', 'the areas the superblock names overlap or do not fit', {
      where,
      hint: 'restore the leg from its mirror or from a backup',
    })
  }
  if (superblock.layout.volumeBytes > device.size) {
    throw new StellwerkError(
      'volume-truncated',
      `the device has ${device.size} bytes of ${superblock.layout.volumeBytes}`,
      {
        where,
        hint: 'the LUN is smaller than when it was formatted: restore its size',
      },
    )
  }
  return { copies, superblock }
}

/** Where one copy is blank and the other cannot be read, nothing says that a volume was ever there. */
function noSuperblock(copies: readonly (Superblock | SuperblockProblem)[], where: string): StellwerkError {
  const hint = 'restore the leg from its mirror or from a backup'
  const isBlank = copies.includes('blank') && copies.every(copy => copy === 'blank' || copy === 'unreadable')
  if (isBlank) {
    const rest = copies.includes('unreadable') ? ': one superblock is blank, the other cannot be read' : ''
    const message = `there is no volume on this device${rest}`
    return new StellwerkError('not-a-volume', message, { where, hint: `name the right LUN; or, if it is, ${hint}` })
  }
  const are = copies.includes('unreadable') ? 'cannot be read, or are damaged' : 'are damaged'
  return new StellwerkError('superblock-damaged', `both superblocks of the volume ${are}`, { where, hint })
}

/** Copy by copy, so that one of them is good at any time. */
export async function writeSuperblock(device: BlockDevice, superblock: Superblock, io: Io): Promise<void> {
  for (const address of [...SUPERBLOCK_OFFSETS].reverse()) {
    await writeBytes(device, address, encodeSuperblock(superblock, address), io)
  }
}

/** Writes anew a copy that was found bad or old. */
export async function mendSuperblock(device: BlockDevice, found: FoundSuperblock, io: Io): Promise<void> {
  for (const [i, copy] of found.copies.entries()) {
    if (typeof copy !== 'string' && copy.version === found.superblock.version) continue
    const address = SUPERBLOCK_OFFSETS[i]!
    await writeBytes(device, address, encodeSuperblock(found.superblock, address), io)
  }
}

const U64_LAYOUT = [
  'volumeBytes',
  'checkpointOffset',
  'checkpointBytes',
  'journalOffset',
  'journalBytes',
  'clusterCopyOffset',
  'clusterCopyBytes',
  'slotsOffset',
  'slotBytes',
  'dataOffset',
] as const

/** A superblock's checksum covers the id it carries itself: nothing else is known yet. */
function sealerOf(bytes: Uint8Array): Sealer {
  return new Sealer(getText(bytes, SUPERBLOCK.volumeId.offset, SUPERBLOCK.volumeId.length))
}

function hasText(bytes: Uint8Array): boolean {
  for (const { offset, length } of [SUPERBLOCK.volumeId, SUPERBLOCK.clusterId, SUPERBLOCK.legId]) {
    for (let i = offset; i < offset + length; i += 1) if (bytes[i]! > 0x7e) return false
  }
  return true
}

function unsupported(what: string, where: string): StellwerkError {
  return new StellwerkError('format-unsupported', `the volume has ${what}`, {
    where,
    hint: 'use the version of stellwerk that wrote it, or a newer one',
  })
}
