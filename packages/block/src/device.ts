// Everything that holds bytes is a BlockDevice: an NBD path, a multipath set, a mirror, a CSV disk. Layers compose.

import type { Cause } from '@stellwerk/runtime/environment.ts'
import { type ErrorDetails, StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Constraints on requests, as in NBD's block-size info: offsets and lengths are multiples of `minimum`. */
export interface Limits {
  readonly minimum: number
  readonly preferred: number
  /** The longest read or write; zero and trim may be longer. */
  readonly maximum: number
}

export interface Caps {
  readonly readOnly: boolean
  readonly flush: boolean
  readonly fua: boolean
  readonly trim: boolean
  readonly zero: boolean
  /** Zeroing that is no faster than writing is refused with ENOTSUP when asked to be fast. */
  readonly fastZero: boolean
  readonly blockStatus: boolean
  /** A flush on one connection covers what was acknowledged on any other. */
  readonly multiConn: boolean
}

/** What a device can do that can do all of it. */
export const FULL_CAPS: Caps = {
  readOnly: false,
  flush: true,
  fua: true,
  trim: true,
  zero: true,
  fastZero: true,
  blockStatus: true,
  multiConn: true,
}

/** Who asks, until when, and why; handed down through all layers unchanged. */
export interface Io {
  readonly origin: string
  /** On the process's monotonic clock; null: wait as long as it takes. */
  readonly deadlineAt: number | null
  readonly cause?: Cause
}

/** `waiting`: requests are held and will go on; `failed`: they are refused; `closed`: for good. */
export type DeviceState = 'up' | 'slow' | 'waiting' | 'failed' | 'closed'

/** A range and what is known of it (NBD's base:allocation): `hole` reads as zero if `zero` is set too. */
export interface BlockExtent {
  readonly length: number
  readonly hole: boolean
  readonly zero: boolean
}

/**
 * All methods reject with a BlockError. Buffers given to `write` are not copied: they must stay as they are until the
 * promise settles, then no layer looks at them again. A write that was not acknowledged may be there, in part, or not.
 */
export interface BlockDevice {
  /** Bytes. */
  readonly size: number
  readonly limits: Limits
  readonly caps: Caps
  /** Scattered: the parts' lengths add up to `length`; nobody joins them on the way. */
  read(offset: number, length: number, io: Io): Promise<Uint8Array[]>
  /** `fua`: on stable storage before the promise resolves. */
  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void>
  /** Every write acknowledged before this call is on stable storage when it resolves. */
  flush(io: Io): Promise<void>
  /** The range reads as zeroes. `noHole`: and stays allocated; `fast`: refuse with ENOTSUP rather than be slow. */
  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void>
  /** The range's contents are of no more use; it reads as before or as zeroes. */
  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void>
  /** Covers at least the start of the range; lengths add up to at most `length` (but at least one extent). */
  blockStatus?(offset: number, length: number, io: Io): Promise<BlockExtent[]>
  /** Several listeners; called on every change. */
  onState(listener: (state: DeviceState, reason: string) => void): void
  /** Waits for the requests in flight, then closes what lies below. Idempotent. */
  close(): Promise<void>
}

/** The errors a disk can give, as NBD and the kernel know them. */
export type BlockErrno = 'EPERM' | 'EIO' | 'ENOMEM' | 'EINVAL' | 'ENOSPC' | 'EOVERFLOW' | 'ENOTSUP' | 'ESHUTDOWN'

export type Outcome = 'none' | 'partial' | 'unknown'

/**
 * `code` is the errno. `outcome` tells what is known of a failed write: `none` (surely not done: refused before it was
 * started), `partial` (answered with an error: some of it may be there, but nothing more of it will come) or `unknown`
 * (it may be there, now or later, until the session was raised).
 */
export class BlockError extends StellwerkError {
  readonly errno: BlockErrno
  readonly outcome: Outcome

  constructor(errno: BlockErrno, outcome: Outcome, message: string, details: ErrorDetails = {}) {
    super(errno, message, details)
    this.name = 'BlockError'
    this.errno = errno
    this.outcome = outcome
  }
}

/** A spot of the medium cannot be read: asking again, or another way, is of no use. */
export function isUnreadable(error: unknown): error is BlockError {
  return error instanceof BlockError && error.errno === 'EIO' && !error.retryable
}
