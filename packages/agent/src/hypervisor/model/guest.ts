// The model guest's program: what one step of it does. It sees its memory and the few things a machine offers, and keeps
// nothing anywhere else: after a migration the same program goes on from the same memory.

import { crc32 } from 'node:zlib'
import {
  checkEntry,
  encodeEntry,
  LOG_START,
  ledgerTag,
  peekEntry,
  SCRATCH_BYTES,
  unitOffset,
  unitsOf,
} from '../../guests/ledger-format.ts'
import { PAGE_BYTES } from '../precopy/state-checksum.ts'
import type { ModelParameters } from './parameters.ts'
import {
  FIRST_WORK_PAGE,
  LOG_BUFFER,
  READ_BUFFER,
  RECOVERY_BUFFER,
  RECOVERY_BYTES,
  Registers,
  SCRATCH_BUFFER,
  SCRATCH_SLOTS,
  type ScratchSlot,
  type SlotName,
  TABLE,
} from './registers.ts'

export type DiskOperation = 'read' | 'write' | 'zero' | 'trim' | 'flush'

/** What the machine offers its guest; only used inside a step. */
export interface GuestDevices {
  /** 0: there is no disk. */
  readonly diskBytes: number
  readonly unitBytes: number
  /** The slot is in flight until the machine sets it to done or failed; `at` is the place in memory. */
  submit(slot: SlotName, operation: DiskOperation, offset: number, at: number, length: number): void
  say(line: string): void
  sendPacket(payload: Uint8Array): void
  halt(reason: string): void
  /** Arms its watchdog and hangs. Absent: it has none. */
  hang?(): void
}

/** A guest that breaks its machine's rules throws this. */
export class GuestTrap extends Error {}

/** A request that failed is tried again after this many steps: the disk may come back. */
const RETRY_STEPS = 25
const STEPS_PER_PACKET = 10
/** What is done in the scratch area, each as likely as the others. */
const SCRATCH_OPERATIONS: readonly DiskOperation[] = ['write', 'write', 'zero', 'trim', 'read', 'read', 'flush']
/** Bytes of a work page that carry content: number, page, filler; then their CRC. */
const CONTENT_BYTES = 64

export class ModelGuest {
  readonly #memory: Buffer
  readonly #registers: Registers
  readonly #parameters: ModelParameters
  readonly #devices: GuestDevices
  readonly #tag: number

  constructor(vm: string, memory: Buffer, parameters: ModelParameters, devices: GuestDevices) {
    this.#memory = memory
    this.#registers = new Registers(memory)
    this.#parameters = parameters
    this.#devices = devices
    this.#tag = ledgerTag(parameters.ledger ?? vm)
  }

  step(input: readonly string[]): void {
    const registers = this.#registers
    registers.steps++
    for (const line of input) this.#obey(line)
    if (registers.phase === 'boot') {
      this.#devices.say('boot')
      registers.phase = 'recovering'
      if (this.#devices.diskBytes === 0) this.#recovered('intact')
      else this.#readLog()
      return
    }
    this.#work()
    if (registers.phase === 'recovering') {
      if (registers.shutdownAsked && registers.slotState('log') !== 'in-flight') this.#down()
      else this.#recover()
      return
    }
    this.#append()
    if (registers.shutdownAsked) {
      // Each write was made durable by itself: with the last one acknowledged nothing is left to flush.
      if (registers.slotState('log') === 'idle') this.#down()
      return
    }
    this.#readBack()
    this.#scratch()
    if (registers.steps % STEPS_PER_PACKET === 0) {
      registers.packets++
      this.#devices.sendPacket(Buffer.from(`packet ${registers.packets}`))
    }
  }

  #down(): void {
    this.#devices.say(`down after ${this.#registers.entries}`)
    this.#devices.halt('asked to shut down')
  }

