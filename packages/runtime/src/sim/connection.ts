// One simulated connection: two ordered pipes with latency, bandwidth and faults between two endpoints. It moves segments; what
// they mean is the endpoints' business (link-endpoint.ts, stream-endpoint.ts).

import { assert } from '../assert.ts'
import type { Cargo, NetworkRule, PathState, Shape, Traffic } from '../network-rules.ts'
import type { SimEvent } from './event-queue.ts'
import type { SimNetwork } from './network.ts'
import type { SimProcess } from './process.ts'

export type Segment =
  | { readonly kind: 'established' }
  | { readonly kind: 'frames'; readonly frames: readonly Uint8Array[] }
  | { readonly kind: 'control'; readonly text: string }
  | { readonly kind: 'data'; readonly chunk: Uint8Array }
  | { readonly kind: 'end' }
  | { readonly kind: 'close'; readonly code: string; readonly reason: string }
  | { readonly kind: 'reset'; readonly reason: string }

/** What a dial hears of the connection it opens: one of the two, once. */
export interface Opening {
  established(): void
  failed(reason: string): void
}

/** One end of a connection. It is closed once nothing more may happen to its user. */
export interface Endpoint {
  readonly process: SimProcess
  readonly closed: boolean
  receive(segment: Segment): void
  /** The connection is gone without a word from the peer. */
  broken(reason: string): void
  /** Its process ended: nobody is told. */
  abandon(): void
}

interface InFlight {
  readonly segment: Segment
  arrivesAt: number
  /** Rules that look inside have passed it. */
  inspected: boolean
}

/** Segments in flight in one direction. */
const IN_FLIGHT_MAX = 200_000
const RETRANSMIT_MS = 200
/** After so many losses of one packet the connection breaks. */
const RETRANSMITS_MAX = 8
const HEADER_BYTES = 40

export class Connection {
  readonly network: SimNetwork
  /** From the dialler, and to it. */
  readonly forward: Pipe
  readonly backward: Pipe
  /** When an end will notice that it hears nothing. */
  readonly #keepalives = new Map<Endpoint, SimEvent>()
  #broken = false

  constructor(network: SimNetwork, traffic: Traffic) {
    this.network = network
    this.forward = new Pipe(this, traffic)
    const { from, to, fromProcess, toProcess } = traffic
    this.backward = new Pipe(this, { ...traffic, from: to, to: from, fromProcess: toProcess, toProcess: fromProcess })
  }

  connect(dialler: Endpoint, acceptor: Endpoint): void {
    this.forward.to = acceptor
    this.backward.to = dialler
  }

  get endpoints(): readonly Endpoint[] {
    return [this.backward.to, this.forward.to].filter(endpoint => endpoint !== null)
  }

  get broken(): boolean {
    return this.#broken
  }

  get over(): boolean {
    if (!this.forward.idle || !this.backward.idle) return false
    return this.forward.to?.closed !== false && this.backward.to?.closed !== false
  }

  pipeTo(endpoint: Endpoint): Pipe {
    return this.forward.to === endpoint ? this.forward : this.backward
  }

  pipeFrom(endpoint: Endpoint): Pipe {
    return this.forward.to === endpoint ? this.backward : this.forward
  }

