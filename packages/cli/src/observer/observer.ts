// An observer outside all hosts: follows what the guests say over links to every agent, keeps a ledger of what it heard
// acknowledged and when, and puts it on record for the monitors. What it does not hear it does not believe.

import type { Address, Environment, Hlc, TraceEvent, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { compareHlc, HybridClock } from '@stellwerk/runtime/hlc.ts'
import { ConsoleFollower, type ConsoleLine } from '../cluster/console-follower.ts'
import { HeardLedger } from './heard-ledger.ts'
import { OBSERVER } from './observer-name.ts'

/** Records kept; an observer that heard more judges nothing (`overflowed`). */
const MAX_RECORDS = 1_000_000

export interface ObserverOptions {
  readonly env: Environment
  readonly cluster: string
  readonly token: string
}

export class Observer {
  readonly #env: Environment
  readonly #follower: ConsoleFollower
  readonly #ledgers = new Map<string, HeardLedger>()
  readonly #records: TraceRecord[] = []
  readonly #answered = new Set<string>()
  /** Hosts' wall clocks may be wrong: what is said here comes behind all that was heard. */
  readonly #hlc = new HybridClock()
  #seq = 0

  constructor(options: ObserverOptions) {
    this.#env = options.env
    this.#follower = new ConsoleFollower({
      ...options,
      onLine: line => this.#hear(line),
      onMachines: host => this.#answered.add(host),
    })
  }

  follow(hosts: readonly { readonly name: string; readonly control: Address }[]): void {
    this.#follower.follow(hosts)
  }

  /** Hosts that have answered once: from then on they are heard, but for the time a link is down. */
  get answered(): ReadonlySet<string> {
    return this.#answered
  }

  get overflowed(): boolean {
    return this.#seq > MAX_RECORDS
  }

  ledger(vm: string): HeardLedger {
    let ledger = this.#ledgers.get(vm)
    if (ledger === undefined) {
      ledger = new HeardLedger(vm)
      this.#ledgers.set(vm, ledger)
    }
    return ledger
  }

  /** Faults are over: from now on these VMs are to make progress (rule LIV1). */
  faultsEnded(withinMs: number, vms: readonly string[]): void {
    this.note({ level: 'decision', kind: 'faults.ended', body: { withinMs, vms: [...vms] } })
  }

  /** Puts something on record that happens now. */
  note(event: TraceEvent): void {
    this.#record({ hlc: this.#hlc.stamp(this.#env.clock.wall()), ...event })
  }

  /** In the order of the stamps with which the lines left their hosts. */
  records(): TraceRecord[] {
    return [...this.#records].sort((a, b) => compareHlc(a.hlc, b.hlc) || a.seq - b.seq)
  }

  stop(): void {
    this.#follower.stop()
  }

  #hear({ vm, host, line, hlc }: ConsoleLine): void {
    this.#hlc.observe(hlc, this.#env.clock.wall())
    const heard = this.ledger(vm).take(line, host, this.#env.clock.now())
    if (heard === null) return
    const { entry } = heard
    if (heard.kind === 'acknowledged') {
      this.#record({ hlc, level: 'io', kind: 'guest.acknowledged', vm, host, body: { entry } })
    } else {
      this.#record({ hlc, level: 'io', kind: 'guest.recovered', vm, host, body: { entry, intact: heard.intact } })
    }
  }

  #record(event: Omit<TraceRecord, 'at' | 'process' | 'seq'> & { readonly hlc: Hlc }): void {
    this.#seq += 1
    if (this.overflowed) return
    this.#records.push({ ...event, at: this.#env.clock.now(), process: OBSERVER, seq: this.#seq })
  }
}
