// An in-process byte stream: what is written at one end comes out at the other, with a bound on what lies between. The
// source of a migration hands out its reading end. No frames, no copying.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

/** Above this `write` says false; a writer that heeds it leaves at most one write more. */
export const PIPE_HIGH_WATER_BYTES = MIB

export interface Pipe {
  readonly reader: ByteStream
  readonly writer: ByteStream
}

export function createPipe(name: string, highWaterBytes: number = PIPE_HIGH_WATER_BYTES): Pipe {
  const queue: Uint8Array[] = []
  let buffered = 0
  let wantsDrain = false
  let flowing = false
  let scheduled = false
  let ended = false
  let endTold = false
  let gone = false
  let onData: ((chunk: Uint8Array) => void) | null = null
  let onEnd: (() => void) | null = null
  let onDrain: (() => void) | null = null
  const onClose: { reader: ((error: Error | null) => void) | null; writer: ((error: Error | null) => void) | null } = {
    reader: null,
    writer: null,
  }

  // Delivery waits for the current turn to end, so that neither end is called from inside its own call.
  const schedule = (): void => {
    if (scheduled || !flowing || gone) return
    scheduled = true
    queueMicrotask(() => {
      scheduled = false
      deliver()
    })
  }
  const deliver = (): void => {
    while (flowing && !gone && onData !== null) {
      const chunk = queue.shift()
      if (chunk === undefined) break
      buffered -= chunk.length
      onData(chunk)
    }
    if (gone) return
    if (wantsDrain && buffered < highWaterBytes / 2) {
      wantsDrain = false
      onDrain?.()
    }
    if (ended && flowing && queue.length === 0 && !endTold) {
      endTold = true
      onEnd?.()
    }
  }
  const destroy = (by: 'reader' | 'writer'): void => {
    if (gone) return
    gone = true
    queue.length = 0
    buffered = 0
    const other = by === 'reader' ? 'writer' : 'reader'
    const complete = ended && endTold
    queueMicrotask(() => onClose[other]?.(complete ? null : new Error(`${name}: the ${by} dropped the stream`)))
  }

  const reader: ByteStream = {
    peer: name,
    write: () => assert(false, `${name}: the reading end takes no bytes`) as never,
    bufferedBytes: 0,
    onDrain: () => undefined,
    onData: f => {
      onData = f
      flowing = true
      schedule()
    },
    pause: () => {
      flowing = false
    },
    resume: () => {
      flowing = onData !== null
      schedule()
    },
    onEnd: f => {
      onEnd = f
    },
    onClose: f => {
      onClose.reader = f
    },
    end: () => undefined,
    destroy: () => destroy('reader'),
  }
  const writer: ByteStream = {
    peer: name,
    write: parts => {
      assert(!ended, `${name}: written after its end`)
      if (gone) return true
      for (const part of parts) {
        if (part.length === 0) continue
        queue.push(part)
        buffered += part.length
      }
      schedule()
      if (buffered >= highWaterBytes) wantsDrain = true
      return buffered < highWaterBytes
    },
    get bufferedBytes() {
      return buffered
    },
    onDrain: f => {
      onDrain = f
    },
    onData: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    onEnd: () => undefined,
    onClose: f => {
      onClose.writer = f
    },
    end: () => {
      ended = true
      schedule()
    },
    destroy: () => destroy('writer'),
  }
  return { reader, writer }
}
