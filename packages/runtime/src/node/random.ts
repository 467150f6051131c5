// Randomness of the real environment: a keystream of AES-256 in counter mode, keyed by the system's generator. So it can be
// forked by name like the simulated one, and tokens and ids drawn from it can't be guessed.

import { type Cipheriv, createCipheriv, createHmac, randomBytes } from 'node:crypto'
import { urlAlphabet } from 'nanoid'
import { assert } from '../assert.ts'
import type { Random } from '../environment.ts'

const KEY_BYTES = 32
const IV = new Uint8Array(16)
const BUFFER_BYTES = 1024
const ZEROES = new Uint8Array(BUFFER_BYTES)
const ID_LENGTH = 12

export function createRandom(key: Uint8Array = randomBytes(KEY_BYTES)): Random {
  assert(key.byteLength === KEY_BYTES, 'a random stream has a key of 32 bytes')
  return new KeyedRandom(key)
}

class KeyedRandom implements Random {
  readonly #key: Uint8Array
  readonly #cipher: Cipheriv
  #buffer = Buffer.alloc(0)
  #position = 0

  constructor(key: Uint8Array) {
    this.#key = key
    this.#cipher = createCipheriv('aes-256-ctr', key, IV)
  }

  float(): number {
    // 53 bits, as many as a double's fraction holds.
    return (this.#word() * 2 ** 21 + (this.#word() >>> 11)) / 2 ** 53
  }

  int(below: number): number {
    assert(Number.isSafeInteger(below) && below > 0, 'a random integer has a positive bound')
    return Math.floor(this.float() * below)
  }

  bytes(length: number): Uint8Array {
    return new Uint8Array(this.#cipher.update(new Uint8Array(length)))
  }

  id(length = ID_LENGTH): string {
    const bytes = this.bytes(length)
    let id = ''
    // The alphabet has 64 characters, so six bits choose one evenly.
    for (const byte of bytes) id += urlAlphabet[byte & 63]
    return id
  }

  fork(name: string): Random {
    return new KeyedRandom(createHmac('sha256', this.#key).update(name).digest())
  }

  #word(): number {
    if (this.#position === this.#buffer.length) {
      this.#buffer = this.#cipher.update(ZEROES)
      this.#position = 0
    }
    const word = this.#buffer.readUInt32LE(this.#position)
    this.#position += 4
    return word
  }
}
