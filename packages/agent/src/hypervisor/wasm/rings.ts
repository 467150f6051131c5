// The agent's end of the rings in a guest's memory. The guest may write anything there at any time, so every number read is
// checked before it is used: a broken ring ends its guest and nobody else.

import {
  BLOCK,
  BLOCK_COMPLETION_BYTES,
  BLOCK_COMPLETIONS,
  BLOCK_OPERATIONS,
  BLOCK_REQUEST_BYTES,
  BLOCK_REQUESTS,
  BLOCK_RING,
  type BlockOperation,
  CONSOLE_IN,
  CONSOLE_OUT,
  HEADER,
  MAX_FRAME_BYTES,
  NETWORK_IN,
  NETWORK_OUT,
  type RingPlace,
} from './layout.ts'

/** The guest broke the rules of a ring. */
export class RingViolation extends Error {}

export interface BlockRequest {
  readonly operation: BlockOperation
  readonly offset: number
  readonly address: number
  readonly length: number
  readonly label: bigint
}

const NEWLINE = 10

export class Rings {
  readonly #memory: Buffer
  readonly #view: DataView
  readonly #words: Int32Array

  constructor(memory: Buffer) {
    this.#memory = memory
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.length)
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4)
  }

  /** Stays asked: it goes with the guest's memory. */
  askToShutDown(): void {
    Atomics.store(this.#words, HEADER.shutdown / 4, 1)
  }

  // --- disk ----------------------------------------------------------------------------------------------------------

  /** The next request, or null. A request once taken is to be completed. */
  takeRequest(): BlockRequest | null {
    const submitted = this.#count(BLOCK.submitted)
    const taken = this.#count(BLOCK.taken)
    if (submitted === taken) return null
    if (distance(this.#count(BLOCK.seen), submitted) > BLOCK_RING) {
      throw new RingViolation(`more than ${BLOCK_RING} disk requests`)
    }
    const at = BLOCK_REQUESTS + (taken % BLOCK_RING) * BLOCK_REQUEST_BYTES
    const code = this.#view.getUint32(at, true)
    const operation = BLOCK_OPERATIONS[code]
    const length = this.#view.getUint32(at + 4, true)
    const offset = this.#view.getBigUint64(at + 8, true)
    const address = this.#view.getBigUint64(at + 16, true)
    const label = this.#view.getBigUint64(at + 24, true)
    if (operation === undefined) throw new RingViolation(`disk operation ${code}`)
    const moves = operation === 'read' || operation === 'write'
    if (moves && address + BigInt(length) > BigInt(this.#memory.length)) {
      throw new RingViolation(`a disk request for memory at ${address}, past the end`)
    }
    this.#setCount(BLOCK.taken, taken + 1)
    // Beyond 2^53 nothing is lost by rounding: it is past the end of any disk, which the disk's check says.
    return { operation, offset: Number(offset), address: moves ? Number(address) : 0, length, label }
  }

  complete(label: bigint, status: number): void {
    const completed = this.#count(BLOCK.completed)
    const at = BLOCK_COMPLETIONS + (completed % BLOCK_RING) * BLOCK_COMPLETION_BYTES
    this.#view.setBigUint64(at, label, true)
    this.#view.setUint32(at + 8, status, true)
    this.#setCount(BLOCK.completed, completed + 1)
  }

  // --- console and network ---------------------------------------------------------------------------------------------

  /** The next whole line, or null. */
  takeLine(): string | null {
    const waiting = this.#waiting(CONSOLE_OUT)
    const consumed = this.#count(CONSOLE_OUT.consumed)
    for (let n = 0; n < waiting; n++) {
      if (this.#byte(CONSOLE_OUT, consumed + n) !== NEWLINE) continue
      const line = this.#bytes(CONSOLE_OUT, consumed, n).toString('utf8')
      this.#setCount(CONSOLE_OUT.consumed, consumed + n + 1)
      return line
    }
    if (waiting === CONSOLE_OUT.bytes) throw new RingViolation(`a console line of more than ${waiting} bytes`)
    return null
  }

  get consoleIsCrowded(): boolean {
    return this.#isCrowded(CONSOLE_OUT)
  }

  /** With frames of the guest. */
  get networkIsCrowded(): boolean {
    return this.#isCrowded(NETWORK_OUT)
  }

  /** False if there is no room for it now. */
  putLine(line: string): boolean {
    return this.#put(CONSOLE_IN, Buffer.from(`${line.replaceAll('\n', ' ')}\n`, 'utf8'))
  }

  takeFrame(): Buffer | null {
    const waiting = this.#waiting(NETWORK_OUT)
    if (waiting < 2) return null
    const consumed = this.#count(NETWORK_OUT.consumed)
    const length = this.#byte(NETWORK_OUT, consumed) + this.#byte(NETWORK_OUT, consumed + 1) * 256
    if (length > MAX_FRAME_BYTES) throw new RingViolation(`a network frame of ${length} bytes`)
    if (waiting < length + 2) return null
    const frame = this.#bytes(NETWORK_OUT, consumed + 2, length)
    this.#setCount(NETWORK_OUT.consumed, consumed + 2 + length)
    return frame
  }

  putFrame(frame: Uint8Array): boolean {
    if (frame.length > MAX_FRAME_BYTES) return false
    const framed = Buffer.alloc(2 + frame.length)
    framed.writeUInt16LE(frame.length)
    framed.set(frame, 2)
    return this.#put(NETWORK_IN, framed)
  }

  // --- rings of bytes ----------------------------------------------------------------------------------------------------

  #put(ring: RingPlace, bytes: Buffer): boolean {
    if (ring.bytes - this.#waiting(ring) < bytes.length) return false
    const produced = this.#count(ring.produced)
    const at = produced % ring.bytes
    const first = Math.min(bytes.length, ring.bytes - at)
    this.#memory.set(bytes.subarray(0, first), ring.data + at)
    this.#memory.set(bytes.subarray(first), ring.data)
    this.#setCount(ring.produced, produced + bytes.length)
    return true
  }

  /** A guest may wait for as much room as three quarters of a ring: with less of it there is more waiting than this. */
  #isCrowded(ring: RingPlace): boolean {
    return this.#waiting(ring) > ring.bytes / 4
  }

  #waiting(ring: RingPlace): number {
    const waiting = distance(this.#count(ring.consumed), this.#count(ring.produced))
    if (waiting > ring.bytes) throw new RingViolation(`${waiting} bytes in a ring of ${ring.bytes}`)
    return waiting
  }

  #byte(ring: RingPlace, count: number): number {
    return this.#memory[ring.data + (count % ring.bytes)] ?? 0
  }

  #bytes(ring: RingPlace, from: number, length: number): Buffer {
    const at = from % ring.bytes
    const first = Math.min(length, ring.bytes - at)
    const bytes = Buffer.alloc(length)
    this.#memory.copy(bytes, 0, ring.data + at, ring.data + at + first)
    this.#memory.copy(bytes, first, ring.data, ring.data + length - first)
    return bytes
  }

  #count(at: number): number {
    return Atomics.load(this.#words, at / 4) >>> 0
  }

  #setCount(at: number, value: number): void {
    Atomics.store(this.#words, at / 4, value | 0)
  }
}

/** How far a wrapping counter is ahead of another. */
function distance(from: number, to: number): number {
  return (to - from) >>> 0
}
