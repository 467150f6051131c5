// One request of a mirror: which legs have done it, which are at it, and which refused.

import type { BlockDevice, BlockError, Io } from '../device.ts'
import type { RequestKind } from '../path/request.ts'

export type MirrorRequestKind = RequestKind

export interface MirrorRequestFlags {
  readonly fua?: true
  readonly noHole?: true
  readonly fast?: true
}

export class MirrorRequest {
  readonly kind: MirrorRequestKind
  readonly offset: number
  readonly length: number
  readonly data: readonly Uint8Array[] | null
  flags: MirrorRequestFlags
  readonly io: Io
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
  /** Bits of legs. */
  done = 0
  sent = 0
  failed = 0
  /** Bits of legs that could zero the range only slowly: nothing was changed there. */
  declined = 0
  /** Some leg may have done it in part, or may do so yet, though it did not say that it has. */
  mayHaveLanded = false
  /** It has been sent somewhere at some time: what became of it there is not sure unless that leg answered. */
  everSent = false
  error: BlockError | null = null
  /** A read that has its bytes: they are being written anew where they could not be read. */
  mending = false
  /** When it first had to wait for a leg. On the monotonic clock. */
  readonly since: number
  /** Among those in flight. */
  place = -1

  constructor(
    kind: MirrorRequestKind,
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    flags: MirrorRequestFlags,
    io: Io,
    since: number,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.kind = kind
    this.offset = offset
    this.length = length
    this.data = data
    this.flags = flags
    this.io = io
    this.since = since
    this.resolve = resolve
    this.reject = reject
  }

  /** Changes what is on the disk, so every leg must do it; a flush too must be done by all. */
  get isChange(): boolean {
    return this.kind !== 'read' && this.kind !== 'status'
  }

  /** Whether the error says no more than that a leg can't do it as fast as was asked. */
  isDeclinedBy({ errno, outcome }: BlockError): boolean {
    return this.flags.fast === true && outcome === 'none' && (errno === 'ENOTSUP' || errno === 'EINVAL')
  }

  /** From here on it may take the time that it takes. */
  takeItsTime(): void {
    const { fast, ...others } = this.flags
    this.flags = others
    this.declined = 0
    if (this.failed === 0) this.error = null
  }

  run(device: BlockDevice): Promise<unknown> {
    switch (this.kind) {
      case 'read':
        return device.read(this.offset, this.length, this.io)
      case 'write':
        return device.write(this.offset, this.data!, this.flags, this.io)
      case 'flush':
        return device.flush(this.io)
      case 'zero':
        return device.zero(this.offset, this.length, this.flags, this.io)
      case 'trim':
        return device.trim(this.offset, this.length, this.flags, this.io)
      case 'status':
        return device.blockStatus!(this.offset, this.length, this.io)
    }
  }
}
