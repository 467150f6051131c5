// Seeded randomness of the simulation: sfc32 under a key that is a path of names. Not for anything secret.

import type { Random } from '../environment.ts'

const ALPHABET = 'useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict'
const TWO_32 = 2 ** 32
const TWO_53 = 2 ** 53

/** 32-bit hash of a string with an avalanche at the end, so that near names give far seeds. */
function hash32(text: string, salt: number): number {
  let h = salt ^ text.length
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x9e3779b1) ^ (h >>> 15)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A fork depends on the names only, never on how much was drawn before it. */
export class SimRandom implements Random {
  readonly #key: string
  #a: number
  #b: number
  #c: number
  #counter = 1

  constructor(key: string) {
    this.#key = key
    this.#a = hash32(key, 0x243f6a88)
    this.#b = hash32(key, 0x13198a2e)
    this.#c = hash32(key, 0x03707344)
    for (let i = 0; i < 12; i++) this.#next()
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  float(): number {
    return ((this.#next() >>> 5) * 2 ** 26 + (this.#next() >>> 6)) / TWO_53
  }

  int(below: number): number {
    return below <= TWO_32 ? Math.floor((this.#next() / TWO_32) * below) : Math.floor(this.float() * below)
  }

  /** True with probability `p`. Draws nothing for 0, so that what is switched off changes no stream. */
  chance(p: number): boolean {
    return p > 0 && this.#next() / TWO_32 < p
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.#next() >>> 24
    return bytes
  }

  id(length = 12): string {
    let id = ''
    for (let i = 0; i < length; i++) id += ALPHABET[this.#next() >>> 26]
    return id
  }

  fork(name: string): SimRandom {
    return new SimRandom(`${this.#key}/${name}`)
  }
}
