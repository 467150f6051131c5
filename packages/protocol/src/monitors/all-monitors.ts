// All rules over one stream of records: each monitor is fed only the kinds it asks for, and what it finds is collected.
// On the simulator's hot path: a record of no interest costs one look into a map.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { BlockHistoryOptions } from './block-history.ts'
import { Csv1Monitor } from './csv1.ts'
import { Csv2Monitor, type Csv2Options } from './csv2.ts'
import { Csv3Monitor } from './csv3.ts'
import { Fen1Monitor } from './fen1.ts'
import { Fen2Monitor, type Fen2Options } from './fen2.ts'
import { Io1Monitor } from './io1.ts'
import { Io2Monitor } from './io2.ts'
import { Io3Monitor } from './io3.ts'
import { Liv1Monitor } from './liv1.ts'
import { Mig1Monitor } from './mig1.ts'
import { Mig2Monitor, type Mig2Options } from './mig2.ts'
import { Mig3Monitor } from './mig3.ts'
import { Mir1Monitor } from './mir1.ts'
import { type Monitor, RULES, type RuleId, type Violation } from './monitor.ts'
import { Net1Monitor } from './net1.ts'
import { Net2Monitor } from './net2.ts'
import type { ReachOptions } from './reach.ts'
import { Rio1Monitor } from './rio1.ts'
import { Rio2Monitor } from './rio2.ts'
import { Vm1Monitor } from './vm1.ts'
import { Vm2Monitor, type Vm2Options } from './vm2.ts'

/** Violations kept of one rule; the first ones tell the story, the rest are counted. */
const MAX_VIOLATIONS_PER_RULE = 20

export interface MonitorOptions {
  /** Only these rules. */
  readonly rules?: readonly RuleId[]
  readonly vm2?: Vm2Options
  readonly mig2?: Mig2Options
  readonly csv2?: Csv2Options
  readonly io1?: BlockHistoryOptions
  readonly fen2?: Fen2Options
  readonly rio?: ReachOptions
  /** Called for each violation as it is found. */
  readonly onViolation?: (violation: Violation) => void
}

export interface MonitorSet {
  /**
   * Records in an order that respects cause and effect. `now` is the record's instant on one timeline common to all
   * processes: in simulation true time, so that drifting clocks are seen for what they are; else the record's own.
   */
  observe(record: TraceRecord, now?: number): void
  /** The trace is over: what only shows at the end is judged. Gives all violations. */
  finish(now?: number): readonly Violation[]
  readonly violations: readonly Violation[]
  /** Of the records that any rule here is judged by; others may be left out. */
  readonly kinds: readonly string[]
  /** How many were found, also those beyond the bound of what is kept. */
  readonly found: ReadonlyMap<RuleId, number>
  /** How many records each rule was judged by: zero means that nothing was proved. */
  readonly judged: ReadonlyMap<RuleId, number>
  /** Sectors IO1 could not judge for want of room. */
  readonly givenUp: number
}

export function createMonitors(options: MonitorOptions = {}): MonitorSet {
  return new Monitors(options)
}

const MAKERS: { readonly [rule in RuleId]: (options: MonitorOptions) => Monitor } = {
  VM1: () => new Vm1Monitor(),
  VM2: options => new Vm2Monitor(options.vm2),
  MIG1: () => new Mig1Monitor(),
  MIG2: options => new Mig2Monitor(options.mig2),
  MIG3: () => new Mig3Monitor(),
  CSV1: () => new Csv1Monitor(),
  CSV2: options => new Csv2Monitor(options.csv2),
  CSV3: () => new Csv3Monitor(),
  IO1: options => new Io1Monitor(options.io1),
  IO2: () => new Io2Monitor(),
  IO3: () => new Io3Monitor(),
  MIR1: () => new Mir1Monitor(),
  RIO1: options => new Rio1Monitor(options.rio),
  RIO2: options => new Rio2Monitor(options.rio),
  FEN1: () => new Fen1Monitor(),
  FEN2: options => new Fen2Monitor(options.fen2),
  NET1: () => new Net1Monitor(),
  NET2: () => new Net2Monitor(),
  LIV1: () => new Liv1Monitor(),
}

interface Seat {
  readonly monitor: Monitor
  judged: number
}

/** A write that a host had no right to is that in the first place, whichever extent it hit. */
function rankOf(rule: RuleId): number {
  return rule === 'IO3' ? RULES.indexOf('CSV2') - 0.5 : RULES.indexOf(rule)
}

class Monitors implements MonitorSet {
  readonly violations: Violation[] = []
  readonly found = new Map<RuleId, number>()
  readonly #seats: Seat[] = []
  readonly #byKind = new Map<string, Seat[]>()
  readonly #onViolation: ((violation: Violation) => void) | null
  #io1: Io1Monitor | null = null
  #now = Number.NEGATIVE_INFINITY

  constructor(options: MonitorOptions) {
    this.#onViolation = options.onViolation ?? null
    for (const rule of options.rules ?? RULES) {
      const monitor = MAKERS[rule](options)
      if (monitor instanceof Io1Monitor) this.#io1 = monitor
      const seat = { monitor, judged: 0 }
      this.#seats.push(seat)
      for (const kind of monitor.kinds) {
        const seats = this.#byKind.get(kind)
        if (seats === undefined) this.#byKind.set(kind, [seat])
        else seats.push(seat)
      }
    }
    for (const seats of this.#byKind.values()) seats.sort((a, b) => rankOf(a.monitor.rule) - rankOf(b.monitor.rule))
  }

  get kinds(): readonly string[] {
    return [...this.#byKind.keys()]
  }

  get judged(): ReadonlyMap<RuleId, number> {
    return new Map(this.#seats.map(({ monitor, judged }) => [monitor.rule, judged]))
  }

  get givenUp(): number {
    return this.#io1?.givenUp ?? 0
  }

  observe(record: TraceRecord, now: number = record.at): void {
    if (now > this.#now) this.#now = now
    const seats = this.#byKind.get(record.kind)
    if (seats === undefined) return
    for (const seat of seats) {
      seat.judged++
      const broken = seat.monitor.observe(record, now)
      if (broken !== null) this.#add(broken)
    }
  }

  finish(now: number = this.#now): readonly Violation[] {
    for (const { monitor } of this.#seats) {
      const broken = monitor.finish?.(now) ?? null
      if (broken !== null) this.#add(broken)
    }
    return this.violations
  }

  #add(broken: Violation): void {
    const found = (this.found.get(broken.rule) ?? 0) + 1
    this.found.set(broken.rule, found)
    if (found > MAX_VIOLATIONS_PER_RULE) return
    this.violations.push(broken)
    this.#onViolation?.(broken)
  }
}
