// Judges one register (a 512-byte sector of a disk) while it is being used: reads, writes and trims come and complete,
// and as soon as no linearization can explain what was seen, it says so. Used by block-history.ts for the few sectors
// where something overlaps or is unknown; it forgets what is settled, so it runs for ever in bounded memory.
//
// The method. A *configuration* is one way to explain everything completed so far: the value now, which of the live
// operations have taken effect, which unknown writes were used up, and the *point*: the moment of the last write that
// overwrote something. The judge keeps all configurations that could still matter.
//
// * A read is satisfied in a configuration as soon as the value is the one it returned, at any time while it is live
//   (its result is known beforehand, see block-history.ts): satisfying it changes nothing, so there is no choice.
// * A write takes effect when it completes, or earlier when a read needs it. If it is older than the point it may
//   instead have taken effect right *before* that write and been overwritten at once (*absorbed*): then the value
//   stays, and live reads of its value older than the point are satisfied with it.
// * An unknown write stays available for ever. It is used only when a read needs it, for one that nobody reads need
//   not have happened.
// * A trim makes the value "or zero": reads may see either, each for itself, until the next write. A live write older
//   than the trim may also have *slipped* in right before it: then its own value is "or zero". That excludes that a
//   read invoked after the trim has seen the value before, so here satisfying a read is a choice.
//
// Sound (what it rejects is not linearizable) and complete (it rejects everything else): a linearization can always
// move an operation later until just before a completion that needs it, except behind a write that overwrites it; and
// being overwritten at one point is as good as at another, so the latest point stands for all. Checked against the
// search of linearizability.ts on random histories. One configuration dominates another if it differs only in a later
// point or slip, fewer used-up writes or an "or zero" more: only dominating ones are kept.
//
// Bounds: at most 30 live writes, 30 unknown ones with their own identity (older ones become reusable: sound, slightly
// weaker) and 1,024 configurations. Past those the register is *given up*: it accepts everything and says that it did.

/** `trim` leaves the old value or zero. A zero-write is a write of 0. */
export type RegisterOp = 'read' | 'write' | 'trim'

const MAX_SLOTS = 30
const MAX_CONFIGURATIONS = 1024
const MAX_REUSABLE = 1024

const NEVER = Number.NEGATIVE_INFINITY

interface Live {
  readonly key: unknown
  readonly op: RegisterOp
  readonly value: number
  readonly invoked: number
  readonly bit: number
}

interface Unknown {
  readonly op: 'write' | 'trim'
  readonly value: number
  readonly invoked: number
  readonly bit: number
}

interface Configuration {
  readonly value: number
  /** It was trimmed, and nothing has overwritten that. */
  readonly orZero: boolean
  /** The moment of the last such trim, if a write may still have slipped in before it; else -∞. */
  readonly slip: number
  readonly point: number
  /** Bits of live operations that have taken effect. */
  readonly done: number
  /** Bits of unknown writes that have taken effect. */
  readonly used: number
}

export class RegisterJudge {
  #configurations: Configuration[]
  readonly #live = new Map<unknown, Live>()
  #unknown: Unknown[] = []
  /** Values of unknown writes beyond the bound, which may appear any number of times. */
  readonly #reusable = new Set<number>()
  #freeSlots = (1 << MAX_SLOTS) - 1
  #freeUnknown = (1 << MAX_SLOTS) - 1
  #givenUp = false

  /** `values`: what the register may hold now; `orZero`: or zero, after a trim. */
  constructor(values: readonly number[], orZero = false) {
    this.#configurations = values.map(value => ({ value, orZero, slip: NEVER, point: NEVER, done: 0, used: 0 }))
  }

  /** One that accepts everything. */
  static anything(): RegisterJudge {
    const judge = new RegisterJudge([])
    judge.#giveUp()
    return judge
  }

  get givenUp(): boolean {
    return this.#givenUp
  }

