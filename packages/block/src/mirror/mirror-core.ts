// Which generation a mirror is at, which of its legs to open, and when a leg is reported lost: the decisions, without I/O.
// Contract: the shell carries out the effects in order, at once, and feeds what comes of them as inputs.
//
// A mirror serves in one generation at a time, once every leg that this generation writes to is open in it. Where a leg is
// lost, nothing here decides to go on without it: it is reported, and what needs it waits for the next generation. Only
// the coordinator makes one, and only a storage that has been raised to it lets us in (DESIGN section 7, leg loss).

import { assert } from '@stellwerk/runtime/assert.ts'
import { type Generation, isWritable, type LegRole, legIds } from './generation.ts'

export interface MirrorConfig {
  /** A leg that is away, or slower, for so long while another in-sync leg serves is reported lost. */
  readonly legDeadlineMs: number
  /** Between two attempts to open a leg, and two reports of one loss. */
  readonly retryMs: number
}

type Line =
  | { readonly kind: 'closed' }
  | { readonly kind: 'opening'; readonly generation: number }
  | { readonly kind: 'open'; readonly generation: number }
  | { readonly kind: 'down'; readonly retryAt: number }

interface Leg {
  line: Line
  /** Since when it has not been open though it should be; null: it is, or need not be. */
  awaySince: number | null
  why: string
  /** What it did wrong while it was open. A new generation forgives it; and so it is where no leg without trouble is left. */
  trouble: string | null
  troubleAt: number
  reportedAt: number
}

export type MirrorInput =
  | { readonly kind: 'follow'; readonly generation: Generation }
  | { readonly kind: 'opened'; readonly leg: string; readonly generation: number }
  /** An attempt to open it failed, or its device died. `stored`: the generation that its storage says it has. */
  | {
      readonly kind: 'lost'
      readonly leg: string
      readonly generation: number
      readonly why: string
      readonly stored: Generation | null
    }
  /** It answers with errors, or not in time, what another in-sync leg has done. */
  | { readonly kind: 'trouble'; readonly leg: string; readonly why: string }
  | { readonly kind: 'tick' }

export type MirrorEffect =
  | { readonly kind: 'open'; readonly leg: string; readonly generation: number }
  /** Cut it off, also where it is only being opened. */
  | { readonly kind: 'close'; readonly leg: string; readonly why: string }
  /** To the coordinator: this leg is lost to us. Repeated until a generation says what is to become of it. */
  | { readonly kind: 'report'; readonly leg: string; readonly generation: number; readonly why: string }
  /** Every leg this generation writes to is open: it is the one to serve in. */
  | { readonly kind: 'switched'; readonly generation: Generation }
  /** A leg of the generation that is served in is open again. */
  | { readonly kind: 'reopened'; readonly leg: string }
  /** What it has refused it is asked once more: nobody can do without it. */
  | { readonly kind: 'again'; readonly leg: string }

export class MirrorCore {
  readonly #config: MirrorConfig
  readonly #legs = new Map<string, Leg>()
  #target: Generation
  #current: Generation | null = null
  #effects: MirrorEffect[] = []

  constructor(config: MirrorConfig, generation: Generation) {
    this.#config = config
    this.#target = generation
  }

  /** The one to be at: higher than `current` while legs are being opened in it. */
  get target(): Generation {
    return this.#target
  }

  /** The one that is served in; null before the first. */
  get current(): Generation | null {
    return this.#current
  }

  get switching(): boolean {
    return this.#current?.number !== this.#target.number
  }

  /** Why a leg is not open; null: it is. For displays. */
  whyAway(leg: string): string | null {
    const known = this.#legs.get(leg)
    return known === undefined || known.line.kind === 'open' ? null : known.why
  }

  /** Whether a device that has been opened in this generation is still wanted. */
  wants(leg: string, generation: number): boolean {
    const line = this.#legs.get(leg)?.line
    return line?.kind === 'opening' && line.generation === generation
  }

  start(now: number): MirrorEffect[] {
    this.#effects = []
    this.#openAll(now)
    return this.#effects
  }

  step(input: MirrorInput, now: number): MirrorEffect[] {
    this.#effects = []
    switch (input.kind) {
      case 'follow':
        this.#follow(input.generation, now)
        break
      case 'opened':
        this.#opened(input.leg, input.generation)
        break
      case 'lost':
        this.#lost(input, now)
        break
      case 'trouble': {
        const leg = this.#legs.get(input.leg)
        if (leg === undefined || leg.trouble !== null) break
        leg.trouble = input.why
        leg.troubleAt = now
        this.#reportDue(now)
        break
      }
      case 'tick':
        this.#retryDue(now)
        this.#reportDue(now)
        this.#againDue(now)
    }
    return this.#effects
  }

