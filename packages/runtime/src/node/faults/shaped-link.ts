// A link's socket under fault rules. What is below keeps its own alive meanwhile: who is cut off is told by the rules.

import type { FrameSocket } from '../../credited-link.ts'
import { totalLength } from '../../parts.ts'
import type { WebFrameSocket } from '../web-frame-socket.ts'
import type { NetworkFaults, Shaped, Way } from './network-faults.ts'
import { type Judged, ShapedPipe } from './shaped-pipe.ts'

type Cargo =
  | { readonly kind: 'frames'; readonly frames: readonly Uint8Array[] }
  | { readonly kind: 'control'; readonly text: string }
  | { readonly kind: 'close'; readonly code: string; readonly reason: string }

const CONTROL_BYTES = 16

export class ShapedLink implements FrameSocket, Shaped {
  readonly way: Way
  readonly #below: WebFrameSocket
  readonly #faults: NetworkFaults
  readonly #out: ShapedPipe<Cargo>
  readonly #in: ShapedPipe<Cargo>
  #frame: ((frame: Uint8Array) => void) | null = null
  #control: ((text: string) => void) | null = null
  #close: ((code: string, reason: string) => void) | null = null
  /** The user closed it or was told that it is closed. */
  #over = false

  constructor(below: WebFrameSocket, way: Way, faults: NetworkFaults) {
    this.way = way
    this.#below = below
    this.#faults = faults
    const { random } = faults
    const onBroken = (reason: string): void => this.broken('ECONNRESET', reason)
    this.#out = new ShapedPipe({ random, onBroken, deliver: cargo => this.#leave(cargo) })
    this.#in = new ShapedPipe({ random, onBroken, deliver: cargo => this.#arrive(cargo) })
    below.onFrame(frame => this.#in.push({ kind: 'frames', frames: [frame] }, frame.byteLength))
    below.onControl(text => this.#in.push({ kind: 'control', text }, CONTROL_BYTES))
    below.onClose((code, reason) => this.#in.push({ kind: 'close', code, reason }, 0))
    faults.added(this)
  }

  send(frames: readonly Uint8Array[]): void {
    if (this.#over) return
    const bytes = totalLength(frames)
    this.#out.push({ kind: 'frames', frames }, bytes)
  }

  sendControl(text: string): void {
    if (!this.#over) this.#out.push({ kind: 'control', text }, CONTROL_BYTES)
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
    if (this.#over) return
    this.#over = true
    this.#in.clear()
    this.#out.push({ kind: 'close', code, reason }, 0)
  }

  reconsider(there: Judged, back: Judged): void {
    this.#out.judge(there)
    this.#in.judge(back)
  }

  broken(_code: string, reason: string): void {
    this.#out.clear()
    this.#in.clear()
    this.#faults.removed(this)
    this.#below.terminate()
    this.#tell('lost', reason)
  }

  #leave(cargo: Cargo): void {
    if (cargo.kind === 'frames') this.#below.send(cargo.frames)
    else if (cargo.kind === 'control') this.#below.sendControl(cargo.text)
    else {
      this.#faults.removed(this)
      this.#below.close(cargo.code, cargo.reason)
    }
  }

  #arrive(cargo: Cargo): void {
    if (cargo.kind === 'close') {
      this.#out.clear()
      this.#faults.removed(this)
      this.#tell(cargo.code, cargo.reason)
    } else if (this.#over) return
    else if (cargo.kind === 'frames') for (const frame of cargo.frames) this.#frame?.(frame)
    else this.#control?.(cargo.text)
  }

  #tell(code: string, reason: string): void {
    if (this.#over) return
    this.#over = true
    this.#close?.(code, reason)
  }
}
