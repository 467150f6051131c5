// Two ends of a link in memory, with the real credit, for tests that need no network. Frames arrive in a microtask, copied
// on the way, so that a test notices a sender that changes them.
import { CreditedLink, type FrameSocket } from '@stellwerk/runtime/credited-link.ts'
import type { LinkClass } from '@stellwerk/runtime/environment.ts'

export interface MemoryLinkOptions {
  readonly class?: LinkClass
  readonly windowBytes?: number
}

export interface LinkPair {
  readonly a: CreditedLink
  readonly b: CreditedLink
  /** Hands `frame` to `b` as if `a` had sent it. */
  inject(frame: Uint8Array): void
  /** Both ends lose the link at once; what is under way is lost. */
  cut(): void
  /** Holds back (and later lets go) everything under way. */
  hold(): void
  release(): void
}

type Parcel =
  | { readonly frame: Uint8Array }
  | { readonly control: string }
  | { readonly close: readonly [string, string] }

class MemorySocket implements FrameSocket {
  other: MemorySocket | null = null
  held = false
  #inbox: Parcel[] = []
  #scheduled = false
  #closed = false
  #frame: (frame: Uint8Array) => void = () => undefined
  #control: (text: string) => void = () => undefined
  #close: (code: string, reason: string) => void = () => undefined

  send(frames: readonly Uint8Array[]): void {
    if (this.#closed) return
    for (const frame of frames) this.other?.take({ frame: new Uint8Array(frame) })
  }

  sendControl(control: string): void {
    if (!this.#closed) this.other?.take({ control })
  }

  onFrame(f: (frame: Uint8Array) => void): void {
    this.#frame = f
  }

  onControl(f: (text: string) => void): void {
    this.#control = f
  }

  onClose(f: (code: string, reason: string) => void): void {
    this.#close = f
  }

  close(code: string, reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.other?.take({ close: [code, reason] })
  }

  lose(): void {
    this.#inbox = []
    this.take({ close: ['lost', 'the link was cut'] })
  }

  take(parcel: Parcel): void {
    this.#inbox.push(parcel)
    this.schedule()
  }

  schedule(): void {
    if (this.#scheduled || this.held) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      while (!this.held && this.#inbox.length > 0) this.#deliver(this.#inbox.shift()!)
    })
  }

  #deliver(parcel: Parcel): void {
    if (this.#closed) return
    if ('frame' in parcel) this.#frame(parcel.frame)
    else if ('control' in parcel) this.#control(parcel.control)
    else {
      this.#closed = true
      this.#close(...parcel.close)
    }
  }
}

export function linkPair(options: MemoryLinkOptions = {}): LinkPair {
  const left = new MemorySocket()
  const right = new MemorySocket()
  left.other = right
  right.other = left
  const shared = {
    class: options.class ?? 'control',
    ...(options.windowBytes === undefined ? {} : { windowBytes: options.windowBytes }),
  }
  const setHeld = (held: boolean): void => {
    for (const socket of [left, right]) {
      socket.held = held
      if (!held) socket.schedule()
    }
  }
  return {
    a: new CreditedLink(left, { ...shared, peer: 'memory-b' }),
    b: new CreditedLink(right, { ...shared, peer: 'memory-a' }),
    inject: frame => right.take({ frame }),
    cut: () => {
      left.lose()
      right.lose()
    },
    hold: () => setHeld(true),
    release: () => setHeld(false),
  }
}
