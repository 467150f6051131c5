// Reads a ledger guest's disk without the guest: the volume as its storage left it, the disk's extents, and in them every
// entry from the first to the last, each against its checksum and its predecessor's.

import {
  checkEntry,
  LOG_START,
  ledgerTag,
  logEnd,
  peekEntry,
  unitOffset,
  unitsOf,
} from '@stellwerk/agent/guests/ledger-format.ts'
import { type Leg, OWNER_IO, readBytes } from '@stellwerk/csv/format/device-io.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import type { Disk } from '@stellwerk/csv/format/metadata.ts'
import { type Loaded, loadLeg } from '@stellwerk/csv/owner/load.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** What the guest was told its disk's unit is: a storage of ours takes any request. */
const UNIT_BYTES = 512

export interface DiskLedger {
  /** Entries that are there, whole and in order from 1 on. */
  readonly entries: number
  /** Entries of this guest where they don't belong: a copy of one, or one behind the end of an interrupted log. */
  readonly misplaced: readonly number[]
}

export class VolumeReader {
  readonly #leg: Leg
  readonly #loaded: Loaded

  private constructor(leg: Leg, loaded: Loaded) {
    this.#leg = leg
    this.#loaded = loaded
  }

  static async open(leg: Leg): Promise<VolumeReader> {
    return new VolumeReader(leg, await loadLeg(leg, {}))
  }

  async ledger(diskName: string, vm: string): Promise<DiskLedger> {
    const disk = [...this.#loaded.metadata.disks.values()].find(({ name }) => name === diskName)
    if (disk === undefined) {
      throw new StellwerkError('disk-missing', `the volume has no disk ${diskName}`, { where: this.#leg.id })
    }
    const log = await this.#read(disk, logEnd(disk.sizeBytes))
    return readLedger(log, vm)
  }

  /** From the disk's beginning; what is not mapped reads as zeroes. */
  async #read(disk: Disk, bytes: number): Promise<Buffer> {
    const { layout } = this.#loaded
    const all = Buffer.alloc(bytes)
    for (const [index, extent] of disk.map) {
      const from = index * layout.extentBytes
      if (from >= bytes) continue
      const length = Math.min(layout.extentBytes, bytes - from)
      all.set(await readBytes(this.#leg.device, extentAddress(layout, extent), length, OWNER_IO), from)
    }
    return all
  }
}

/** `log` is the disk up to the log's end. */
export function readLedger(log: Buffer, vm: string): DiskLedger {
  const tag = ledgerTag(vm)
  let entries = 0
  let crc = 0
  for (;;) {
    const entry = entries + 1
    const at = LOG_START + unitOffset(entry) * UNIT_BYTES
    const end = at + unitsOf(entry) * UNIT_BYTES
    if (end > log.length) break
    const next = checkEntry(log.subarray(at, end), entry, tag, crc)
    if (next === null) break
    crc = next
    entries = entry
  }
  const misplaced: number[] = []
  const end = LOG_START + unitOffset(entries + 1) * UNIT_BYTES
  for (let at = end; at + UNIT_BYTES <= log.length; at += UNIT_BYTES) {
    const found = peekEntry(log.subarray(at, at + UNIT_BYTES), tag)
    // The next one may be there in part: its writer ended over it.
    if (found !== null && (at > end || found !== entries + 1)) misplaced.push(found)
  }
  return { entries, misplaced }
}
