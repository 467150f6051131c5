// The owner's pen: appends records to the journal of every leg, one at a time, and writes a checkpoint before the ring
// could run over what the older checkpoint still needs.

import { assert } from '@stellwerk/runtime/assert.ts'
import { encodeCheckpoint } from '../format/checkpoint.ts'
import { Sealer } from '../format/checksum.ts'
import { type Leg, OWNER_IO, writeLegs } from '../format/device-io.ts'
import { checkpointAfterBytes, maxRecordBytes, type Payload, placeRecord } from '../format/journal.ts'
import { checkpointAddress, type Layout } from '../format/layout.ts'
import type { Metadata } from '../format/metadata.ts'
import type { Loaded } from './load.ts'

export class JournalWriter {
  readonly #legs: readonly Leg[]
  readonly #layout: Layout
  readonly #sealer: Sealer
  readonly #ownerEpoch: number
  #sequence: number
  #position: number
  #checkpointVersion: number
  /** Ring bytes taken since the newest checkpoint, and since the one before: that much must not be overwritten. */
  #sinceNewest: number
  #sinceOlder: number
  #writing = false

  constructor(legs: readonly Leg[], loaded: Loaded, ownerEpoch: number) {
    this.#legs = legs
    this.#layout = loaded.layout
    this.#sealer = new Sealer(loaded.layout.volumeId)
    this.#ownerEpoch = ownerEpoch
    this.#sequence = loaded.sequence
    this.#position = loaded.position
    this.#checkpointVersion = loaded.checkpoint.version
    this.#sinceNewest = this.#taken(loaded.checkpoint.journalPosition)
    const older = loaded.checkpoints.find(c => c !== null && c.version < loaded.checkpoint.version)
    this.#sinceOlder = older ? this.#taken(older.journalPosition) : this.#sinceNewest
  }

  /** Also where the ring would soon be full of what the older checkpoint needs: a crash may have left it much. */
  get checkpointDue(): boolean {
    const { journalBytes } = this.#layout
    const room = journalBytes - this.#sinceOlder
    // As much as a record can take, and what is left over before it at the ring's end.
    return this.#sinceNewest >= checkpointAfterBytes(this.#layout) || room < 2 * maxRecordBytes(this.#layout)
  }

  /** Durable on every leg when it resolves. If it rejects, what is on the volume is unknown: the owner must end. */
  async append(payload: Payload): Promise<void> {
    assert(!this.#writing, 'two journal writes at the same time')
    this.#writing = true
    const length = payload.recordBytes
    const position = placeRecord(this.#layout, this.#position, length)
    const skipped = position === this.#position ? 0 : this.#layout.journalBytes - this.#position
    assert(
      this.#sinceOlder + skipped + length <= this.#layout.journalBytes,
      'the journal would run over what the older checkpoint needs',
    )
    this.#sequence += 1
    this.#position = position + length
    this.#sinceNewest += skipped + length
    this.#sinceOlder += skipped + length
    const address = this.#layout.journalOffset + position
    const head = { sequence: this.#sequence, ownerEpoch: this.#ownerEpoch }
    await writeLegs(this.#legs, address, payload.encode(head, this.#sealer, address), OWNER_IO)
    this.#writing = false
  }

  /** `metadata` must be exactly what the records up to now made. */
  async checkpoint(metadata: Metadata): Promise<void> {
    assert(!this.#writing, 'a checkpoint during a journal write')
    this.#writing = true
    const version = this.#checkpointVersion + 1
    const address = checkpointAddress(this.#layout, version)
    const header = {
      version,
      sequence: this.#sequence,
      ownerEpoch: metadata.ownerEpoch,
      journalPosition: this.#position,
    }
    const bytes = encodeCheckpoint(header, metadata, this.#sealer, address)
    assert(bytes.length <= this.#layout.checkpointBytes, 'a checkpoint does not fit its area')
    await writeLegs(this.#legs, address, bytes, OWNER_IO)
    this.#checkpointVersion = version
    this.#sinceOlder = this.#sinceNewest
    this.#sinceNewest = 0
    this.#writing = false
  }

  /**
   * Makes either area do by itself again: first the one that is not the newest good one is written, so that this one stays
   * until the other is durable.
   */
  async checkpointBoth(metadata: Metadata): Promise<void> {
    await this.checkpoint(metadata)
    await this.checkpoint(metadata)
  }

  /** Ring bytes from a position to the head. Equal means none: the ring is never let run full. */
  #taken(from: number): number {
    return (this.#position - from + this.#layout.journalBytes) % this.#layout.journalBytes
  }
}
