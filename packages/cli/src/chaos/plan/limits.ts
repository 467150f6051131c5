// The blast radius of a schedule: whether one more fault would take away more than a plan allows, and from when on it would
// not. Pure.

import type { Fault, FaultKind } from '../fault.ts'
import { COORDINATOR, type Taken, taken } from './fault-table.ts'
import type { Limits } from './plan.ts'

const SORTS = ['hosts', 'storages', 'fabrics', 'cables', 'coordinator'] as const

interface Held {
  readonly fault: Fault
  readonly takes: Taken
  readonly from: number
  /** With the gap behind it. */
  readonly to: number
}

export class BlastRadius {
  readonly #limits: Limits
  readonly #storages: readonly string[]
  readonly #held: Held[] = []

  constructor(limits: Limits, storages: readonly string[]) {
    this.#limits = limits
    this.#storages = storages
  }

  add(fault: Fault): void {
    this.#held.push(this.#of(fault))
  }

  /** The limit that the fault would break, in words; null: it may come. */
  breaks(fault: Fault): string | null {
    const candidate = this.#of(fault)
    const near = this.#held.filter(({ from, to }) => from < candidate.to && to > candidate.from)
    const thing = endedBy(fault)
    // The end of either would be the end of both.
    if (thing !== null && near.some(held => endedBy(held.fault) === thing)) {
      return `${thing} is down or asleep by another fault then, or was a moment before`
    }
    // What is broken at once changes only where a fault begins.
    const moments = [candidate.from, ...near.map(({ from }) => from).filter(from => from > candidate.from)]
    for (const moment of moments) {
      const together = [candidate, ...near.filter(({ from, to }) => from <= moment && to > moment)]
      const broken = excess(
        this.#limits,
        together.map(({ takes }) => takes),
      )
      if (broken !== null) return broken
    }
    return null
  }

  /** The first moment from the fault's own on, before `untilMs`, at which it may come; null: there is none. */
  firstFit(fault: Fault, untilMs: number): number | null {
    const ends = this.#held.map(({ to }) => to).filter(to => to > fault.atMs && to < untilMs)
    for (const atMs of [fault.atMs, ...ends.sort((a, b) => a - b)]) {
      if (this.breaks({ ...fault, atMs }) === null) return atMs
    }
    return null
  }

  #of(fault: Fault): Held {
    const takes = taken(fault, this.#storages)
    return { fault, takes, from: fault.atMs, to: fault.atMs + fault.lastsMs + this.#limits.gapMs }
  }
}

const ENDS: ReadonlySet<FaultKind> = new Set([
  ...(['agent-kill', 'host-kill', 'host-pause', 'host-restart', 'storage-kill', 'storage-pause'] as const),
  ...(['coordinator-kill', 'coordinator-pause'] as const),
])

/** What it kills, or lets sleep; null: it does neither. */
function endedBy({ kind, host, storage }: Fault): string | null {
  return ENDS.has(kind) ? (host ?? storage ?? COORDINATOR) : null
}

/** The limit that so much at once breaks, in words; null: none. */
export function excess(limits: Limits, together: readonly Taken[]): string | null {
  if (together.length > limits.faults) return said('faults', together.length, limits.faults)
  for (const sort of SORTS) {
    const names = new Set(together.flatMap(takes => takes[sort]))
    if (names.size > limits[sort]) return said(sort, names.size, limits[sort])
  }
  return null
}

function said(sort: keyof Limits, count: number, limit: number): string {
  return `${sort}: ${count} at once, or within the gap, where ${limit} ${limit === 1 ? 'is' : 'are'} allowed`
}
