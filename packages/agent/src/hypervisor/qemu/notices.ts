// What QEMU reports as events, for the record: each is told on, trimmed, and not more of them than anybody reads. A guest may have
// some of them said as often as it likes (RESET, RTC_CHANGE, BLOCK_IO_ERROR).

import type { Clock } from '@stellwerk/runtime/environment.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import type { MachineNotice } from '../hypervisor.ts'
import type { QmpEvent } from './qmp.ts'

/** Of one kind of event, and of all together, within this time: what is beyond is counted. */
const WINDOW_MS = 1_000
const OF_A_KIND = 8
const OF_ALL = 64
/** Of the data, as JSON. */
const DATA_MAX = KIB
const NAME_MAX = 64
/** Kinds that are told apart; QEMU 9 has some sixty. */
const KINDS_MAX = 256

interface Counted {
  told: number
  missed: number
}

export class Notices {
  readonly #clock: Clock
  readonly #tell: (notice: MachineNotice) => void
  readonly #kinds = new Map<string, Counted>()
  #since = Number.NEGATIVE_INFINITY
  #told = 0

  constructor(clock: Clock, tell: (notice: MachineNotice) => void) {
    this.#clock = clock
    this.#tell = tell
  }

  heard({ event, data }: QmpEvent): void {
    const name = event.slice(0, NAME_MAX)
    this.#turn()
    const kind = this.#kinds.get(name) ?? { told: 0, missed: 0 }
    if (this.#kinds.size < KINDS_MAX) this.#kinds.set(name, kind)
    if (kind.told >= OF_A_KIND || this.#told >= OF_ALL) {
      kind.missed++
      return
    }
    kind.told++
    this.#told++
    const { missed } = kind
    kind.missed = 0
    this.#tell({ kind: 'notice', event: name, data: trimmed(data), missed })
  }

  #turn(): void {
    const now = this.#clock.now()
    if (now - this.#since < WINDOW_MS) return
    this.#since = now
    this.#told = 0
    for (const kind of this.#kinds.values()) kind.told = 0
  }
}

/** What is longer is told as the beginning of its text. */
function trimmed(data: QmpEvent['data']): QmpEvent['data'] {
  const text = JSON.stringify(data)
  return text.length <= DATA_MAX ? data : { trimmed: text.slice(0, DATA_MAX) }
}
