// A link as a byte stream: what bulk transfers (migrations) use once a session has agreed on them. Frames carry bytes as
// they are; an empty frame is the end. A receiver that pauses gives no credit back, and so holds the sender.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import type { Session } from './session.ts'

/** Bytes queued beyond the link's window before `write` says to wait. */
export const BULK_HIGH_WATER = 256 * 1024

const END = new Uint8Array(0)

/** How what is written becomes frames. */
export interface BulkStreamOptions {
  /** Parts shorter than this are copied into one frame with their neighbours: many small ones cost more as frames. */
  readonly joinBelowBytes?: number
}

/** A joined frame is at most so long, and so is what a long part is cut into. */
const FRAME_BYTES = 256 * 1024

/** Takes the session's link over; the other side does the same. */
export function bulkStream(session: Session, { joinBelowBytes = 0 }: BulkStreamOptions = {}): ByteStream {
  const port = session.detach()
  let onData: ((chunk: Uint8Array) => void) | null = null
  let onEnd: () => void = () => undefined
  let onDrain: () => void = () => undefined
  let onClose: (error: Error | null) => void = () => undefined
  let waiting: { readonly frame: Uint8Array; readonly give: () => void }[] = []
  let paused = false
  let ended = false
  let endedThere = false
  let gone = false

  const take = (frame: Uint8Array): void => {
    if (frame.byteLength > 0) onData?.(frame)
    else {
      endedThere = true
      onEnd()
    }
  }
  const flow = (): void => {
    while (!paused && !gone && onData !== null) {
      const next = waiting.shift()
      if (next === undefined) return
      take(next.frame)
      next.give()
    }
  }
  port.onFrame = frame => {
    if (gone) return
    if (!paused && onData !== null && waiting.length === 0) return take(frame)
    return new Promise<void>(give => waiting.push({ frame, give }))
  }
  port.onClose = (code, reason) => {
    if (gone) return
    gone = true
    const complete = ended && endedThere
    onClose(complete || code === 'closed' ? null : new Error(`the bulk link is gone: ${reason || code}`))
  }
  port.onFlushed = () => onDrain()

  return {
    peer: session.peer.address,
    write: parts => {
      if (gone || ended) return true
      for (const frame of framesOf(parts, joinBelowBytes)) port.send(frame)
      return port.queuedBytes < BULK_HIGH_WATER
    },
    get bufferedBytes() {
      return port.queuedBytes
    },
    onDrain: f => {
      onDrain = f
    },
    onData: f => {
      onData = f
      // Not inside the caller's call, as with a socket: it may still be setting up what `f` uses.
      queueMicrotask(flow)
    },
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
      flow()
    },
    onEnd: f => {
      onEnd = f
    },
    onClose: f => {
      onClose = f
    },
    end: () => {
      if (gone || ended) return
      ended = true
      port.send(END)
    },
    destroy: () => {
      if (gone) return
      gone = true
      waiting = []
      port.close(ended && endedThere ? 'closed' : 'dropped', 'the stream was dropped')
    },
  }
}

/** The parts as frames: short neighbours joined, long parts cut but never copied. */
function framesOf(parts: readonly Uint8Array[], joinBelowBytes: number): Uint8Array[] {
  const frames: Uint8Array[] = []
  let run: Uint8Array[] = []
  let runBytes = 0
  const closeRun = (): void => {
    if (run.length > 0) frames.push(run.length === 1 ? run[0]! : Buffer.concat(run, runBytes))
    run = []
    runBytes = 0
  }
  for (const part of parts) {
    const length = part.byteLength
    if (length === 0) continue
    if (length < joinBelowBytes) {
      if (runBytes + length > FRAME_BYTES) closeRun()
      run.push(part)
      runBytes += length
      continue
    }
    closeRun()
    for (let at = 0; at < length; at += FRAME_BYTES) {
      frames.push(length <= FRAME_BYTES ? part : part.subarray(at, Math.min(length, at + FRAME_BYTES)))
    }
  }
  closeRun()
  return frames
}
