// What a crash of a raw backend may leave in each sector (docs/FAULTS.md and the crash rule of docs/SPEC.md): any write
// not older than the last one that was stable, which is one that completed with FUA or before the invocation of a flush
// that completed. Kept by block-history.ts in crash mode only; a cluster's own disks have no such licence.

/** Writes of one sector since the last stable one that are told apart; older ones only lend their values. */
const MAX_WRITES = 64
/** Values one sector may fall back to; beyond it the sector is no longer judged. */
const MAX_BASE = 1024

interface Write {
  readonly value: number
  readonly invoked: number
  /** Infinity: of unknown outcome, so never older than anything and never stable. */
  readonly completed: number
  readonly fua: boolean
  readonly trim: boolean
}

interface SectorLog {
  /** What it may have held before these writes. */
  base: readonly number[]
  baseTrimmed: boolean
  /** When the last write that is in the base completed. */
  baseCompleted: number
  writes: Write[]
}

export interface Fallback {
  /** Null: too much was going on, the sector can't be judged any more. */
  readonly values: readonly number[] | null
  readonly trimmed: boolean
  /** Writes of unknown outcome, which may still come. */
  readonly unknown: readonly { readonly value: number; readonly trim: boolean }[]
}

export class WriteLog {
  readonly #sectors = new Map<number, SectorLog>()
  readonly #lost = new Set<number>()
  #stableBefore = Number.NEGATIVE_INFINITY

  get sectors(): readonly number[] {
    return [...this.#sectors.keys(), ...this.#lost]
  }

  /** `before`: what the sector may have held until now, asked only if it has no log yet. */
  add(sector: number, write: Write, before: () => readonly number[]): void {
    if (this.#lost.has(sector)) return
    let log = this.#sectors.get(sector)
    if (log === undefined) {
      log = { base: before(), baseTrimmed: false, baseCompleted: Number.NEGATIVE_INFINITY, writes: [] }
      this.#sectors.set(sector, log)
    }
    log.writes.push(write)
    this.#prune(log)
    if (log.writes.length > MAX_WRITES) this.#merge(log)
    if (log.base.length <= MAX_BASE && log.writes.length <= MAX_WRITES) return
    this.#sectors.delete(sector)
    this.#lost.add(sector)
  }

  /** A flush that was invoked then has completed. */
  flushed(invoked: number): void {
    this.#stableBefore = Math.max(this.#stableBefore, invoked)
  }

  /** The backend crashed: what the sector may hold now, from which its log goes on. */
  crash(sector: number): Fallback {
    const log = this.#sectors.get(sector)
    if (log === undefined) return { values: null, trimmed: true, unknown: [] }
    this.#prune(log)
    const values = [...new Set([...log.base, ...log.writes.map(each => each.value)])]
    const trimmed = log.baseTrimmed || log.writes.some(each => each.trim)
    const unknown = log.writes.filter(each => each.completed === Number.POSITIVE_INFINITY)
    if (unknown.length === 0 && values.length === 1) this.#sectors.delete(sector)
    else {
      log.base = values
      log.baseTrimmed = trimmed
      log.baseCompleted = Number.NEGATIVE_INFINITY
      log.writes = unknown
    }
    return { values, trimmed, unknown }
  }

  /** The older half lends only its values from now on: sound, for it can only allow more. */
  #merge(log: SectorLog): void {
    const older = log.writes.slice(0, MAX_WRITES / 2).filter(each => each.completed !== Number.POSITIVE_INFINITY)
    log.base = [...new Set([...log.base, ...older.map(each => each.value)])]
    log.baseTrimmed ||= older.some(each => each.trim)
    for (const each of older) log.baseCompleted = Math.max(log.baseCompleted, each.completed)
    log.writes = log.writes.filter(each => !older.includes(each))
  }

  #prune(log: SectorLog): void {
    let newest = Number.NEGATIVE_INFINITY
    for (const each of log.writes) {
      const stable = each.fua || each.completed < this.#stableBefore
      if (stable && !each.trim && each.completed !== Number.POSITIVE_INFINITY) newest = Math.max(newest, each.invoked)
    }
    if (newest === Number.NEGATIVE_INFINITY) return
    if (log.baseCompleted < newest) {
      log.base = []
      log.baseTrimmed = false
    }
    log.writes = log.writes.filter(each => each.completed >= newest)
  }
}
