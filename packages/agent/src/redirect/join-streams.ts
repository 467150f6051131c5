// Joins an io link's stream and a portal's: what one gives the other is written, with back-pressure both ways and nothing
// copied. Nothing is understood, kept or repeated: when either breaks the other is dropped at once, with all that was in it.

import type { ByteStream, Timers } from '@stellwerk/runtime/environment.ts'

/** How long the other side may take to end, once one has ended in order. */
const LINGER_MS = 2_000

export interface Joined {
  /** Bytes passed on so far, from the link to the portal and back. */
  readonly bytes: { readonly out: number; readonly in: number }
  drop(): void
}

export function joinStreams(link: ByteStream, portal: ByteStream, timers: Timers, onOver: () => void): Joined {
  const bytes = { out: 0, in: 0 }
  let over = false
  const ended = { link: false, portal: false }
  const drop = (): void => {
    if (over) return
    over = true
    link.destroy()
    portal.destroy()
    onOver()
  }
  const ends = (which: 'link' | 'portal', other: ByteStream): void => {
    if (over || ended[which]) return
    ended[which] = true
    other.end()
    if (ended.link && ended.portal) timers.after(LINGER_MS, drop)
  }
  const closes = (which: 'link' | 'portal', other: ByteStream, error: Error | null): void => {
    if (error !== null || !ended[which]) {
      drop()
      return
    }
    // In order: what it said last may still be on its way.
    ends(which === 'link' ? 'portal' : 'link', which === 'link' ? link : portal)
    if (other.bufferedBytes === 0) drop()
  }
  link.onDrain(() => portal.resume())
  portal.onDrain(() => link.resume())
  link.onEnd(() => ends('link', portal))
  portal.onEnd(() => ends('portal', link))
  link.onClose(error => closes('link', portal, error))
  portal.onClose(error => closes('portal', link, error))
  link.onData(chunk => {
    if (over) return
    bytes.out += chunk.byteLength
    if (!portal.write([chunk])) link.pause()
  })
  portal.onData(chunk => {
    if (over) return
    bytes.in += chunk.byteLength
    if (!link.write([chunk])) portal.pause()
  })
  return { bytes, drop }
}
