// A link with callbacks that can be handed from the handshake to the session, and a bounded queue for what the link's
// credit does not let out at once.
import type { Link, LinkClass } from '@stellwerk/runtime/environment.ts'

/** Frames, and their bytes, that may wait for credit. Notices and requests past it are refused. */
export const MAX_QUEUED_FRAMES = 4096
export const MAX_QUEUED_BYTES = 8 * 1024 * 1024
/** Replies get twice as much; past that the other side is not reading, and the link closes with `peer-too-slow`. */
export const REPLY_ROOM = 2

export class SessionPort {
  readonly class: LinkClass
  readonly peer: string
  /** Credit goes back when it has returned, or when the promise it returned has resolved. */
  onFrame: (frame: Uint8Array) => void | Promise<void>
  onClose: (code: string, reason: string) => void
  /** The queue is empty again. */
  onFlushed: () => void = () => undefined
  readonly #link: Link
  readonly #queue: Uint8Array[] = []
  #queuedBytes = 0
  #closed = false

  constructor(link: Link, onFrame: (frame: Uint8Array) => void, onClose: (code: string, reason: string) => void) {
    this.#link = link
    this.class = link.class
    this.peer = link.peer
    this.onFrame = onFrame
    this.onClose = onClose
    link.onFrame(frame => (this.#closed ? undefined : this.onFrame(frame)))
    link.onCredit(() => this.#flush())
    link.onClose((code, reason) => this.#end(code, reason))
  }

  get closed(): boolean {
    return this.#closed
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Whether one more frame may be sent. */
  hasRoom(room = 1): boolean {
    return this.#queue.length < MAX_QUEUED_FRAMES * room && this.#queuedBytes < MAX_QUEUED_BYTES * room
  }

  /** In order; waits for credit in the queue. Ask `hasRoom` first. */
  send(frame: Uint8Array): void {
    if (this.#closed) return
    if (this.#queue.length === 0 && this.#link.trySend([frame])) return
    this.#queue.push(frame)
    this.#queuedBytes += frame.byteLength
  }

  /** Idempotent. `onClose` is called with what we say, too. */
  close(code: string, reason: string): void {
    if (this.#closed) return
    this.#link.close(code, reason)
    this.#end(code, reason)
  }

  #flush(): void {
    let sent = 0
    while (!this.#closed && sent < this.#queue.length) {
      const frame = this.#queue[sent]!
      if (!this.#link.trySend([frame])) break
      sent += 1
      this.#queuedBytes -= frame.byteLength
    }
    this.#queue.splice(0, sent)
    if (sent > 0 && this.#queue.length === 0) this.onFlushed()
  }

  #end(code: string, reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue.length = 0
    this.#queuedBytes = 0
    this.onClose(code, reason)
  }
}
