// Joins two byte streams: what one gives, the other is written, with back-pressure all the way and nothing copied.

import type { ByteStream } from '@stellwerk/runtime/environment.ts'

/** Ends in order when `from` does; drops both when either breaks. */
export function relay(from: ByteStream, to: ByteStream): void {
  let over = false
  const drop = (): void => {
    if (over) return
    over = true
    from.destroy()
    to.destroy()
  }
  to.onDrain(() => from.resume())
  to.onClose(drop)
  from.onClose(error => {
    if (error !== null) drop()
  })
  from.onEnd(() => {
    if (!over) to.end()
  })
  from.onData(chunk => {
    if (!over && !to.write([chunk])) from.pause()
  })
}
