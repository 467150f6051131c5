// Plays requests to the owner's core without a driver: effects end at once, well, unless told otherwise. Journal entries go
// through their bytes and into a second set of metadata, which must come out the same.

import { viewOf } from '../format/bytes.ts'
import { Sealer } from '../format/checksum.ts'
import { readEntries } from '../format/entries.ts'
import { Payload } from '../format/journal.ts'
import { planLayout, RECORD, RECORD_HEADER_BYTES } from '../format/layout.ts'
import { applyEntry, type Entry, emptyMetadata, type Metadata } from '../format/metadata.ts'
import { decide } from '../owner/decide.ts'
import type { VolumeRequest } from '../owner/request.ts'
import {
  type Effect,
  endEffect,
  forget,
  type OwnerState,
  ownerState,
  startEffect,
  takeEntries,
} from '../owner/state.ts'
import { SMALL } from './fixture.ts'

export class CorePlay {
  readonly state: OwnerState
  /** Made by the entries' bytes alone. */
  readonly replayed: Metadata
  readonly journal: Entry[] = []
  readonly effects: Effect[] = []
  #sequence = 0

  constructor(volumeBytes = 4 * 1024 * 1024) {
    const layout = planLayout({ ...SMALL, volumeBytes })
    this.state = ownerState(emptyMetadata(layout), { version: 0, value: null })
    this.replayed = emptyMetadata(layout)
  }

  /** What was answered; `code` when refused. */
  ask(request: VolumeRequest): { readonly reply: unknown; readonly code: string } {
    for (let round = 0; round < 100; round += 1) {
      const decision = decide(this.state, request)
      if (decision.type === 'refused') {
        forget(this.state, decision.forget ?? {})
        return { reply: null, code: decision.error.code }
      }
      if (decision.type === 'done') {
        takeEntries(this.state, decision.entries)
        this.#write(decision.entries)
        this.#run(decision.effects)
        return { reply: decision.reply, code: 'ok' }
      }
      this.#run(decision.effects)
    }
    return { reply: null, code: 'waits for ever' }
  }

  #run(effects: readonly Effect[]): void {
    for (const effect of effects) startEffect(this.state, effect)
    for (const effect of effects) endEffect(this.state, effect, { ok: true })
    this.effects.push(...effects)
  }

  #write(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    const payload = new Payload()
    for (const entry of entries) payload.add(entry)
    this.#sequence += 1
    const bytes = payload.encode({ sequence: this.#sequence, ownerEpoch: 1 }, new Sealer('vol-1'), 0)
    const length = viewOf(bytes).getUint32(RECORD.payloadBytes.offset, true)
    const content = bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length)
    for (const entry of readEntries(content, payload.entryCount)) {
      applyEntry(this.replayed, entry)
      this.journal.push(entry)
    }
  }
}
