// Joins two streams, a near one and a far one (an io link's and a portal's, a viewer's and a screen's): what one gives the other is
// written, with back-pressure both ways and nothing copied. Nothing is understood, kept or repeated: when either breaks the other is dropped at once, with all that was in it.

import type { ByteStream, Timers } from '@stellwerk/runtime/environment.ts'

/** How long the other side may take to end, once one has ended in order. */
const LINGER_MS = 2_000

export interface Joined {
  /** Bytes passed on so far, from near to far and back. */
  readonly bytes: { readonly out: number; readonly in: number }
  drop(): void
}

export function joinStreams(near: ByteStream, far: ByteStream, timers: Timers, onOver: () => void): Joined {
  const bytes = { out: 0, in: 0 }
  let over = false
  const ended = { near: false, far: false }
  const drop = (): void => {
    if (over) return
    over = true
    near.destroy()
    far.destroy()
    onOver()
  }
  const ends = (which: 'near' | 'far', other: ByteStream): void => {
    if (over || ended[which]) return
    ended[which] = true
    other.end()
    if (ended.near && ended.far) timers.after(LINGER_MS, drop)
  }
  const closes = (which: 'near' | 'far', other: ByteStream, error: Error | null): void => {
    if (error !== null || !ended[which]) {
      drop()
      return
    }
    // In order: what it said last may still be on its way.
    ends(which === 'near' ? 'far' : 'near', which === 'near' ? near : far)
    if (other.bufferedBytes === 0) drop()
  }
  near.onDrain(() => far.resume())
  far.onDrain(() => near.resume())
  near.onEnd(() => ends('near', far))
  far.onEnd(() => ends('far', near))
  near.onClose(error => closes('near', far, error))
  far.onClose(error => closes('far', near, error))
  near.onData(chunk => {
    if (over) return
    bytes.out += chunk.byteLength
    if (!far.write([chunk])) near.pause()
  })
  far.onData(chunk => {
    if (over) return
    bytes.in += chunk.byteLength
    if (!near.write([chunk])) far.pause()
  })
  return { bytes, drop }
}