  /** What it holds, if that is certain and nothing is under way: then the judge can be forgotten. Null otherwise. */
  settled(): number | null {
    const [only] = this.#configurations
    if (this.#givenUp || only === undefined || this.#configurations.length > 1) return null
    if (only.orZero && only.value !== 0) return null
    if (this.#live.size > 0 || this.#unknown.length > 0 || this.#reusable.size > 0) return null
    return only.value
  }

  /** Some values a read might return now, for messages. */
  get possible(): readonly number[] {
    const values = new Set<number>()
    for (const { value, orZero } of this.#configurations) {
      values.add(value)
      if (orZero) values.add(0)
    }
    return [...values]
  }

  /** All that it may hold when nothing is under way any more: unknown writes may have landed. */
  get candidates(): readonly number[] {
    const values = new Set([...this.possible, ...this.#reusable])
    for (const { op, value } of this.#unknown) values.add(op === 'trim' ? 0 : value)
    return [...values]
  }

  /** `key` names the operation; `value` is what a write writes and what a read will return (0 for a trim). */
  invoke(key: unknown, op: RegisterOp, value: number, now: number): void {
    if (this.#givenUp) return
    const bit = this.#freeSlots & -this.#freeSlots
    if (bit === 0) {
      this.#giveUp()
      return
    }
    this.#freeSlots &= ~bit
    this.#live.set(key, { key, op, value, invoked: now, bit })
    if (op !== 'read') return
    const after: Configuration[] = []
    for (const each of this.#configurations) this.#satisfy(each, after)
    this.#replace(after)
  }

  /** The operation completed. False: no linearization explains this. */
  complete(key: unknown, now: number): boolean {
    const live = this.#take(key)
    if (live === null) return true
    const before = this.#configurations
    const after: Configuration[] = []
    for (const each of before) {
      if ((each.done & live.bit) !== 0) after.push({ ...each, done: each.done & ~live.bit })
      else if (live.op === 'read') this.#explain(each, live, now, after)
      else {
        this.#apply(each, live, now, after, null)
        // A trim applied now is never worse than one that was overwritten.
        if (live.op === 'write' && live.invoked < each.point) after.push(this.#absorbed(each, live.value))
      }
    }
    this.#replace(after)
    if (this.#unknown.length > 0) this.#tidyUnknown()
    return this.#consistent(before)
  }

  /** The operation surely took no effect. False: something had already seen its effect. */
  fail(key: unknown): boolean {
    const live = this.#take(key)
    if (live === null) return true
    const before = this.#configurations
    if (live.op === 'read') this.#replace(before.map(each => ({ ...each, done: each.done & ~live.bit })))
    else this.#replace(before.filter(each => (each.done & live.bit) === 0))
    return this.#consistent(before)
  }

  /** The outcome will never be known. */
  lose(key: unknown): void {
    const live = this.#take(key)
    if (live === null) return
    const clear = (each: Configuration): Configuration => ({ ...each, done: each.done & ~live.bit })
    if (live.op === 'read' || this.#configurations.every(each => (each.done & live.bit) !== 0)) {
      this.#replace(this.#configurations.map(clear))
      return
    }
    this.#tidyUnknown()
    if (this.#freeUnknown === 0) this.#generalize()
    const bit = this.#freeUnknown & -this.#freeUnknown
    this.#freeUnknown &= ~bit
    this.#unknown.push({ op: live.op, value: live.value, invoked: live.invoked, bit })
    this.#replace(
      this.#configurations.map(each => {
        const used = (each.done & live.bit) === 0 ? each.used : each.used | bit
        return { ...each, done: each.done & ~live.bit, used }
      }),
    )
  }

  /** All ways in which a live read can have seen its value although the register does not hold it. */
  #explain(each: Configuration, read: Live, now: number, out: Configuration[]): void {
    const old = read.invoked < each.point
    for (const write of this.#live.values()) {
      if (write.op === 'read' || write.value !== read.value || (each.done & write.bit) !== 0) continue
      const base = { ...each, done: each.done | write.bit }
      this.#apply(base, write, now, out, read)
      if (old && write.invoked < each.point) out.push(this.#absorbed(base, write.value))
    }
    for (const write of this.#unknown) {
      if (write.value !== read.value || (each.used & write.bit) !== 0) continue
      const base = { ...each, used: each.used | write.bit }
      this.#apply(base, write, now, out, read)
      if (old && write.invoked < each.point) out.push(this.#absorbed(base, write.value))
    }
    if (!this.#reusable.has(read.value)) return
    this.#apply(each, { op: 'write', value: read.value, invoked: NEVER }, now, out, read)
    if (read.value === 0) this.#apply(each, { op: 'trim', value: 0, invoked: NEVER }, now, out, read)
    if (old) out.push(this.#absorbed(each, read.value))
  }

  /** A write or trim takes effect now, or a write right before the trim in force; `seenBy` is a read that needs it. */
  #apply(
    each: Configuration,
    by: Pick<Live, 'op' | 'value' | 'invoked'>,
    now: number,
    out: Configuration[],
    seenBy: Live | null,
  ): void {
    if (by.op === 'trim') {
      this.#satisfy({ ...each, orZero: true, slip: now }, out)
      return
    }
    const { value } = by
    this.#satisfy({ ...each, value, orZero: false, slip: NEVER, point: now }, out)
    if (by.invoked >= each.slip) return
    const excluded = seenBy !== null && value !== 0 && seenBy.invoked > each.slip
    this.#satisfy({ ...each, value, point: each.slip, slip: excluded ? NEVER : each.slip }, out)
  }

  /** Live reads of what is there are satisfied; where that would keep a write from slipping, in a configuration of its own. */
  #satisfy(each: Configuration, out: Configuration[]): void {
    const slip = each.slip !== NEVER && this.#maySlip(each) ? each.slip : NEVER
    let done = each.done
    let excluding = 0
    for (const live of this.#live.values()) {
      if (live.op !== 'read' || (done & live.bit) !== 0) continue
      if (live.value === 0 && each.orZero) done |= live.bit
      else if (live.value !== each.value) continue
      else if (slip === NEVER || live.invoked < slip) done |= live.bit
      else excluding |= live.bit
    }
    out.push({ ...each, slip, done })
    if (excluding !== 0) out.push({ ...each, slip: NEVER, done: done | excluding })
  }

  #maySlip(each: Configuration): boolean {
    if (this.#reusable.size > 0) return true
    for (const live of this.#live.values()) {
      if (live.op === 'write' && (each.done & live.bit) === 0 && live.invoked < each.slip) return true
    }
    return this.#unknown.some(
      write => write.op === 'write' && (each.used & write.bit) === 0 && write.invoked < each.slip,
    )
  }

  /** A write took effect right before the one at the point. */
  #absorbed(each: Configuration, value: number): Configuration {
    let done = each.done
    for (const live of this.#live.values()) {
      if (live.op === 'read' && live.value === value && live.invoked < each.point) done |= live.bit
    }
    return { ...each, done }
  }

  #take(key: unknown): Live | null {
    const live = this.#live.get(key)
    if (live === undefined) return null
    this.#live.delete(key)
    this.#freeSlots |= live.bit
    return live
  }

  /** After a contradiction it goes on from what was possible before, so that one fault is told once. */
  #consistent(before: readonly Configuration[]): boolean {
    if (this.#configurations.length > 0 || this.#givenUp) return true
    this.#configurations = [...before]
    this.#giveUp()
    return false
  }

  #giveUp(): void {
    this.#givenUp = true
    this.#live.clear()
    this.#unknown = []
    this.#reusable.clear()
  }

  #replace(configurations: Configuration[]): void {
    this.#configurations = configurations.length > 1 ? undominated(configurations) : configurations
    if (this.#configurations.length > MAX_CONFIGURATIONS) this.#giveUp()
  }

  /** Unknown writes that every configuration has used are known by now. */
  #tidyUnknown(): void {
    if (this.#configurations.length === 0) return
    let usedByAll = -1
    for (const { used } of this.#configurations) usedByAll &= used
    this.#unknown = this.#unknown.filter(each => {
      if ((usedByAll & each.bit) === 0) return true
      this.#freeUnknown |= each.bit
      return false
    })
    if (usedByAll === 0) return
    const drop = ~usedByAll
    this.#configurations = this.#configurations.map(each => ({ ...each, used: each.used & drop }))
  }

  /** The oldest unknown write loses its identity: its value may appear at any time, any number of times. */
  #generalize(): void {
    const oldest = this.#unknown.shift()
    if (oldest === undefined) return
    this.#freeUnknown |= oldest.bit
    this.#reusable.add(oldest.value)
    this.#replace(this.#configurations.map(each => ({ ...each, used: each.used & ~oldest.bit })))
    if (this.#reusable.size > MAX_REUSABLE) this.#giveUp()
  }
}

/** Keeps the configurations that no other makes superfluous. */
function undominated(all: readonly Configuration[]): Configuration[] {
  const groups = new Map<string, Configuration[]>()
  const kept: Configuration[] = []
  for (const each of all) {
    const key = `${each.value}:${each.done}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [each])
    else if (!group.some(other => dominates(other, each))) {
      groups.set(key, [...group.filter(other => !dominates(each, other)), each])
    }
  }
  for (const group of groups.values()) kept.push(...group)
  return kept
}

function dominates(a: Configuration, b: Configuration): boolean {
  return a.point >= b.point && a.slip >= b.slip && (a.orZero || !b.orZero) && (a.used & ~b.used) === 0
}