  /** It breaks with bytes in flight: of each direction a random part still arrives, then the break. Cuts do not hide it. */
  reset(reason: string): void {
    if (this.#broken) return
    this.#broken = true
    for (const pipe of [this.forward, this.backward]) pipe.cutShort(reason)
    this.network.forgetWhenOver(this)
  }

  /** Who dialled hears nothing any more and lets go of it; the other end learns it when that arrives. */
  giveUp(reason: string): void {
    const dialler = this.backward.to
    if (this.#broken || dialler === null || dialler.closed) return
    dialler.broken(reason)
    this.forward.send({ kind: 'reset', reason: 'connection reset by peer' })
    this.network.forgetWhenOver(this)
  }

  /** Rules, hosts, interfaces or a process's being paused changed. */
  reconsider(): void {
    const forward = this.forward.reconsider()
    const backward = this.backward.reconsider()
    const cut = forward === 'silent' || backward === 'silent'
    for (const endpoint of this.endpoints) {
      const peer = this.pipeFrom(endpoint).to
      // A link's pings are answered by the process, a stream's by the kernel.
      const mute = this.forward.traffic.class !== 'stream' && peer?.process.alive === true && peer.process.paused
      this.#expectLoss(endpoint, cut || mute)
    }
    if (!cut) this.#answerForTheDead()
  }

  #expectLoss(endpoint: Endpoint, unheard: boolean): void {
    const { keepaliveMs, sim, random } = this.network
    const expected = this.#keepalives.get(endpoint)
    if (unheard && expected === undefined && !endpoint.closed) {
      // Counted from the last byte, which came at most a ping's pause ago.
      const event = sim.schedule(keepaliveMs * (0.75 + 0.25 * random.float()), null, () => {
        this.#keepalives.delete(endpoint)
        if (endpoint.closed) return
        endpoint.broken(`no answer for ${keepaliveMs} ms`)
        this.pipeFrom(endpoint).send({ kind: 'reset', reason: 'connection reset by peer' })
        this.network.forgetWhenOver(this)
      })
      this.#keepalives.set(endpoint, event)
    } else if (!unheard && expected !== undefined) {
      sim.cancel(expected)
      this.#keepalives.delete(endpoint)
    }
  }

  /** An end that ended in silence answers the other's next probe with a reset. */
  #answerForTheDead(): void {
    const [a, b] = this.endpoints
    if (a === undefined || b === undefined || a.closed === b.closed) return
    const [dead, living] = a.closed ? [a, b] : [b, a]
    // A word to the living one is on its way.
    if (!this.pipeTo(living).idle) return
    const { keepaliveMs, sim, random } = this.network
    sim.schedule((keepaliveMs / 3) * random.float(), null, () => {
      if (!living.closed && dead.process.host.powered)
        this.pipeTo(living).send({ kind: 'reset', reason: 'connection reset' })
    })
  }
}

export class Pipe {
  readonly traffic: Traffic
  to: Endpoint | null = null
  readonly #connection: Connection
  readonly #network: SimNetwork
  #queue: InFlight[] = []
  /** The arrival of the first in the queue. */
  #event: SimEvent | null = null
  #stalled = false
  #lineFreeAt = 0
  #lastArrival = 0
  /** A break travels whatever the rules say. */
  #forced = false
  /** What the rules, hosts and interfaces say, as of this version of them. */
  #version = -1
  #rules: readonly NetworkRule[] = []
  #state: PathState = 'open'

  constructor(connection: Connection, traffic: Traffic) {
    this.#connection = connection
    this.#network = connection.network
    this.traffic = traffic
  }

  get idle(): boolean {
    return this.#queue.length === 0
  }