  #follow(generation: Generation, now: number): void {
    if (generation.number <= this.#target.number) return
    this.#target = generation
    for (const leg of this.#legs.values()) {
      leg.trouble = null
      leg.reportedAt = Number.NEGATIVE_INFINITY
    }
    for (const [id, leg] of this.#legs) {
      if (isWritable(generation.legs[id])) continue
      if (leg.line.kind !== 'closed') {
        this.#effects.push({ kind: 'close', leg: id, why: `it is ${generation.legs[id] ?? 'no leg'} now` })
      }
      leg.line = { kind: 'closed' }
      leg.awaySince = null
    }
    this.#openAll(now)
  }

  #openAll(now: number): void {
    for (const id of legIds(this.#target)) {
      if (!isWritable(this.#target.legs[id])) continue
      let leg = this.#legs.get(id)
      if (leg === undefined) {
        leg = {
          line: { kind: 'closed' },
          awaySince: null,
          why: 'not opened yet',
          trouble: null,
          troubleAt: Number.NEGATIVE_INFINITY,
          reportedAt: Number.NEGATIVE_INFINITY,
        }
        this.#legs.set(id, leg)
      }
      leg.awaySince ??= now
      this.#open(id, leg)
    }
  }

  #open(id: string, leg: Leg): void {
    leg.line = { kind: 'opening', generation: this.#target.number }
    this.#effects.push({ kind: 'open', leg: id, generation: this.#target.number })
  }

  #opened(id: string, generation: number): void {
    const leg = this.#legs.get(id)
    assert(leg?.line.kind === 'opening' && leg.line.generation === generation, 'opened without having been asked to')
    leg.line = { kind: 'open', generation }
    leg.awaySince = null
    if (!this.switching) {
      this.#effects.push({ kind: 'reopened', leg: id })
      return
    }
    for (const other of legIds(this.#target)) {
      if (isWritable(this.#target.legs[other]) && !this.#isOpen(other)) return
    }
    this.#current = this.#target
    this.#effects.push({ kind: 'switched', generation: this.#target })
  }

  #lost(
    { leg: id, generation, why, stored }: { leg: string; generation: number; why: string; stored: Generation | null },
    now: number,
  ): void {
    if (stored !== null && stored.number > this.#target.number) {
      this.#follow(stored, now)
      return
    }
    const leg = this.#legs.get(id)
    if (leg === undefined || leg.line.kind === 'closed' || leg.line.kind === 'down') return
    // Of a generation that is over: the new one is being opened already.
    if (leg.line.generation !== generation) return
    leg.why = why
    leg.awaySince ??= now
    leg.line = { kind: 'down', retryAt: now + this.#config.retryMs }
  }

  #retryDue(now: number): void {
    for (const [id, leg] of this.#legs) if (leg.line.kind === 'down' && leg.line.retryAt <= now) this.#open(id, leg)
  }

  #reportDue(now: number): void {
    const { legDeadlineMs, retryMs } = this.#config
    for (const [id, leg] of this.#legs) {
      const overdue = leg.awaySince !== null && now - leg.awaySince >= legDeadlineMs
      if (leg.trouble === null && !overdue) continue
      if (now - leg.reportedAt < retryMs || !this.#survives(id)) continue
      leg.reportedAt = now
      const why = leg.trouble ?? `not reached for ${Math.round(now - (leg.awaySince ?? now))} ms: ${leg.why}`
      this.#effects.push({ kind: 'report', leg: id, generation: this.#target.number, why })
    }
  }

  /**
   * Each has done wrong while the other did not: no report would be to the point, and no generation comes. What was wrong may have
   * passed; whoever does wrong again is reported, if the other does not.
   */
  #againDue(now: number): void {
    const troubled = [...this.#legs].filter(([, { trouble }]) => trouble !== null)
    if (troubled.some(([id, { troubleAt }]) => this.#survives(id) || now - troubleAt < this.#config.retryMs)) return
    for (const [id, leg] of troubled) {
      leg.trouble = null
      this.#effects.push({ kind: 'again', leg: id })
    }
  }

  /** Without this leg an in-sync one serves us. */
  #survives(lost: string): boolean {
    return legIds(this.#target).some(
      id => id !== lost && this.#role(id) === 'in-sync' && this.#isOpen(id) && this.#legs.get(id)?.trouble === null,
    )
  }

  #isOpen(id: string): boolean {
    const line = this.#legs.get(id)?.line
    return line?.kind === 'open' && line.generation === this.#target.number
  }

  #role(id: string): LegRole | undefined {
    return this.#target.legs[id]
  }
}
