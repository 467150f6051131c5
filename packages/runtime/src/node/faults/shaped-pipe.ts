// One direction of a connection under fault rules: what goes in comes out in order, at once where no rule concerns it, and
// otherwise late, or not before the rules are lifted. The same sums as the simulator's pipes (sim/connection.ts).

import type { Random } from '../../environment.ts'
import type { PathState, Shape } from '../../network-rules.ts'

/** What the rules say of one direction. */
export interface Judged {
  readonly state: PathState
  readonly shapes: readonly Shape[]
  /** It breaks as soon as something travels. */
  readonly reset: boolean
}

export const CLEAR: Judged = { state: 'open', shapes: [], reset: false }

/** The pause of a sender whose packet was lost, or held: then it is sent again. */
export const RETRANSMIT_MS = 200
/** After so many losses of one packet the connection breaks. */
const RETRANSMITS_MAX = 8

interface Waiting<T> {
  readonly item: T
  readonly bytes: number
  dueAt: number
}

export interface PipeOptions<T> {
  readonly random: Random
  readonly deliver: (item: T) => void
  /** Something travelled that the rules break the connection for. */
  readonly onBroken: (reason: string) => void
}

export class ShapedPipe<T> {
  readonly #options: PipeOptions<T>
  #queue: Waiting<T>[] = []
  #bytes = 0
  #judged = CLEAR
  #timer: NodeJS.Timeout | null = null
  #lineFreeAt = 0
  #lastDueAt = 0

  constructor(options: PipeOptions<T>) {
    this.#options = options
  }

  /** Of what waits. */
  get bytes(): number {
    return this.#bytes
  }

  get state(): PathState {
    return this.#judged.state
  }

  get isEmpty(): boolean {
    return this.#queue.length === 0
  }

  push(item: T, bytes: number): void {
    const { state, shapes, reset } = this.#judged
    if (reset) {
      this.#options.onBroken('connection reset')
      return
    }
    if (state === 'open' && shapes.length === 0 && this.isEmpty) {
      this.#options.deliver(item)
      return
    }
    const dueAt = this.#dueAt(bytes)
    if (dueAt === null) {
      this.#options.onBroken('too many packets lost')
      return
    }
    this.#lastDueAt = Math.max(this.#lastDueAt, dueAt)
    this.#queue.push({ item, bytes, dueAt: this.#lastDueAt })
    this.#bytes += bytes
    this.#expect()
  }

  judge(judged: Judged): void {
    const was = this.#judged.state
    this.#judged = judged
    if (judged.state !== 'open') {
      this.#cancel()
      return
    }
    if (was !== 'open' && !this.isEmpty) {
      const dueAt = performance.now() + this.#options.random.float() * RETRANSMIT_MS
      for (const waiting of this.#queue) waiting.dueAt = Math.max(waiting.dueAt, dueAt)
      this.#lastDueAt = Math.max(this.#lastDueAt, dueAt)
    }
    this.#expect()
  }

  /** What waits is lost. */
  clear(): void {
    this.#queue = []
    this.#bytes = 0
    this.#cancel()
  }

  #dueAt(bytes: number): number | null {
    const { random } = this.#options
    const now = performance.now()
    let latencyMs = 0
    let bytesPerMs = Number.POSITIVE_INFINITY
    for (const shape of this.#judged.shapes) {
      latencyMs += (shape.delayMs ?? 0) + (shape.jitterMs ?? 0) * random.float()
      bytesPerMs = Math.min(bytesPerMs, shape.bytesPerMs ?? bytesPerMs)
      const lossMs = retransmissionMs(shape, random)
      if (lossMs === null) return null
      latencyMs += lossMs
    }
    this.#lineFreeAt = Math.max(now, this.#lineFreeAt) + bytes / bytesPerMs
    return this.#lineFreeAt + latencyMs
  }

  #expect(): void {
    const [first] = this.#queue
    if (this.#timer !== null || first === undefined || this.#judged.state !== 'open') return
    this.#timer = setTimeout(() => this.#arrive(), Math.max(0, first.dueAt - performance.now()))
  }

  #arrive(): void {
    this.#timer = null
    while (this.#judged.state === 'open') {
      const [first] = this.#queue
      if (first === undefined || first.dueAt > performance.now()) break
      this.#queue.shift()
      this.#bytes -= first.bytes
      this.#options.deliver(first.item)
    }
    this.#expect()
  }

  #cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}

/** The delay by packets lost and sent again; null: one was lost too often. */
export function retransmissionMs(shape: Shape, random: Random): number | null {
  if (shape.loss === undefined) return 0
  let delayMs = 0
  for (let losses = 0; random.float() < shape.loss; losses++) {
    if (losses === RETRANSMITS_MAX) return null
    delayMs += RETRANSMIT_MS * 2 ** Math.min(losses, 4)
  }
  return delayMs
}
