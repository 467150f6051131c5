// One request of a multipath device: what it takes to send it, and to send it again.

import type { BlockDevice, Io } from '../device.ts'

export type RequestKind = 'read' | 'write' | 'flush' | 'zero' | 'trim' | 'status'

/** Those whose late effect would be seen. */
export function isMutating(kind: RequestKind): boolean {
  return kind === 'write' || kind === 'zero' || kind === 'trim'
}

export class MultipathRequest {
  readonly kind: RequestKind
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
  /** The highest session in which it was sent with an unknown outcome; -1: none. */
  unknownIn = -1
  /** On the monotonic clock. */
  sentAt = 0
  /** When it was first sent, or had to wait; null: it is on its way to that. */
  askedAt: number | null = null
  /** Among those in flight on its connection; -1: not in flight. */
  place = -1
  readonly #offset: number
  readonly #length: number
  readonly #data: readonly Uint8Array[] | null
  readonly #flags: object
  readonly #io: Io

  constructor(
    kind: RequestKind,
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    flags: object,
    io: Io,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.kind = kind
    this.#offset = offset
    this.#length = length
    this.#data = data
    this.#flags = flags
    this.#io = io
    this.resolve = resolve
    this.reject = reject
  }

  run(device: BlockDevice): Promise<unknown> {
    switch (this.kind) {
      case 'read':
        return device.read(this.#offset, this.#length, this.#io)
      case 'write':
        return device.write(this.#offset, this.#data!, this.#flags, this.#io)
      case 'flush':
        return device.flush(this.#io)
      case 'zero':
        return device.zero(this.#offset, this.#length, this.#flags, this.#io)
      case 'trim':
        return device.trim(this.#offset, this.#length, this.#flags, this.#io)
      case 'status':
        return device.blockStatus!(this.#offset, this.#length, this.#io)
    }
  }
}
