// Trace records of a simulation: each process's sink, the running hash that tells two runs apart, and the barriers that act
// the instant a record is made.

import { assert } from '../assert.ts'
import type { Cause, Hlc, Json, TraceEvent, TraceLevel, TraceRecord, TraceSink } from '../environment.ts'
import { HybridClock } from '../hlc.ts'
import type { SimProcess } from './process.ts'
import type { Simulation } from './simulation.ts'

/** What tells kinds of values apart in the hash; lists also by their length. */
const TRUE = 0x54525545
const FALSE = 0x46414c53
const NULL = 0x4e554c4c
const OBJECT = 0x4f424a45
const LIST = 0x4c495354

/** A 64-bit running hash (two lanes) over events and records. */
export class TraceHash {
  #low = 0x811c9dc5 | 0
  #high = 0x01000193 | 0
  readonly #float = new Float64Array(1)
  readonly #words = new Int32Array(this.#float.buffer)

  number(value: number): void {
    this.#float[0] = value
    this.#mix(this.#words[0]!)
    this.#mix(this.#words[1]!)
  }

  text(value: string): void {
    this.#mix(value.length)
    for (let i = 0; i < value.length; i++) this.#mix(value.charCodeAt(i))
  }

  /** Values in the order in which they stand: the same records must be made in the same way. */
  json(value: Json): void {
    switch (typeof value) {
      case 'number':
        if ((value | 0) === value) this.#mix(value)
        else this.number(value)
        return
      case 'string':
        this.text(value)
        return
      case 'boolean':
        this.#mix(value ? TRUE : FALSE)
        return
    }
    if (value === null || value === undefined) {
      this.#mix(NULL)
    } else if (Array.isArray(value)) {
      this.#mix(LIST + value.length)
      for (const each of value) this.json(each)
    } else {
      this.#mix(OBJECT)
      for (const key in value) {
        this.text(key)
        this.json((value as { readonly [key: string]: Json })[key]!)
      }
    }
  }

  #mix(word: number): void {
    this.#low = Math.imul(this.#low ^ word, 0x01000193)
    this.#high = Math.imul((this.#high << 5) ^ (this.#high >>> 27) ^ word, 0x9e3779b1) ^ (this.#low >>> 16)
  }

  digest(): string {
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0')
    return hex(this.#high) + hex(this.#low)
  }
}

/** Acts synchronously, inside the call that emits the record: what the process does after it has the action's effect. */
export interface Barrier {
  /** The records that met it. */
  readonly met: readonly TraceRecord[]
  remove(): void
}

export interface BarrierOptions {
  /** After this many records it is removed. Default 1. */
  readonly times?: number
}

type Action = (record: TraceRecord) => void

/** Barriers a simulation can hold at once. */
const BARRIERS_MAX = 256

class ActiveBarrier implements Barrier {
  readonly met: TraceRecord[] = []
  readonly predicate: (record: TraceRecord) => boolean
  readonly action: Action
  readonly remove: () => void

  constructor(predicate: (record: TraceRecord) => boolean, action: Action, remove: (self: ActiveBarrier) => void) {
    this.predicate = predicate
    this.action = action
    this.remove = () => remove(this)
  }
}

export interface RecorderOptions {
  /** Levels that are recorded. Default: all. */
  readonly levels: readonly TraceLevel[]
  /** The newest records kept in `records`; monitors that must see all listen. */
  readonly keepMax: number
}

export class TraceRecorder {
  readonly hash = new TraceHash()
  readonly records: TraceRecord[] = []
  /** Records ever made, kept or not. */
  count = 0
  readonly #levels: ReadonlySet<TraceLevel>
  readonly #keepMax: number
  readonly #listeners = new Set<(record: TraceRecord) => void>()
  readonly #barriers = new Set<ActiveBarrier>()

  constructor(options: RecorderOptions) {
    this.#levels = new Set(options.levels)
    this.#keepMax = options.keepMax
  }

  on(level: TraceLevel): boolean {
    return this.#levels.has(level)
  }

  listen(f: (record: TraceRecord) => void): () => void {
    this.#listeners.add(f)
    return () => void this.#listeners.delete(f)
  }

