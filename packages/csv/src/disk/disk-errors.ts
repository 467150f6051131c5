// The errors of a disk as its host sees it: refused before anything was begun, or interrupted.

import { type BlockErrno, BlockError } from '@stellwerk/block/device.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

export function diskError(errno: BlockErrno, disk: string, what: string, cause?: unknown): BlockError {
  return new BlockError(errno, 'none', `disk ${disk}: ${what}`, {
    where: disk,
    ...(cause === undefined ? {} : { cause }),
  })
}

export function interrupted(disk: string): StellwerkError {
  return new StellwerkError('drain-interrupted', `disk ${disk} was resumed while it drained`, { where: disk })
}

/** The storage answered that it has no room: a part may be there, nothing more of it will come, and it may be tried again. */
export function isStorageFull(error: unknown): boolean {
  return error instanceof BlockError && error.errno === 'ENOSPC'
}

/** Of a write that failed. On a mirror also: its legs may differ there. */
export function mayStillLand(error: unknown): boolean {
  return !(error instanceof BlockError) || error.outcome === 'unknown'
}

/** Of one write tried twice: what is told of it must be true of the earlier try too. */
export function worse(later: unknown, earlier: unknown): unknown {
  if (!(later instanceof BlockError) || !(earlier instanceof BlockError) || earlier.outcome === 'none') return later
  if (later.outcome === 'unknown' || later.outcome === earlier.outcome) return later
  return new BlockError(later.errno, earlier.outcome, later.message, { cause: later })
}

/** Why a request does not fit its disk. */
export function misfit(
  disk: string,
  { offset, length }: { readonly offset: number; readonly length: number },
  { size, minimum, maximum }: { readonly size: number; readonly minimum: number; readonly maximum: number },
): BlockError {
  const isInside = offset >= 0 && offset + length <= size && offset % minimum === 0 && length % minimum === 0
  const what = isInside
    ? `a request of ${length} bytes is longer than ${maximum}`
    : `the range does not fit the disk: ${offset}+${length} of ${size}, in units of ${minimum}`
  return diskError('EINVAL', disk, what)
}