  #obey(line: string): void {
    const { entries, sequence, packets } = this.#registers
    if (line === 'status') this.#devices.say(`status entries ${entries} sequence ${sequence} packets ${packets}`)
    else if (line === 'halt') this.#devices.halt('asked to on its console')
    else if (line === 'hang' && this.#devices.hang !== undefined) {
      this.#devices.say('hangs')
      this.#devices.hang()
    } else if (line === 'crash') throw new GuestTrap('asked to on its console')
    else this.#devices.say(`unknown command "${line}"`)
  }

  // --- memory: each work page carries a number that only grows, and the table which it must be ------------------------

  #work(): void {
    const pages = this.#memory.length / PAGE_BYTES - FIRST_WORK_PAGE
    for (let n = 0; n < this.#parameters.dirtyPagesPerStep; n++) {
      const page = this.#registers.draw(pages)
      const at = (FIRST_WORK_PAGE + page) * PAGE_BYTES
      const expected = this.#memory.readDoubleLE(TABLE + page * 8)
      if (expected !== 0) this.#verify(page, at, expected)
      const sequence = ++this.#registers.sequence
      this.#memory.writeDoubleLE(sequence, at)
      this.#memory.writeDoubleLE(page, at + 8)
      for (let word = 16; word < CONTENT_BYTES; word += 4) {
        this.#memory.writeUInt32LE(Math.imul(sequence + word, 0x9e3779b1) >>> 0, at + word)
      }
      this.#memory.writeUInt32LE(crc32(this.#memory.subarray(at, at + CONTENT_BYTES)), at + CONTENT_BYTES)
      this.#memory.writeDoubleLE(sequence, TABLE + page * 8)
    }
  }

  #verify(page: number, at: number, expected: number): void {
    const found = this.#memory.readDoubleLE(at)
    const crc = crc32(this.#memory.subarray(at, at + CONTENT_BYTES))
    const intact = this.#memory.readDoubleLE(at + 8) === page && this.#memory.readUInt32LE(at + CONTENT_BYTES) === crc
    if (found === expected && intact) return
    this.#devices.say(`memory damaged page ${page}: sequence ${found}${intact ? '' : ' torn'}, expected ${expected}`)
  }

  // --- disk: the log -------------------------------------------------------------------------------------------------

  get #unit(): number {
    return this.#devices.unitBytes
  }

  #offsetOf(entry: number): number {
    return LOG_START + unitOffset(entry) * this.#unit
  }

  get #logEnd(): number {
    return Math.max(LOG_START, this.#devices.diskBytes - this.#parameters.scratchBytes)
  }

  /** Reads on from the first entry that is not known yet. */
  #readLog(): void {
    const offset = this.#offsetOf(this.#registers.entries + 1)
    const length = Math.min(RECOVERY_BYTES, this.#logEnd - offset)
    if (length < this.#unit) this.#recovered('intact')
    else this.#devices.submit('log', 'read', offset, RECOVERY_BUFFER, length - (length % this.#unit))
  }

  #recover(): void {
    const registers = this.#registers
    const state = registers.slotState('log')
    if (state === 'in-flight') return
    if (state === 'failed') {
      this.#retry('log', 'read log', () => this.#readLog())
      return
    }
    const start = this.#offsetOf(registers.entries + 1)
    const length = Math.min(RECOVERY_BYTES, this.#logEnd - start)
    const batch = this.#memory.subarray(RECOVERY_BUFFER, RECOVERY_BUFFER + length - (length % this.#unit))
    registers.setSlotState('log', 'idle')
    let at = 0
    for (;;) {
      const entry = registers.entries + 1
      const size = unitsOf(entry) * this.#unit
      if (at + size > batch.length) break
      const crc = checkEntry(batch.subarray(at, at + size), entry, this.#tag, registers.previousCrc)
      if (crc === null) break
      registers.entries = entry
      registers.previousCrc = crc
      at += size
    }
    // Something was found: the next batch begins where this one stopped. Nothing: here the log ends.
    if (at > 0) this.#readLog()
    else this.#recovered(this.#judgeEnd(batch))
  }

  /** Behind the end there may be the next entry, torn, but nothing later: that would be an entry lost. */
  #judgeEnd(batch: Buffer): string {
    const next = this.#registers.entries + 1
    for (let at = 0; at + this.#unit <= batch.length; at += this.#unit) {
      const found = peekEntry(batch.subarray(at, at + this.#unit), this.#tag)
      if (found !== null && (found !== next || at !== 0)) return `damaged entry ${next} is missing, ${found} is there`
    }
    return 'intact'
  }

  #recovered(how: string): void {
    this.#registers.phase = 'running'
    this.#devices.say(`recovered ${this.#registers.entries} ${how}`)
  }

  #append(): void {
    const registers = this.#registers
    if (this.#devices.diskBytes === 0 || registers.logFull) return
    const perStep = (this.#parameters.writesPerSecond * this.#parameters.stepMs) / 1000
    // What could not be written in time is not made up for by a burst.
    registers.credit = Math.min(registers.credit + perStep, Math.max(2, 2 * perStep))
    switch (registers.slotState('log')) {
      case 'in-flight':
        return
      case 'failed':
        this.#retry('log', `write entry ${registers.entries + 1}`, () => this.#submitEntry())
        return
      case 'done':
        registers.setSlotState('log', 'idle')
        registers.entries++
        registers.previousCrc = registers.nextCrc
        this.#devices.say(`ack ${registers.entries}`)
    }
    if (registers.credit < 1 || registers.shutdownAsked) return
    const entry = registers.entries + 1
    const size = unitsOf(entry) * this.#unit
    if (this.#offsetOf(entry) + size > this.#logEnd) {
      registers.logFull = true
      this.#devices.say(`log full after ${registers.entries}`)
      return
    }
    registers.credit--
    const place = this.#memory.subarray(LOG_BUFFER, LOG_BUFFER + size)
    registers.nextCrc = encodeEntry(place, entry, this.#tag, registers.previousCrc, this.#unit)
    this.#submitEntry()
  }

  #submitEntry(): void {
    const entry = this.#registers.entries + 1
    this.#devices.submit('log', 'write', this.#offsetOf(entry), LOG_BUFFER, unitsOf(entry) * this.#unit)
  }

  #readBack(): void {
    const registers = this.#registers
    const state = registers.slotState('readBack')
    if (state === 'in-flight') return
    if (state === 'failed') {
      // It is not tried again: another entry's turn comes.
      registers.setSlotState('readBack', 'idle')
    } else if (state === 'done') {
      registers.setSlotState('readBack', 'idle')
      const entry = registers.slotValue('readBack')
      const found = this.#memory.subarray(READ_BUFFER, READ_BUFFER + unitsOf(entry) * this.#unit)
      if (checkEntry(found, entry, this.#tag, null) === null) this.#devices.say(`disk damaged entry ${entry}`)
    }
    if (registers.entries === 0 || !this.#due(this.#parameters.readBacksPerSecond)) return
    const entry = 1 + registers.draw(registers.entries)
    registers.setSlotValue('readBack', entry)
    this.#devices.submit('readBack', 'read', this.#offsetOf(entry), READ_BUFFER, unitsOf(entry) * this.#unit)
  }

  /** Two requests at a time, so that they overlap; most of them at the area's beginning, so that they meet. */
  #scratch(): void {
    if (this.#logEnd === LOG_START) return
    for (const slot of SCRATCH_SLOTS) {
      if (this.#registers.slotState(slot) === 'in-flight') continue
      this.#registers.setSlotState(slot, 'idle')
      if (this.#due(this.#parameters.trimsPerSecond)) {
        const offset = this.#logEnd
        this.#devices.submit(slot, 'trim', offset, SCRATCH_BUFFER[slot], this.#devices.diskBytes - offset)
      } else if (this.#due(this.#parameters.scratchPerSecond / SCRATCH_SLOTS.length)) this.#scratchOnce(slot)
    }
  }

  #scratchOnce(slot: ScratchSlot): void {
    const registers = this.#registers
    const unit = this.#unit
    const at = SCRATCH_BUFFER[slot]
    const operation = SCRATCH_OPERATIONS[registers.draw(SCRATCH_OPERATIONS.length)] ?? 'read'
    if (operation === 'flush') {
      this.#devices.submit(slot, operation, 0, at, 0)
      return
    }
    // What carries bytes has a buffer of a page; what does not may be longer.
    const most = Math.max(1, (operation === 'zero' || operation === 'trim' ? 4 * PAGE_BYTES : PAGE_BYTES) / unit)
    const units = 1 + registers.draw(registers.draw(2) === 0 ? Math.min(2, most) : most)
    const within = registers.draw(4) === 0 ? this.#devices.diskBytes - this.#logEnd : SCRATCH_BYTES
    const first = registers.draw(Math.floor(within / unit) - units + 1)
    if (operation === 'write') {
      for (let byte = 0; byte < units * unit; byte += 4) {
        this.#memory.writeUInt32LE(registers.draw(2 ** 32), at + byte)
      }
    }
    this.#devices.submit(slot, operation, this.#logEnd + first * unit, at, units * unit)
  }

  #retry(slot: SlotName, what: string, again: () => void): void {
    const registers = this.#registers
    const at = registers.slotValue(slot)
    if (at === 0) {
      this.#devices.say(`disk error ${what}`)
      registers.setSlotValue(slot, registers.steps + RETRY_STEPS)
    } else if (registers.steps >= at) {
      registers.setSlotValue(slot, 0)
      again()
    }
  }

  /** A chance per step that makes up this many a second. */
  #due(perSecond: number): boolean {
    return this.#registers.draw(1_000_000) < perSecond * this.#parameters.stepMs * 1000
  }
}
