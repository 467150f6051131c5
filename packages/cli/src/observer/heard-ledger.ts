// What was heard of one ledger guest, entry by entry: gaps, doubles, boots, and the pause when it moved from one host to
// another. Pure: times are given.

/** Missed entries and complaints that are remembered; beyond that they are only counted. */
const MAX_MISSING = 100_000
const MAX_REMEMBERED = 1_000

export interface Acknowledgement {
  readonly entry: number
  readonly host: string
  /** When it arrived here. */
  readonly at: number
}

/** The guest was heard from another host than before: the last entry there, the first one here. */
export interface Handover {
  readonly from: Acknowledgement
  readonly to: Acknowledgement
}

/** What a guest that booted found on its disk. */
export interface Boot {
  readonly host: string
  readonly at: number
  readonly entries: number
  readonly intact: boolean
}

export type Heard =
  | { readonly kind: 'acknowledged'; readonly entry: number }
  | { readonly kind: 'recovered'; readonly entry: number; readonly intact: boolean }

export class HeardLedger {
  readonly vm: string
  /** Entries heard, each once. */
  heard = 0
  duplicated = 0
  last: Acknowledgement | null = null
  readonly handovers: Handover[] = []
  readonly boots: Boot[] = []
  /** Damage a guest found in its memory or on its disk, in its own words. */
  readonly complaints: string[] = []
  readonly #missing = new Set<number>()

  constructor(vm: string) {
    this.vm = vm
  }

  /** The highest entry heard. */
  get highest(): number {
    return this.last?.entry ?? 0
  }

  /** Below the highest, and never heard: said while nobody listened. */
  get missed(): number {
    return this.highest - this.heard
  }

  /** Null: a line that says nothing about the ledger. */
  take(line: string, host: string, at: number): Heard | null {
    const [word = '', number, state] = line.split(' ')
    const entry = Number(number)
    if (word === 'ack' && entry > 0) {
      this.#acknowledged({ entry, host, at })
      return { kind: 'acknowledged', entry }
    }
    if (word === 'recovered' && Number.isInteger(entry)) {
      const intact = state === 'intact'
      remember(this.boots, { host, at, entries: entry, intact })
      if (!intact) this.#complains(line)
      return { kind: 'recovered', entry, intact }
    }
    // `memory damaged …`, `disk damaged …`; a disk that does not answer for a while is no damage.
    if (line.includes('damaged')) this.#complains(line)
    return null
  }

  #acknowledged(acknowledgement: Acknowledgement): void {
    const { entry, host } = acknowledgement
    const last = this.last
    if (entry <= this.highest) {
      // Two hosts' lines come over two links: what was passed over may still come, once.
      if (this.#missing.delete(entry)) this.heard += 1
      else this.duplicated += 1
      return
    }
    for (let skipped = this.highest + 1; skipped < entry && this.#missing.size < MAX_MISSING; skipped++) {
      this.#missing.add(skipped)
    }
    this.heard += 1
    this.last = acknowledgement
    if (last !== null && last.host !== host) remember(this.handovers, { from: last, to: acknowledgement })
  }

  #complains(line: string): void {
    remember(this.complaints, line)
  }
}

function remember<T>(list: T[], value: T): void {
  list.push(value)
  if (list.length > MAX_REMEMBERED) list.shift()
}
