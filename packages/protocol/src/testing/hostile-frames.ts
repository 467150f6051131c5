// Frames that nobody of good will sends: random ones of any length that a link takes, and mutations of every message of every
// family. The same ones again for the same seed.

import { LINK_FRAME_MAX_BYTES } from '@stellwerk/runtime/credited-link.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import fc from 'fast-check'
import { createCodec } from '../codec.ts'
import { registry } from '../messages/family.ts'
import { arbitraryOf } from './schema-arbitrary.ts'

/** One in so many is of any length up to the limit; most are short, where headers are. */
const LARGE_ONE_IN = 250
const SHORT_BYTES = 64

export class HostileFrames {
  readonly #random: SimRandom
  readonly #valid: readonly Uint8Array[]
  /** What large ones are cut from: to draw each of their bytes anew would take all of the time. */
  readonly #noise: Uint8Array
  readonly #maxBytes: number
  #count = 0

  /** `seq`: of the messages that are mutated. */
  constructor(seed: string, maxBytes = LINK_FRAME_MAX_BYTES.bulk, seq = 1) {
    this.#random = new SimRandom(seed)
    this.#maxBytes = maxBytes
    this.#valid = samples(seq)
    this.#noise = Uint8Array.from({ length: maxBytes }, () => this.#random.int(256))
  }

  next(): Uint8Array {
    const number = this.#count
    this.#count += 1
    if (number % LARGE_ONE_IN === 0) return this.#large(number % (2 * LARGE_ONE_IN) === 0)
    if (number % 4 === 0) return Uint8Array.from({ length: this.#below(SHORT_BYTES) }, () => this.#below(256))
    const frame = new Uint8Array(this.#anyValid())
    for (let n = this.#below(4); n >= 0; n -= 1) frame[this.#below(frame.length)] = this.#below(256)
    if (number % 16 === 1) return frame.subarray(0, this.#below(frame.length))
    if (number % 16 === 2) return Buffer.concat([frame, this.#anyValid()])
    return frame
  }

  /** Each length's order of magnitude as often as any other. */
  #large(beginsWell: boolean): Uint8Array {
    const length = Math.floor(SHORT_BYTES * (this.#maxBytes / SHORT_BYTES) ** this.#random.float())
    const from = this.#below(this.#maxBytes - length + 1)
    const frame = this.#noise.slice(from, from + length)
    if (beginsWell) frame.set(this.#anyValid().subarray(0, length))
    return frame
  }

  #anyValid(): Uint8Array {
    return this.#valid[this.#below(this.#valid.length)]!
  }

  #below(limit: number): number {
    return this.#random.int(limit)
  }
}

function samples(seq: number): Uint8Array[] {
  const codec = createCodec()
  return registry.all().flatMap(message => {
    const [body] = fc.sample(arbitraryOf(message.request.schema), { seed: 7, numRuns: 1 })
    const [hlc, cause] = [
      { wallMs: 1, counter: 2 },
      { process: 'a', seq: 9 },
    ]
    return codec.encode({ v: 1, kind: message.kind, from: 'a/b', to: 'c', seq, hlc, cause, body })
  })
}
