// What a server must refuse before a request reaches its device, and with which error. Pure.

import type { BlockDevice, BlockErrno } from '../device.ts'
import {
  CMD_BLOCK_STATUS,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  MAX_REQUEST_BYTES,
} from './wire.ts'

export interface Request {
  readonly type: number
  readonly flags: number
  readonly cookieHi: number
  readonly cookieLo: number
  /** Exact below 2^53; above that still above every size there is. */
  readonly offset: number
  readonly length: number
}

export interface Refused {
  readonly errno: BlockErrno
  readonly message: string
}

/** Null: the device may have it. */
export function checkRequest(
  request: Request,
  device: Pick<BlockDevice, 'size' | 'limits' | 'caps'>,
  structured: boolean,
  blockStatus: boolean,
): Refused | null {
  const { type, offset, length } = request
  const { caps, limits, size } = device
  const allowed = allowedFlags(type, device, structured, blockStatus)
  if (allowed < 0) return refuse('EINVAL', `command ${type} is not supported`)
  const mutating = type === CMD_WRITE || type === CMD_TRIM || type === CMD_WRITE_ZEROES
  if (mutating && caps.readOnly) return refuse('EPERM', 'the export is read-only')
  if ((request.flags & ~allowed) !== 0) {
    return refuse('EINVAL', `flags 0x${request.flags.toString(16)} do not fit command ${type}`)
  }
  if (type === CMD_FLUSH) {
    return offset === 0 && length === 0 ? null : refuse('EINVAL', 'a flush has neither offset nor length')
  }
  if (offset > size || length > size - offset) {
    const errno = type === CMD_WRITE || type === CMD_WRITE_ZEROES ? 'ENOSPC' : 'EINVAL'
    return refuse(errno, `${length} bytes at ${offset} reach past the end at ${size}`)
  }
  if (type === CMD_READ || type === CMD_WRITE) {
    const maximum = Math.min(limits.maximum, MAX_REQUEST_BYTES)
    if (length > maximum) return refuse('EINVAL', `${length} bytes are more than the maximum of ${maximum}`)
  }
  if (limits.minimum > 1 && (offset % limits.minimum !== 0 || length % limits.minimum !== 0)) {
    return refuse('EINVAL', `${length} bytes at ${offset} are not aligned to ${limits.minimum}`)
  }
  // A status reply must describe at least one byte, which an empty range does not have.
  if (type === CMD_BLOCK_STATUS && length === 0) return refuse('EINVAL', 'the status of no bytes')
  return null
}

/** The command's flags, or -1 if the command may not be used. FUA is valid on all of them where it was offered. */
function allowedFlags(
  type: number,
  device: Pick<BlockDevice, 'caps'>,
  structured: boolean,
  blockStatus: boolean,
): number {
  const { caps } = device
  const fua = caps.fua ? CMD_FLAG_FUA : 0
  switch (type) {
    case CMD_READ:
      return fua | (structured ? CMD_FLAG_DF : 0)
    case CMD_WRITE:
      return fua
    case CMD_FLUSH:
      return caps.flush ? fua : -1
    case CMD_TRIM:
      return caps.trim ? fua : -1
    case CMD_WRITE_ZEROES:
      return caps.zero ? fua | CMD_FLAG_NO_HOLE | (caps.fastZero ? CMD_FLAG_FAST_ZERO : 0) : -1
    case CMD_BLOCK_STATUS:
      return blockStatus ? fua | CMD_FLAG_REQ_ONE : -1
    default:
      return -1
  }
}

function refuse(errno: BlockErrno, message: string): Refused {
  return { errno, message }
}
