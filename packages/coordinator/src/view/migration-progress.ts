// How far a live migration's copying is, and when it may be switched, from what the source counted last. Pure.

import type { CopyProgress } from '../core/state.ts'
import type { MigrationView } from './schemas.ts'

/** Null: the source has not said how much there is to copy. */
export function progressView(copy: CopyProgress): MigrationView['progress'] {
  const { round, totalBytes, leftBytes, bytesSent, bytesPerSecond, dirtyBytesPerSecond, forecastMs } = copy
  if (totalBytes === 0) return null
  return {
    round,
    // Rounded down: 100 only when nothing is left.
    percent: Math.floor((Math.max(0, totalBytes - leftBytes) / totalBytes) * 100),
    totalBytes,
    leftBytes,
    sentBytes: bytesSent,
    bytesPerSecond,
    dirtyBytesPerSecond,
    leftMs: leftMs(copy),
    pauseMs: forecastMs,
  }
}

/** What is dirtied meanwhile is sent again, what is dirtied during that too: a geometric series, if it shrinks. */
function leftMs({ leftBytes, bytesPerSecond, dirtyBytesPerSecond }: CopyProgress): number | null {
  if (leftBytes === 0) return 0
  const nearerPerSecond = bytesPerSecond - dirtyBytesPerSecond
  return bytesPerSecond > 0 && nearerPerSecond > 0 ? Math.round((leftBytes * 1000) / nearerPerSecond) : null
}
