// The model guest's memory: everything it knows stands in there, so that copying the memory copies the guest. Names for
// the places, nothing more.

import { PAGE_BYTES } from '../precopy/state-checksum.ts'

/** The largest block of a disk it can use; an entry is two of them at most. */
export const MAX_UNIT_BYTES = PAGE_BYTES
/** Page 0 holds the registers; then what is written, what is read back, the recovery buffer, a table; then work pages. */
export const LOG_BUFFER = PAGE_BYTES
const SCRATCH_BUFFERS = LOG_BUFFER + 2 * MAX_UNIT_BYTES
export const SCRATCH_SLOTS = ['scratch', 'overlap'] as const
export type ScratchSlot = (typeof SCRATCH_SLOTS)[number]
export const SCRATCH_BUFFER: { readonly [slot in ScratchSlot]: number } = {
  scratch: SCRATCH_BUFFERS,
  overlap: SCRATCH_BUFFERS + MAX_UNIT_BYTES,
}
export const READ_BUFFER = SCRATCH_BUFFERS + 2 * MAX_UNIT_BYTES
export const RECOVERY_BUFFER = READ_BUFFER + 2 * MAX_UNIT_BYTES
export const RECOVERY_BYTES = 64 * 1024
/** The sequence number last stored in each work page. */
export const TABLE = RECOVERY_BUFFER + RECOVERY_BYTES
export const FIRST_WORK_PAGE = TABLE / PAGE_BYTES + 1
export const MIN_PAGES = FIRST_WORK_PAGE + 1
export const MAX_PAGES = FIRST_WORK_PAGE + PAGE_BYTES / 8

export type Phase = 'boot' | 'recovering' | 'running'
const PHASES: readonly Phase[] = ['boot', 'recovering', 'running']

export type SlotName = 'log' | 'readBack' | ScratchSlot
const SLOT_AT: { readonly [name in SlotName]: number } = { log: 256, readBack: 320, scratch: 384, overlap: 448 }

export type SlotState = 'idle' | 'in-flight' | 'done' | 'failed'
const SLOT_STATES: readonly SlotState[] = ['idle', 'in-flight', 'done', 'failed']

/** Typed access to page 0. */
export class Registers {
  readonly #view: DataView

  constructor(memory: Buffer) {
    this.#view = new DataView(memory.buffer, memory.byteOffset, PAGE_BYTES)
  }

  get phase(): Phase {
    return PHASES[this.#view.getUint32(0, true)] ?? 'boot'
  }

  set phase(phase: Phase) {
    this.#view.setUint32(0, PHASES.indexOf(phase), true)
  }

  /** Steps executed since boot: the guest's own clock. */
  get steps(): number {
    return this.#view.getFloat64(8, true)
  }

  set steps(value: number) {
    this.#view.setFloat64(8, value, true)
  }

  /** The last entry that is known to be on the disk. */
  get entries(): number {
    return this.#view.getFloat64(16, true)
  }

  set entries(value: number) {
    this.#view.setFloat64(16, value, true)
  }

  get previousCrc(): number {
    return this.#view.getUint32(24, true)
  }

  set previousCrc(value: number) {
    this.#view.setUint32(24, value, true)
  }

  /** The CRC of the entry being written: `previousCrc` once it is done. */
  get nextCrc(): number {
    return this.#view.getUint32(28, true)
  }

  set nextCrc(value: number) {
    this.#view.setUint32(28, value, true)
  }

  /** Entries that are due, in fractions. */
  get credit(): number {
    return this.#view.getFloat64(32, true)
  }

  set credit(value: number) {
    this.#view.setFloat64(32, value, true)
  }

  get sequence(): number {
    return this.#view.getFloat64(40, true)
  }

  set sequence(value: number) {
    this.#view.setFloat64(40, value, true)
  }

  get packets(): number {
    return this.#view.getFloat64(48, true)
  }

  set packets(value: number) {
    this.#view.setFloat64(48, value, true)
  }

  /** State of the guest's own random numbers; never 0. */
  get random(): number {
    return this.#view.getUint32(56, true)
  }

  set random(value: number) {
    this.#view.setUint32(56, value, true)
  }

  /** Set once the log has no room left. */
  get logFull(): boolean {
    return this.#view.getUint32(60, true) === 1
  }

  set logFull(value: boolean) {
    this.#view.setUint32(60, value ? 1 : 0, true)
  }

  /** Set by the machine: the guest is to end its work and halt. */
  get shutdownAsked(): boolean {
    return this.#view.getUint32(64, true) === 1
  }

  set shutdownAsked(value: boolean) {
    this.#view.setUint32(64, value ? 1 : 0, true)
  }

  slotState(slot: SlotName): SlotState {
    return SLOT_STATES[this.#view.getUint32(SLOT_AT[slot], true)] ?? 'idle'
  }

  setSlotState(slot: SlotName, state: SlotState): void {
    this.#view.setUint32(SLOT_AT[slot], SLOT_STATES.indexOf(state), true)
  }

  /** What the slot is about: the entry read back, the step from which a failed request is tried again. */
  slotValue(slot: SlotName): number {
    return this.#view.getFloat64(SLOT_AT[slot] + 8, true)
  }

  setSlotValue(slot: SlotName, value: number): void {
    this.#view.setFloat64(SLOT_AT[slot] + 8, value, true)
  }

  /** A number below `below`, from the guest's own stream. */
  draw(below: number): number {
    let x = this.random
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.random = x >>> 0
    return (x >>> 0) % below
  }
}