  barrier(match: string | ((record: TraceRecord) => boolean), action: Action, options: BarrierOptions): Barrier {
    assert(this.#barriers.size < BARRIERS_MAX, `at most ${BARRIERS_MAX} barriers at once`)
    const times = options.times ?? 1
    const predicate = typeof match === 'string' ? (record: TraceRecord) => record.kind === match : match
    const barrier: ActiveBarrier = new ActiveBarrier(
      predicate,
      record => {
        barrier.met.push(record)
        if (barrier.met.length >= times) this.#barriers.delete(barrier)
        action(record)
      },
      self => this.#barriers.delete(self),
    )
    this.#barriers.add(barrier)
    return barrier
  }

  add(record: TraceRecord): void {
    this.count++
    this.#hashRecord(record)
    this.records.push(record)
    // Dropped by halves: shifting one by one is quadratic.
    if (this.records.length >= 2 * this.#keepMax) this.records.splice(0, this.records.length - this.#keepMax)
    for (const listener of this.#listeners) listener(record)
    if (this.#barriers.size === 0) return
    for (const barrier of [...this.#barriers]) {
      if (this.#barriers.has(barrier) && barrier.predicate(record)) barrier.action(record)
    }
  }

  #hashRecord(record: TraceRecord): void {
    const hash = this.hash
    hash.number(record.at)
    hash.number(record.hlc.wallMs)
    hash.number(record.hlc.counter)
    hash.text(record.process)
    hash.text(record.kind)
    if (record.host !== undefined) hash.text(record.host)
    if (record.vm !== undefined) hash.text(record.vm)
    if (record.volume !== undefined) hash.text(record.volume)
    if (record.disk !== undefined) hash.text(record.disk)
    if (record.migration !== undefined) hash.text(record.migration)
    if (record.cause !== undefined) {
      hash.text(record.cause.process)
      hash.number(record.cause.seq)
    }
    if (record.body !== undefined) hash.json(record.body)
  }
}

/** What a pure core was fed (`input`), answered (`output`) or held (`snapshot`). It is on no record, and in no hash. */
export interface CoreInput {
  readonly process: string
  readonly at: number
  readonly kind: 'input' | 'output' | 'snapshot'
  /** The message that led to it. */
  readonly cause?: Cause
  readonly core: string
  readonly value: Json
}

/** The sink of one process (or, with `process` null, of the simulator itself). */
export class SimTraceSink implements TraceSink {
  readonly #sim: Simulation
  readonly #process: SimProcess | null
  readonly #name: string
  readonly #clock = new HybridClock()
  #seq = 0
  #cause: Cause | undefined

  constructor(sim: Simulation, process: SimProcess | null, name: string) {
    this.#sim = sim
    this.#process = process
    this.#name = name
  }

  on(level: TraceLevel): boolean {
    return this.#alive && this.#sim.recorder.on(level)
  }

  emit(event: TraceEvent): Cause {
    if (!this.#alive) return { process: this.#name, seq: this.#seq }
    const seq = ++this.#seq
    if (this.#sim.recorder.on(event.level)) {
      const stamps = { hlc: this.#clock.stamp(this.#wall()), at: this.#sim.now, process: this.#name, seq }
      const cause = event.cause ?? this.#cause
      this.#sim.recordMade(cause === undefined ? { ...event, ...stamps } : { ...event, cause, ...stamps })
    }
    return { process: this.#name, seq }
  }

  observe(hlc: Hlc): void {
    if (this.#alive) this.#clock.observe(hlc, this.#wall())
  }

  stamp(): Hlc {
    return this.#clock.stamp(this.#wall())
  }

  within<T>(cause: Cause | undefined, f: () => T): T {
    const outer = this.#cause
    this.#cause = cause
    try {
      return f()
    } finally {
      this.#cause = outer
    }
  }

  input(core: string, value: Json): void {
    this.#core('input', core, value)
  }

  output(core: string, value: () => Json): void {
    if (!this.#alive || !this.#sim.listensToCores) return
    const said = value()
    if (said !== null) this.#core('output', core, said)
  }

  snapshot(core: string, state: Json): void {
    this.#core('snapshot', core, state)
  }

  #core(kind: CoreInput['kind'], core: string, value: Json): void {
    if (!this.#alive || !this.#sim.listensToCores) return
    const cause = this.#cause === undefined ? {} : { cause: this.#cause }
    this.#sim.coreInput({ process: this.#name, at: this.#sim.now, kind, ...cause, core, value })
  }

  get #alive(): boolean {
    return this.#process === null || this.#process.alive
  }

  #wall(): number {
    return this.#process === null ? this.#sim.wallStartMs + this.#sim.now : this.#process.host.wall()
  }
}
