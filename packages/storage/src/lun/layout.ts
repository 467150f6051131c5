// How a LUN lies on disk: two files named after the LUN's id.
//   .data  the disk itself, raw and sparse: byte n of the LUN is byte n of the file
//   .map   header · two intent records, written in turn · one page per region, 512 bytes each
// A *chunk* is the unit of allocation, a *region* the chunks of one page. A page's bit is set where a chunk may hold
// something; a region named in the intent record may hold chunks whose bits are not yet in its page. Encoding only; no I/O.

import { crc32 } from 'node:zlib'
import { assert } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB } from '@stellwerk/runtime/units.ts'

export const CHUNK_BYTES = 64 * KIB
export const CHUNKS_PER_REGION = 256
/** Regions in which chunks may be allocated without their page being written: what a start after a crash must scan. */
export const MAX_INTENTS = 32

const SECTOR = 512
const INTENT_OFFSETS = [4 * KIB, 8 * KIB] as const
const PAGES_OFFSET = 12 * KIB
const PAGE_BITS_BYTES = CHUNKS_PER_REGION / 8
const HEADER_MAGIC = 'STELLWERK LUN\n'
const FORMAT_VERSION = 1
const INTENT_MAGIC = 0x57_49_4e_54
const PAGE_MAGIC = 0x57_50_41_47
const CRC_AT = SECTOR - 4

export interface LunHeader {
  readonly id: string
  readonly sizeBytes: number
}

export function chunkCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / CHUNK_BYTES)
}

export function regionCount(sizeBytes: number): number {
  return Math.ceil(chunkCount(sizeBytes) / CHUNKS_PER_REGION)
}

export function mapBytes(sizeBytes: number): number {
  return PAGES_OFFSET + regionCount(sizeBytes) * SECTOR
}

export function pageOffset(region: number): number {
  return PAGES_OFFSET + region * SECTOR
}

/** Where the intent record with this sequence number goes. */
export function intentOffset(sequence: number): number {
  return INTENT_OFFSETS[sequence % 2 === 0 ? 0 : 1]
}

// --- header ------------------------------------------------------------------------------------------------------------

/** A whole new map: nothing allocated, nothing intended. */
export function encodeNewMap(header: LunHeader): Uint8Array {
  const bytes = new Uint8Array(PAGES_OFFSET)
  const json = Buffer.from(
    JSON.stringify({ format: FORMAT_VERSION, id: header.id, sizeBytes: header.sizeBytes, chunkBytes: CHUNK_BYTES }),
  )
  assert(json.length <= CRC_AT - HEADER_MAGIC.length, 'the header fits its sector')
  bytes.set(Buffer.from(HEADER_MAGIC), 0)
  bytes.set(json, HEADER_MAGIC.length)
  seal(bytes.subarray(0, SECTOR))
  bytes.set(encodeIntents(header.id, 0, []), intentOffset(0))
  return bytes
}

/** Throws `corrupt-lun` or `foreign-lun`: such files are not touched. */
export function checkHeader(bytes: Uint8Array, expected: LunHeader, where: string): void {
  const sector = bytes.subarray(0, SECTOR)
  if (
    bytes.length < PAGES_OFFSET ||
    !Buffer.from(sector.subarray(0, HEADER_MAGIC.length)).equals(Buffer.from(HEADER_MAGIC))
  ) {
    throw new StellwerkError('corrupt-lun', 'this is not the map of a LUN', { where, hint: RESTORE })
  }
  if (!isSealed(sector))
    throw new StellwerkError('corrupt-lun', `the map's header fails its checksum`, { where, hint: RESTORE })
  const text = Buffer.from(sector.subarray(HEADER_MAGIC.length, CRC_AT)).toString().replace(/\0+$/, '')
  const found = JSON.parse(text) as { format: number; id: string; sizeBytes: number; chunkBytes: number }
  if (found.format !== FORMAT_VERSION || found.chunkBytes !== CHUNK_BYTES) {
    throw new StellwerkError(
      'foreign-lun',
      `the LUN has format ${found.format}, this program knows ${FORMAT_VERSION}`,
      { where },
    )
  }
  if (found.id !== expected.id || found.sizeBytes !== expected.sizeBytes) {
    throw new StellwerkError(
      'foreign-lun',
      `these are the files of LUN id ${found.id} (${found.sizeBytes} bytes), not of ${expected.id} (${expected.sizeBytes} bytes)`,
      { where, hint: RESTORE },
    )
  }
}

