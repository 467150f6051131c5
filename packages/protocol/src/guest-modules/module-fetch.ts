// Fetches a guest module piece by piece from somebody who has it, over links that come and go: it goes on where it stopped,
// begins anew when what came is not what was asked for, and gives the whole only when its digest is right.

import type { Timers } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { digestOf, guestOfDigest, MAX_MODULE_BYTES } from './module-shelf.ts'

/** Between two tries after a failure. */
const RETRY_MS = 250
/** A source whose bytes were wrong so often has no good ones. */
const MAX_WRONG = 3

export interface FetchOptions {
  readonly digest: string
  /** One piece from there on; shorter than what is left, but not empty. */
  readonly read: (offset: number) => Promise<{ readonly sizeBytes: number; readonly data: Uint8Array }>
  readonly timers: Timers
  readonly signal: AbortSignal
  /** Failed reads in a row before it gives up, with the last one's error. Default: never. */
  readonly patience?: number
  /** It does not come on, and why. */
  readonly onTrouble?: (why: string) => void
}

/** Rejects with `cancelled`, `corrupt-guest`, or when patience is over. */
export async function fetchModule(options: FetchOptions): Promise<Uint8Array> {
  const { digest, read, timers, signal, patience = Number.POSITIVE_INFINITY, onTrouble } = options
  let whole: Uint8Array | null = null
  let at = 0
  let failures = 0
  let wrong = 0
  for (;;) {
    if (signal.aborted) throw new StellwerkError('cancelled', 'nobody waits for the guest module any more')
    let piece: Awaited<ReturnType<typeof read>>
    try {
      piece = await read(at)
      failures = 0
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      failures += 1
      if (failures >= patience) throw error
      onTrouble?.(errorMessage(error))
      // Who no longer has it may get it anew, perhaps other than it was: nothing of it is kept.
      if (errorCode(error) === 'guest-missing') whole = null
      if (whole === null) at = 0
      await new Promise<void>(resolve => timers.after(RETRY_MS, resolve))
      continue
    }
    const { sizeBytes, data } = piece
    const fits = sizeBytes > 0 && sizeBytes <= MAX_MODULE_BYTES && data.length > 0 && at + data.length <= sizeBytes
    if (fits && (whole === null || whole.length === sizeBytes)) {
      whole ??= new Uint8Array(sizeBytes)
      whole.set(data, at)
      at += data.length
      if (at < sizeBytes) continue
      if (digestOf(whole) === digest) return whole
    }
    whole = null
    at = 0
    wrong += 1
    if (wrong >= MAX_WRONG) {
      throw new StellwerkError('corrupt-guest', `what comes for guest module ${guestOfDigest(digest)} is another`, {
        hint: 'see the logs of who sent it; define the VM again from the module’s file',
      })
    }
    await new Promise<void>(resolve => timers.after(RETRY_MS, resolve))
  }
}
