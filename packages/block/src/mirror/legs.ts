// The shell of the mirror's core: opens and cuts legs as it says, feeds back what comes of that, and knows which device
// stands for which leg. It knows no requests.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Clock, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import type { BlockDevice, Caps, DeviceState, Limits } from '../device.ts'
import { type Generation, isWritable, legIds, storedGeneration } from './generation.ts'
import { type MirrorConfig, MirrorCore, type MirrorEffect, type MirrorInput } from './mirror-core.ts'

/** A leg's device: a multipath set, as a rule. */
export interface LegDevice extends BlockDevice {
  /** Ends it at once: what is in flight rejects with ESHUTDOWN. Idempotent. */
  abort(reason: string): void
}

export interface MirrorLegsOptions {
  readonly generation: Generation
  /**
   * Opens a leg in this generation, however long it takes. Rejects when `signal` aborts, and when its storage refuses us;
   * a refusal of the generation carries the storage's words (`storedGeneration`).
   */
  readonly open: (leg: string, generation: number, signal: AbortSignal) => Promise<LegDevice>
  /** Tells the coordinator that a leg is lost to us; it is said again until there is a generation without it. */
  readonly report: (leg: string, generation: number, why: string) => void
  readonly clock: Clock
  readonly timers: Timers
  readonly config?: Partial<MirrorConfig>
}

export const DEFAULT_MIRROR_CONFIG: MirrorConfig = { legDeadlineMs: 3_000, retryMs: 200 }
/** More than a volume has at a time. A leg that was replaced keeps its bit while a request may still have it, and as long as there are others. */
const MAX_LEG_BITS = 30

export interface Leg {
  readonly id: string
  readonly bit: number
  /** Open in the generation it was opened for; it may be dead already. */
  device: LegDevice | null
  generation: number
  state: DeviceState
  why: string
  attempt: AbortController | null
  /** Requests that it has in hand, of whatever device it had. */
  underWay: number
}

export interface LegsHost {
  /** Requests are served in this generation from now on. `former`: null at first. */
  switched(generation: Generation, former: Generation | null): void
  reopened(leg: Leg): void
  /** What it refused is to be sent to it once more. */
  again(leg: Leg): void
  stateChanged(): void
  /** Looked at from time to time: what waits for whom. */
  tick(now: number): void
}

export class MirrorLegs {
  readonly #options: MirrorLegsOptions
  readonly #host: LegsHost
  readonly #config: MirrorConfig
  readonly #core: MirrorCore
  readonly #legs = new Map<string, Leg>()
  readonly #inputs: MirrorInput[] = []
  #stepping = false
  #stopped = false
  #timer: Timer | null = null
  /** Bits of the legs that the current generation writes to, and may read from. */
  writable = 0
  readable = 0
  /** The current generation's legs, in order of preference. */
  open: readonly Leg[] = []
  /** What all legs ever opened can do. */
  shape: { readonly size: number; readonly limits: Limits; readonly caps: Caps } | null = null

  constructor(options: MirrorLegsOptions, host: LegsHost) {
    this.#options = options
    this.#host = host
    this.#config = { ...DEFAULT_MIRROR_CONFIG, ...options.config }
    this.#core = new MirrorCore(this.#config, options.generation)
  }

  get current(): Generation | null {
    return this.#core.current
  }

  get target(): Generation {
    return this.#core.target
  }

  get switching(): boolean {
    return this.#core.switching
  }

  get deadlineMs(): number {
    return this.#config.legDeadlineMs
  }

  get now(): number {
    return this.#options.clock.now()
  }

