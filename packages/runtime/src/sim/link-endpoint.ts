// One end of a simulated link: what a CreditedLink stands on instead of a WebSocket.

import type { FrameSocket } from '../credited-link.ts'
import type { Connection, Endpoint, Opening, Segment } from './connection.ts'
import type { SimProcess } from './process.ts'

export class LinkEndpoint implements FrameSocket, Endpoint {
  readonly process: SimProcess
  readonly #connection: Connection
  /** Until the peer's side has answered the dial. */
  #opening: Opening | null
  #closed = false
  #frameListener: ((frame: Uint8Array) => void) | null = null
  #controlListener: ((text: string) => void) | null = null
  #closeListener: ((code: string, reason: string) => void) | null = null

  constructor(process: SimProcess, connection: Connection, opening: Opening | null) {
    this.process = process
    this.#connection = connection
    this.#opening = opening
  }

  get closed(): boolean {
    return this.#closed
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.#closed) return
    // The receiver gets bytes of its own, as from a real wire.
    const copies = frames.map(frame => frame.slice())
    this.#transmit({ kind: 'frames', frames: copies })
  }

  sendControl(text: string): void {
    if (!this.#closed) this.#transmit({ kind: 'control', text })
  }

  onFrame(f: (frame: Uint8Array) => void): void {
    this.#frameListener = f
  }

  onControl(f: (text: string) => void): void {
    this.#controlListener = f
  }

  onClose(f: (code: string, reason: string) => void): void {
    this.#closeListener = f
  }

  close(code: string, reason: string): void {
    if (this.#closed) return
    this.#transmit({ kind: 'close', code, reason })
    this.#closed = true
    this.#connection.network.forgetWhenOver(this.#connection)
  }

  /** Closed by what accepted it, not by who uses it: the user is told. */
  closeFor(code: string, reason: string): void {
    if (this.#closed) return
    this.close(code, reason)
    this.process.later(0, () => this.#closeListener?.(code, reason))
  }

  receive(segment: Segment): void {
    this.process.deliver(() => this.#take(segment))
  }

  broken(reason: string): void {
    this.process.deliver(() => this.#lost('lost', reason))
  }

  abandon(): void {
    this.#closed = true
  }

  #transmit(segment: Segment): void {
    this.process.effect(() => this.#connection.pipeFrom(this).send(segment))
  }

  #take(segment: Segment): void {
    switch (segment.kind) {
      case 'established':
        this.#established()
        return
      case 'frames':
        for (const frame of segment.frames) {
          // Any frame may make its reader close the link, or kill the process.
          if (!this.#closed && this.process.alive) this.#frameListener?.(frame)
        }
        return
      case 'control':
        if (!this.#closed) this.#controlListener?.(segment.text)
        return
      case 'close':
        this.#lost(segment.code, segment.reason)
        return
      default:
        this.#lost('lost', segment.kind === 'reset' ? segment.reason : 'the peer ended the connection')
    }
  }

  #established(): void {
    const opening = this.#opening
    this.#opening = null
    opening?.established()
  }

  #lost(code: string, reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#connection.network.forgetWhenOver(this.#connection)
    if (this.#opening !== null) this.#opening.failed(reason)
    else this.#closeListener?.(code, reason)
  }
}
