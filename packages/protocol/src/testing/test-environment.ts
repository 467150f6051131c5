// A small environment for unit tests: a clock that stands until it is moved, timers on it, a network of memory links, and
// everything traced and logged kept. It has no files and no processes: what needs those is tested in the simulation.

import type { Address, Environment, Link, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { createTraceSink } from '@stellwerk/runtime/trace-sink.ts'
import { type LinkPair, linkPair } from './memory-link.ts'

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: object
}

/** One time and one network for the environments of a test. */
export class TestWorld {
  now = 1000
  readonly links: LinkPair[] = []
  readonly #timers: { at: number; f: () => void }[] = []
  readonly #listeners = new Map<string, (link: Link) => void>()

  environment(name: string, options: { readonly traced?: boolean } = {}): TestEnvironment {
    const records: TraceRecord[] = []
    const logs: LogLine[] = []
    const clock = { now: () => this.now, wall: () => 1_700_000_000_000 + this.now }
    const at = (level: LogLine['level']) => (fields: object, message: string) =>
      void logs.push({ level, message, fields })
    const writer =
      options.traced === false ? null : { level: 'io' as const, write: (r: TraceRecord) => void records.push(r) }
    const environment: Environment = {
      name,
      clock,
      timers: { after: (delayMs, f) => this.#after(delayMs, f) },
      network: {
        dial: address => this.#dial(address),
        listen: (address, accept) => {
          this.#listeners.set(keyOf(address), accept)
          const close = (): Promise<void> => {
            this.#listeners.delete(keyOf(address))
            return Promise.resolve()
          }
          return Promise.resolve({ address, close })
        },
        dialStream: () => Promise.reject(absent('streams')),
        listenStream: () => Promise.reject(absent('streams')),
      },
      random: new SimRandom(name),
      log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
      trace: createTraceSink(name, clock, writer),
      get files(): never {
        throw absent('files')
      },
      get store(): never {
        throw absent('store')
      },
      get processes(): never {
        throw absent('processes')
      },
      get compute(): never {
        throw absent('compute')
      },
    }
    return { environment, records, logs }
  }

  /** Lets everything that waits for no time happen. */
  async settle(): Promise<void> {
    for (let i = 0; i < 50; i++) await Promise.resolve()
    while (this.#timers[0] !== undefined && this.#timers[0].at <= this.now) {
      this.#timers.shift()!.f()
      for (let i = 0; i < 50; i++) await Promise.resolve()
    }
  }

  /** Moves the clock, from timer to timer. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms
    await this.settle()
    while (this.#timers[0] !== undefined && this.#timers[0].at <= end) {
      this.now = this.#timers[0].at
      await this.settle()
    }
    this.now = end
    await this.settle()
  }

  get timers(): number {
    return this.#timers.length
  }

  #after(delayMs: number, f: () => void): { cancel(): void } {
    const entry = { at: this.now + delayMs, f }
    const later = this.#timers.findIndex(timer => timer.at > entry.at)
    if (later < 0) this.#timers.push(entry)
    else this.#timers.splice(later, 0, entry)
    return {
      cancel: () => {
        const index = this.#timers.indexOf(entry)
        if (index >= 0) this.#timers.splice(index, 1)
      },
    }
  }

  #dial(address: Address): Promise<Link> {
    const accept = this.#listeners.get(keyOf(address))
    if (accept === undefined) {
      return Promise.reject(new StellwerkError('refused', 'nobody listens', { where: keyOf(address), retryable: true }))
    }
    const pair = linkPair()
    this.links.push(pair)
    accept(pair.b)
    return Promise.resolve(pair.a)
  }
}

export interface TestEnvironment {
  readonly environment: Environment
  readonly records: TraceRecord[]
  readonly logs: LogLine[]
}

const keyOf = (address: Address): string => `${address.network}/${address.host}:${address.port}`
const absent = (what: string): StellwerkError => new StellwerkError('not-in-tests', `a test environment has no ${what}`)
