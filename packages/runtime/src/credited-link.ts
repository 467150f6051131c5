// The credit of a link: how a socket that moves frames becomes a Link whose sender never has more than a window unconsumed.
// Pure bookkeeping, shared by the real network (a WebSocket below) and the simulated one. It does not frame, dial or retry.

import { assert } from './assert.ts'
import type { Link, LinkClass } from './environment.ts'
import { StellwerkError } from './errors.ts'
import { KIB, MIB } from './units.ts'

/**
 * Bytes a sender may have sent and the receiver not yet given back, by class. A bulk link's is the least that fills 10 Gbit/s over
 * 1.5 ms: what lies in it stands before whatever comes last, and a guest that moves stands still until that has arrived. Measured at
 * 1 Gbit/s: a downtime of 109 ms with 16 MiB, of 42 with 4.
 */
export const LINK_WINDOW_BYTES: Readonly<Record<LinkClass, number>> = {
  control: 4 * MIB,
  io: 16 * MIB,
  bulk: 2 * MIB,
}

/**
 * Consumed so much, a receiver gives credit back. A bulk link's goes back in small parts: a sender that is let go for half a window
 * at once sees a link that is idle, then one that is stuck, and never one that is busy.
 */
const CREDIT_BYTES: Readonly<Record<LinkClass, number>> = {
  control: LINK_WINDOW_BYTES.control / 2,
  io: LINK_WINDOW_BYTES.io / 2,
  bulk: LINK_WINDOW_BYTES.bulk / 8,
}

/** The longest frame, by class. A longer one closes the link that received it. */
export const LINK_FRAME_MAX_BYTES: Readonly<Record<LinkClass, number>> = {
  control: 1 * MIB,
  io: 4 * MIB,
  bulk: 512 * KIB,
}

/** What a frame costs beside its bytes, so that the window also bounds the number of (small, empty) frames. */
export const FRAME_COST_BYTES = 64

/** The longest control text: a credit is a decimal number of at most this many digits. */
export const CONTROL_TEXT_MAX_LENGTH = 10

/**
 * What a CreditedLink stands on: a socket with two channels in one order, whole data frames and short control texts (on a
 * WebSocket: binary and text messages, so that a data frame goes out as it is, without a byte of ours before it).
 */
export interface FrameSocket {
  /** Sends the frames in order, without copying; nobody changes them any more. Does nothing on a closed socket. */
  send(frames: readonly Uint8Array[]): void
  sendControl(text: string): void
  /** Callbacks are set once, in the constructor of the link, before anything can arrive. */
  onFrame(f: (frame: Uint8Array) => void): void
  onControl(f: (text: string) => void): void
  /** Called at most once, when the peer closed (with its code and reason) or is lost. */
  onClose(f: (code: string, reason: string) => void): void
  /** Closes in order: what was sent before is still delivered if the peer is there. Idempotent. */
  close(code: string, reason: string): void
}

export interface CreditedLinkOptions {
  readonly class: LinkClass
  readonly peer: string
  /** Default: LINK_WINDOW_BYTES of the class. Both sides must use the same. */
  readonly windowBytes?: number
  /** Default: LINK_FRAME_MAX_BYTES of the class, at most half the window. */
  readonly frameMaxBytes?: number
}

type CloseState =
  | { readonly kind: 'open' }
  /** Closed from outside or by a violation, and the user has not been told for want of a callback. */
  | { readonly kind: 'untold'; readonly code: string; readonly reason: string }
  | { readonly kind: 'closed' }

/** What a frame takes from the window; the same on both sides. */
export function frameCost(frame: Uint8Array): number {
  return frame.byteLength + FRAME_COST_BYTES
}

/**
 * Frames given to `trySend` belong to the link: they go out without being copied, so the caller must not change them.
 * An `onFrame` that throws, or whose promise rejects, is a bug of the caller: nothing here catches it.
 *
 * Credit goes back when half a window was consumed (of bulk links an eighth), not per frame. So when the receiver has
 * consumed everything, the sender still has more than half a window free: a batch of up to half a window never waits
 * for ever. A longer batch is refused with `frame-too-large`.
 */
export class CreditedLink implements Link {
  readonly class: LinkClass
  readonly peer: string
  readonly windowBytes: number
  readonly frameMaxBytes: number

  readonly #socket: FrameSocket
  readonly #creditBytes: number
  #state: CloseState = { kind: 'open' }
  /** Sent and not given back by the peer. */
  #outstanding = 0
  /** Received and not given back by us; what of it was consumed. */
  #unreturned = 0
  #consumed = 0
  /** A trySend was refused since credit last came. */
  #refused = false
  /** Frames that came before `onFrame` was set; the window bounds them. */
  #early: Uint8Array[] = []
  #deliveringEarly = false
  #frameListener: ((frame: Uint8Array) => void | Promise<void>) | null = null
  #creditListener: (() => void) | null = null
  #closeListener: ((code: string, reason: string) => void) | null = null

