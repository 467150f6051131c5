// The simulated QEMU's own migration stream, which those who pass it on know nothing of:
//
//   "QEVM" u32 version · records: u8 1, u32 page, its bytes | u8 2, u32 length, the state of its devices as JSON | u8 3: the end
//
// Numbers are big endian, as in QEMU's. It has no checksums: neither has QEMU's.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { PAGE_BYTES } from '../../precopy/state-checksum.ts'

const VERSION = 3
const HEADER_BYTES = 8
const PAGE = 1
const STATE = 2
const END = 3
const STATE_MAX_BYTES = 64 * 1024

export function streamHeader(): Buffer {
  const header = Buffer.from('QEVM\0\0\0\0', 'latin1')
  header.writeUInt32BE(VERSION, 4)
  return header
}

/** The head of a page's record; its bytes follow. */
export function pageHead(page: number): Buffer {
  return head(PAGE, page)
}

/** Everything behind the pages. */
export function streamEnd(state: Json): Buffer {
  const bytes = Buffer.from(JSON.stringify(state), 'utf8')
  return Buffer.concat([head(STATE, bytes.length), bytes, Buffer.from([END])])
}

function head(kind: number, value: number): Buffer {
  const bytes = Buffer.alloc(5)
  bytes[0] = kind
  bytes.writeUInt32BE(value, 1)
  return bytes
}

export class MigrationReader {
  readonly #memory: Buffer
  readonly #onState: (state: Json) => void
  #rest: Buffer = Buffer.alloc(0)
  #begun = false
  #ended = false

  constructor(memory: Buffer, onState: (state: Json) => void) {
    this.#memory = memory
    this.#onState = onState
  }

  /** True once the end was read. Throws `bad-stream`. */
  take(chunk: Uint8Array): boolean {
    this.#rest = Buffer.concat([this.#rest, chunk])
    while (!this.#ended) {
      const length = this.#next()
      if (length === 0) break
      this.#rest = this.#rest.subarray(length)
    }
    return this.#ended
  }

  /** Takes what is whole; how long it was, or 0. */
  #next(): number {
    const rest = this.#rest
    if (!this.#begun) {
      if (rest.length < HEADER_BYTES) return 0
      if (!streamHeader().equals(rest.subarray(0, HEADER_BYTES))) throw bad('Not a migration stream')
      this.#begun = true
      return HEADER_BYTES
    }
    const kind = rest[0]
    if (kind === undefined) return 0
    if (kind === END) {
      this.#ended = true
      return 1
    }
    if (rest.length < 5) return 0
    const value = rest.readUInt32BE(1)
    if (kind === PAGE) {
      if ((value + 1) * PAGE_BYTES > this.#memory.length) throw bad('Illegal RAM offset')
      if (rest.length < 5 + PAGE_BYTES) return 0
      this.#memory.set(rest.subarray(5, 5 + PAGE_BYTES), value * PAGE_BYTES)
      return 5 + PAGE_BYTES
    }
    if (kind !== STATE || value > STATE_MAX_BYTES) throw bad(`Unknown savevm section type ${kind}`)
    if (rest.length < 5 + value) return 0
    this.#onState(JSON.parse(rest.toString('utf8', 5, 5 + value)) as Json)
    return 5 + value
  }
}

function bad(why: string): StellwerkError {
  return new StellwerkError('bad-stream', why)
}
