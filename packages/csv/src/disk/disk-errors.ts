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
