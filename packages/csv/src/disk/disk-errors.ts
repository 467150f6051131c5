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
