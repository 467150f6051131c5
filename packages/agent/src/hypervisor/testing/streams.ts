// Byte streams that misbehave on the way, for tests: slow, damaged, cut.

import type { ByteStream, Timers } from '@stellwerk/runtime/environment.ts'
import { createPipe } from '../precopy/pipe.ts'

/** Between two looks at what a paced link may carry. */
const PACE_MS = 1

/** The stream, never more than `allowedBytes()` of it so far, a chunk apart. Back-pressure reaches the source. */
export function paced(timers: Timers, source: ByteStream, allowedBytes: () => number): ByteStream {
  const pipe = createPipe('slow link', 1)
  let carried = 0
  const pass = (chunk: Uint8Array): void => {
    if (carried >= allowedBytes()) {
      timers.after(PACE_MS, () => pass(chunk))
      return
    }
    carried += chunk.length
    if (pipe.writer.write([chunk])) source.resume()
  }
  source.onData(chunk => {
    source.pause()
    pass(chunk)
  })
  pipe.writer.onDrain(() => source.resume())
  source.onEnd(() => timers.after(0, () => pipe.writer.end()))
  source.onClose(() => pipe.writer.destroy())
  pipe.writer.onClose(() => source.destroy())
  return pipe.reader
}

/** The stream with each chunk passed through `change`, which may cut it short: null ends the stream there. */
export function changed(source: ByteStream, change: (chunk: Uint8Array, at: number) => Uint8Array | null): ByteStream {
  const pipe = createPipe('changed link')
  let at = 0
  let cut = false
  source.onData(chunk => {
    if (cut) return
    const passed = change(chunk, at)
    at += chunk.length
    if (passed !== null) {
      pipe.writer.write([passed])
      return
    }
    cut = true
    pipe.writer.end()
  })
  source.onEnd(() => {
    if (!cut) pipe.writer.end()
  })
  source.onClose(() => pipe.writer.destroy())
  return pipe.reader
}