  all(): readonly Leg[] {
    return [...this.#legs.values()]
  }

  whyAway(leg: string): string | null {
    return this.#core.whyAway(leg)
  }

  start(): void {
    this.#carryOut(this.#core.start(this.now))
    this.#arm()
  }

  follow(generation: Generation): void {
    this.#feed({ kind: 'follow', generation })
  }

  trouble(leg: Leg, why: string): void {
    this.#feed({ kind: 'trouble', leg: leg.id, why })
  }

  stop(reason: string): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#timer?.cancel()
    for (const leg of this.#legs.values()) {
      leg.attempt?.abort(reason)
      leg.device?.abort(reason)
      leg.device = null
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#legs.values()].map(leg => leg.device?.close()))
    this.stop('closed in order')
  }

  #feed(input: MirrorInput): void {
    if (this.#stopped) return
    this.#inputs.push(input)
    if (this.#stepping) return
    this.#stepping = true
    for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
      this.#carryOut(this.#core.step(next, this.now))
    }
    this.#stepping = false
    this.#host.stateChanged()
  }

  #carryOut(effects: readonly MirrorEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'open':
          this.#open(this.#leg(effect.leg), effect.generation)
          break
        case 'close':
          this.#cut(this.#leg(effect.leg), effect.why)
          break
        case 'report':
          this.#options.report(effect.leg, effect.generation, effect.why)
          break
        case 'switched':
          this.#switched(effect.generation)
          break
        case 'reopened':
          this.#host.reopened(this.#leg(effect.leg))
          break
        case 'again':
          this.#host.again(this.#leg(effect.leg))
      }
    }
  }

  #leg(id: string): Leg {
    let leg = this.#legs.get(id)
    if (leg === undefined) {
      const bit = this.#freeBit()
      leg = {
        id,
        bit,
        device: null,
        generation: -1,
        state: 'waiting',
        why: 'not opened yet',
        attempt: null,
        underWay: 0,
      }
      this.#legs.set(id, leg)
    }
    return leg
  }

  /**
   * Legs that have gone for good make room. A request that one of them did was told so before the generation changed, and what it
   * has done counts no more since (`switched`).
   */
  #freeBit(): number {
    let used = 0
    for (const [id, leg] of this.#legs) {
      const stays = id in this.target.legs || (this.current !== null && id in this.current.legs)
      if (this.#legs.size < MAX_LEG_BITS || stays || leg.device !== null || leg.attempt !== null || leg.underWay > 0) {
        used |= leg.bit
      } else this.#legs.delete(id)
    }
    let bit = 1
    while ((used & bit) !== 0) bit <<= 1
    assert(bit < 1 << MAX_LEG_BITS, 'a mirror has too many legs with requests in hand')
    return bit
  }

  #open(leg: Leg, generation: number): void {
    leg.attempt?.abort(`generation ${generation} is opened instead`)
    const attempt = new AbortController()
    leg.attempt = attempt
    this.#options.open(leg.id, generation, attempt.signal).then(
      device => {
        if (leg.attempt === attempt) leg.attempt = null
        if (attempt.signal.aborted || this.#stopped || !this.#core.wants(leg.id, generation)) {
          device.abort('opened too late')
          return
        }
        const misfit = this.#misfit(device)
        if (misfit === null) this.#opened(leg, generation, device)
        else {
          device.abort(misfit)
          this.#feed({ kind: 'lost', leg: leg.id, generation, why: misfit, stored: null })
        }
      },
      (error: unknown) => {
        if (leg.attempt === attempt) leg.attempt = null
        if (attempt.signal.aborted) return
        const why = errorMessage(error)
        this.#feed({ kind: 'lost', leg: leg.id, generation, why, stored: storedGeneration(why) })
      },
    )
  }

  #opened(leg: Leg, generation: number, device: LegDevice): void {
    const former = leg.device
    leg.device = device
    leg.generation = generation
    leg.state = 'up'
    leg.why = 'open'
    // Its storage has drained what the former one had under way before it let this one in.
    former?.abort(`generation ${generation} took over`)
    device.onState((state, reason) => {
      if (leg.device !== device) return
      leg.state = state
      leg.why = reason
      if (state === 'failed' || state === 'closed') {
        leg.device = null
        device.abort(reason)
        this.#feed({ kind: 'lost', leg: leg.id, generation, why: reason, stored: storedGeneration(reason) })
      } else this.#host.stateChanged()
    })
    this.#feed({ kind: 'opened', leg: leg.id, generation })
  }

  #switched(generation: Generation): void {
    const former = this.#served
    this.#served = generation
    const open: Leg[] = []
    this.writable = 0
    this.readable = 0
    for (const id of legIds(generation)) {
      const role = generation.legs[id]
      if (!isWritable(role)) continue
      const leg = this.#leg(id)
      open.push(leg)
      this.writable |= leg.bit
      if (role === 'in-sync') this.readable |= leg.bit
    }
    this.open = open
    this.#host.switched(generation, former)
  }

  #served: Generation | null = null

  #cut(leg: Leg, why: string): void {
    leg.attempt?.abort(why)
    leg.attempt = null
    const device = leg.device
    leg.device = null
    device?.abort(why)
  }

  /** All legs must take what the first one takes: the layers above have seen that. Null if this one does. */
  #misfit(device: LegDevice): string | null {
    const { size, limits, caps } = device
    if (this.shape === null) {
      this.shape = { size, limits, caps }
      return null
    }
    const { shape } = this
    if (size < shape.size) return `the leg has ${size} bytes, the other ${shape.size}`
    if (limits.minimum > shape.limits.minimum || limits.maximum < shape.limits.maximum) {
      return 'the leg has narrower limits than the other'
    }
    const narrower = (Object.keys(shape.caps) as (keyof Caps)[]).filter(cap =>
      cap === 'readOnly' ? caps.readOnly !== shape.caps.readOnly : shape.caps[cap] && !caps[cap],
    )
    return narrower.length === 0 ? null : `the leg lacks what the other has: ${narrower.join(', ')}`
  }

  #arm(): void {
    this.#timer = this.#options.timers.after(this.#config.retryMs, () => {
      this.#arm()
      this.#host.tick(this.now)
      this.#feed({ kind: 'tick' })
    })
  }
}