export const RESTORE = 'put the right files back, or delete the LUN and resync its mirror'

// --- intent records ------------------------------------------------------------------------------------------------------

export interface IntentRecord {
  readonly sequence: number
  readonly regions: readonly number[]
}

export function encodeIntents(id: string, sequence: number, regions: readonly number[]): Uint8Array {
  assert(regions.length <= MAX_INTENTS, 'intents are bounded')
  const sector = new Uint8Array(SECTOR)
  const view = new DataView(sector.buffer)
  view.setUint32(0, INTENT_MAGIC)
  view.setBigUint64(8, BigInt(sequence))
  view.setUint32(16, regions.length)
  for (const [index, region] of regions.entries()) view.setUint32(20 + 4 * index, region)
  seal(sector, id)
  return sector
}

/** The newer of the two, or null when neither can be trusted: then every region must be scanned. */
export function decodeIntents(map: Uint8Array, id: string, regions: number): IntentRecord | null {
  let newest: IntentRecord | null = null
  for (const offset of INTENT_OFFSETS) {
    const sector = map.subarray(offset, offset + SECTOR)
    const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength)
    if (view.getUint32(0) !== INTENT_MAGIC || !isSealed(sector, id)) continue
    const sequence = Number(view.getBigUint64(8))
    const count = view.getUint32(16)
    if (count > MAX_INTENTS || (newest !== null && newest.sequence > sequence)) continue
    const named = Array.from({ length: count }, (_, index) => view.getUint32(20 + 4 * index))
    if (named.every(region => region < regions)) newest = { sequence, regions: named }
  }
  return newest
}

// --- pages -----------------------------------------------------------------------------------------------------------------

export function encodePage(id: string, region: number, bits: Uint8Array): Uint8Array {
  const sector = new Uint8Array(SECTOR)
  const view = new DataView(sector.buffer)
  view.setUint32(0, PAGE_MAGIC)
  view.setUint32(4, region)
  sector.set(bits.subarray(region * PAGE_BITS_BYTES, (region + 1) * PAGE_BITS_BYTES), 8)
  seal(sector, id)
  return sector
}

/** Copies the page's bits. False: it can't be trusted, the region must be scanned. Never written: nothing is allocated. */
export function decodePage(map: Uint8Array, id: string, region: number, bits: Uint8Array): boolean {
  const offset = pageOffset(region)
  const sector = map.subarray(offset, offset + SECTOR)
  if (sector.every(byte => byte === 0)) return true
  if (sector.length < SECTOR) return false
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength)
  if (view.getUint32(0) !== PAGE_MAGIC || view.getUint32(4) !== region || !isSealed(sector, id)) return false
  bits.set(sector.subarray(8, 8 + PAGE_BITS_BYTES), region * PAGE_BITS_BYTES)
  return true
}

/** The checksum covers the LUN's id too, so that another LUN's sector is not taken for ours. */
function seal(sector: Uint8Array, id = ''): void {
  new DataView(sector.buffer, sector.byteOffset).setUint32(CRC_AT, crc32(sector.subarray(0, CRC_AT), crc32(id)))
}

function isSealed(sector: Uint8Array, id = ''): boolean {
  if (sector.length < SECTOR) return false
  return (
    new DataView(sector.buffer, sector.byteOffset).getUint32(CRC_AT) === crc32(sector.subarray(0, CRC_AT), crc32(id))
  )
}