  constructor(socket: FrameSocket, options: CreditedLinkOptions) {
    this.class = options.class
    this.peer = options.peer
    this.windowBytes = options.windowBytes ?? LINK_WINDOW_BYTES[options.class]
    const half = Math.floor(this.windowBytes / 2)
    assert(half > FRAME_COST_BYTES, 'a link window holds at least two frames')
    this.frameMaxBytes = Math.min(options.frameMaxBytes ?? LINK_FRAME_MAX_BYTES[options.class], half - FRAME_COST_BYTES)
    this.#creditBytes = Math.min(CREDIT_BYTES[options.class], half)
    this.#socket = socket
    socket.onFrame(frame => this.#receive(frame))
    socket.onControl(text => this.#control(text))
    socket.onClose((code, reason) => this.#closed(code, reason))
  }

  /** Bytes (with the cost of each frame) that may be sent at this moment. */
  get creditBytes(): number {
    return this.#state.kind === 'open' ? this.windowBytes - this.#outstanding : 0
  }

  trySend(frames: readonly Uint8Array[]): boolean {
    if (this.#state.kind !== 'open') return false
    let cost = 0
    for (const frame of frames) {
      if (frame.byteLength > this.frameMaxBytes) {
        throw this.#tooLarge(
          `a frame of ${frame.byteLength} bytes exceeds the ${this.frameMaxBytes} of a ${this.class} link`,
        )
      }
      cost += frameCost(frame)
    }
    if (cost > this.windowBytes / 2) {
      throw this.#tooLarge(
        `a batch of ${cost} bytes exceeds half the window of a ${this.class} link, ${this.windowBytes / 2}`,
      )
    }
    if (this.#outstanding + cost > this.windowBytes) {
      this.#refused = true
      return false
    }
    this.#outstanding += cost
    if (frames.length > 0) this.#socket.send(frames)
    return true
  }

  onCredit(f: () => void): void {
    this.#creditListener = f
  }

  onFrame(f: (frame: Uint8Array) => void | Promise<void>): void {
    this.#frameListener = f
    if (this.#early.length === 0 || this.#deliveringEarly) return
    // Not inside the caller's call: it may still be setting up what `f` uses.
    this.#deliveringEarly = true
    queueMicrotask(() => this.#deliverEarly())
  }

  onClose(f: (code: string, reason: string) => void): void {
    this.#closeListener = f
    if (this.#state.kind === 'untold') queueMicrotask(() => this.#tellClosed())
  }

  close(code: string, reason = ''): void {
    if (this.#state.kind === 'open') this.#socket.close(code, reason)
    this.#state = { kind: 'closed' }
    this.#early = []
  }

  #receive(frame: Uint8Array): void {
    if (this.#state.kind !== 'open') return
    if (frame.byteLength > this.frameMaxBytes) {
      this.#violated(
        'frame-too-large',
        `${this.peer} sent a frame of ${frame.byteLength} bytes, at most ${this.frameMaxBytes}`,
      )
      return
    }
    const cost = frameCost(frame)
    if (this.#unreturned + cost > this.windowBytes) {
      this.#violated('credit-overrun', `${this.peer} sent more than the window of ${this.windowBytes} bytes`)
      return
    }
    this.#unreturned += cost
    if (this.#frameListener === null || this.#deliveringEarly) this.#early.push(frame)
    else this.#deliver(frame, cost)
  }

  #deliver(frame: Uint8Array, cost: number): void {
    assert(this.#frameListener !== null, 'frames are delivered to a listener')
    const done = this.#frameListener(frame)
    if (done === undefined) this.#consume(cost)
    else void done.then(() => this.#consume(cost))
  }

  #deliverEarly(): void {
    // A listener may close the link, which empties the queue. By index: shift() of a long array is slow.
    for (let i = 0; i < this.#early.length; i++) {
      const frame = this.#early[i]
      if (frame !== undefined) this.#deliver(frame, frameCost(frame))
    }
    this.#early = []
    this.#deliveringEarly = false
    if (this.#state.kind === 'untold') this.#tellClosed()
  }

  #consume(cost: number): void {
    if (this.#state.kind !== 'open') return
    this.#consumed += cost
    if (this.#consumed < this.#creditBytes) return
    const credit = this.#consumed
    this.#consumed = 0
    this.#unreturned -= credit
    assert(this.#unreturned >= 0, 'no more credit is given back than was taken')
    this.#socket.sendControl(String(credit))
  }

  #control(text: string): void {
    if (this.#state.kind !== 'open') return
    const credit = text.length <= CONTROL_TEXT_MAX_LENGTH && /^[1-9][0-9]*$/.test(text) ? Number(text) : Number.NaN
    if (!(credit <= this.#outstanding)) {
      this.#violated('protocol-error', `${this.peer} gave back credit that was not taken`)
      return
    }
    this.#outstanding -= credit
    if (!this.#refused) return
    this.#refused = false
    this.#creditListener?.()
  }

  /** The peer broke the rules: both sides learn it. */
  #violated(code: string, reason: string): void {
    this.#socket.close(code, reason)
    this.#closed(code, reason)
  }

  #closed(code: string, reason: string): void {
    if (this.#state.kind !== 'open') return
    this.#state = { kind: 'untold', code, reason }
    // What came before the close is delivered before it is told.
    this.#tellClosed()
  }

  #tellClosed(): void {
    const state = this.#state
    if (state.kind !== 'untold' || this.#closeListener === null) return
    if (this.#early.length > 0 && this.#frameListener !== null) return
    this.#state = { kind: 'closed' }
    this.#closeListener(state.code, state.reason)
  }

  #tooLarge(message: string): StellwerkError {
    return new StellwerkError('frame-too-large', message, { where: this.peer, hint: 'send it in parts' })
  }
}