  send(segment: Segment): void {
    if (this.#connection.broken) return
    assert(this.#queue.length < IN_FLIGHT_MAX, `at most ${IN_FLIGHT_MAX} segments in flight`)
    const { sim, random } = this.#network
    const profile = this.#network.profile(this.traffic.network)
    let latency = profile.latencyMs + profile.jitterMs * random.float()
    let bytesPerMs = profile.bytesPerMs
    for (const rule of this.#current()) {
      const shape = rule.verdict
      if (typeof shape !== 'object') continue
      latency += (shape.delayMs ?? 0) + (shape.jitterMs ?? 0) * random.float()
      if (shape.bytesPerMs !== undefined) bytesPerMs = Math.min(bytesPerMs, shape.bytesPerMs)
      const lossMs = this.#retransmission(shape)
      if (lossMs === null) {
        this.#connection.reset('too many packets lost')
        return
      }
      latency += lossMs
    }
    const sentAt = Math.max(sim.now, this.#lineFreeAt) + segmentBytes(segment) / bytesPerMs
    this.#lineFreeAt = sentAt
    const arrivesAt = Math.max(this.#lastArrival, sentAt + latency)
    this.#lastArrival = arrivesAt
    this.#queue.push({ segment, arrivesAt, inspected: false })
    this.#expect()
  }

  reconsider(): PathState {
    const state = this.#blocked()
    if (state === 'open' && this.#stalled) {
      this.#stalled = false
      // What was held is sent again after a pause that differs from connection to connection.
      this.#postpone(this.#network.random.float() * RETRANSMIT_MS)
    }
    return state
  }

  /** Only a random part of what is in flight arrives, then the break. */
  cutShort(reason: string): void {
    const { sim, random } = this.#network
    const kept = this.#queue.splice(0, random.int(this.#queue.length + 1))
    const next = this.#queue[0]?.segment
    if (next?.kind === 'data' && next.chunk.byteLength > 1) {
      const part = next.chunk.subarray(0, random.int(next.chunk.byteLength))
      if (part.byteLength > 0)
        kept.push({ segment: { kind: 'data', chunk: part }, arrivesAt: sim.now, inspected: true })
    }
    kept.push({ segment: { kind: 'reset', reason }, arrivesAt: sim.now, inspected: true })
    for (const item of kept) {
      item.arrivesAt = sim.now
      item.inspected = true
    }
    this.#queue = kept
    this.#forced = true
    this.#stalled = false
    if (this.#event !== null) sim.cancel(this.#event)
    this.#event = null
    this.#expect()
  }

  #expect(): void {
    if (this.#event !== null || this.#stalled) return
    const first = this.#queue[0]
    if (first === undefined) return
    const { sim } = this.#network
    this.#event = sim.schedule(Math.max(0, first.arrivesAt - sim.now), null, () => this.#arrive())
  }

  #arrive(): void {
    this.#event = null
    const first = this.#queue[0]
    if (first === undefined) return
    if (!this.#forced && this.#blocked() !== 'open') {
      this.#stalled = true
      return
    }
    if (!first.inspected && this.#network.rules.size > 0 && this.#inspect(first)) return
    this.#queue.shift()
    this.#expect()
    const to = this.to
    const { segment } = first
    if (to !== null) {
      if (!to.closed) to.receive(segment)
      else if (segment.kind !== 'reset' && segment.kind !== 'end' && segment.kind !== 'close') {
        this.#connection.pipeFrom(to).send({ kind: 'reset', reason: 'connection reset' })
      }
    }
    this.#network.forgetWhenOver(this.#connection)
  }

  /** True: it does not arrive now. */
  #inspect(item: InFlight): boolean {
    item.inspected = true
    let delayMs = 0
    for (const rule of this.#current()) {
      if (rule.verdict === 'reset') {
        this.#breakHere()
        return true
      }
      if (typeof rule.verdict !== 'function') continue
      const said = rule.verdict(cargoOf(item.segment), this.traffic, this.#network.random)
      if (said === 'reset') {
        this.#breakHere()
        return true
      }
      if (said !== null) delayMs += said.delayMs
    }
    if (delayMs === 0) return false
    this.#postpone(delayMs)
    return true
  }

  /** The first segment and all behind it are lost. */
  #breakHere(): void {
    this.#queue = []
    this.#connection.reset('connection reset')
  }

  #postpone(delayMs: number): void {
    const arrivesAt = this.#network.sim.now + delayMs
    for (const item of this.#queue) item.arrivesAt = Math.max(item.arrivesAt, arrivesAt)
    this.#lastArrival = Math.max(this.#lastArrival, arrivesAt)
    this.#expect()
  }

  #current(): readonly NetworkRule[] {
    if (this.#version !== this.#network.version) {
      this.#version = this.#network.version
      const path = this.#network.path(this.traffic)
      this.#rules = path.rules
      this.#state = path.state
    }
    return this.#rules
  }

  #blocked(): PathState {
    this.#current()
    return this.#state
  }

  /** The delay by packets lost and sent again; null: it was lost too often. */
  #retransmission(shape: Shape): number | null {
    if (shape.loss === undefined) return 0
    let delayMs = 0
    for (let losses = 0; this.#network.random.chance(shape.loss); losses++) {
      if (losses === RETRANSMITS_MAX) return null
      delayMs += RETRANSMIT_MS * 2 ** Math.min(losses, 4)
    }
    return delayMs
  }
}

function segmentBytes(segment: Segment): number {
  if (segment.kind === 'data') return HEADER_BYTES + segment.chunk.byteLength
  if (segment.kind !== 'frames') return HEADER_BYTES
  return segment.frames.reduce((sum, frame) => sum + frame.byteLength, HEADER_BYTES)
}

function cargoOf(segment: Segment): Cargo {
  const bytes = segment.kind === 'frames' ? segment.frames : segment.kind === 'data' ? [segment.chunk] : []
  return { kind: segment.kind, bytes }
}
