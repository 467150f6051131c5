// FEN2: a fenced host learns it or freezes within its lease. Judged by what executes: each step of a guest needs a lease
// that was really granted to its host, or probes really answered to it on the VM's storages, recently enough. With
// `vm.run` (or `vm.storages` since) naming the VM's `storages`, all of them must have answered; else any one is taken for all.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  agoMs,
  ensure,
  field,
  id,
  type Monitor,
  numberField,
  setBounded,
  stringField,
  stringsField,
  type Violation,
  violation,
} from './monitor.ts'

const MAX_INSTANCES = 16

export interface Fen2Options {
  /** How far two machines' clocks may differ in speed; a lease lasts `leaseMs` × (1 + 4 × this) at most. */
  readonly driftFraction?: number
  /** What freezing a guest may take once its lease has run out, and the coarseness of aggregated steps. */
  readonly slackMs?: number
  /** The lease for hosts that storage has answered, before any was granted by the coordinator. */
  readonly leaseMs?: number
}

interface Host {
  lease: TraceRecord | null
  leaseAt: number
  probe: TraceRecord | null
  probeAt: number
  /** The end of the right to run, by the coordinator's lease or by any storage's; a step before it needs no closer look. */
  readonly probes: Map<string, number>
}

export class Fen2Monitor implements Monitor {
  readonly rule = 'FEN2'
  readonly kinds = ['guest.step', 'lease.granted', 'storage.probed', 'vm.run', 'vm.storages']
  readonly #hosts = new Map<string, Host>()
  readonly #storages = new Map<string, Map<string, readonly string[]>>()
  readonly #stretch: number
  readonly #slackMs: number
  #leaseMs: number

  constructor(options: Fen2Options = {}) {
    this.#stretch = 1 + 4 * (options.driftFraction ?? 0.005)
    this.#slackMs = options.slackMs ?? 50
    this.#leaseMs = options.leaseMs ?? 0
  }

  observe(record: TraceRecord, now: number): Violation | null {
    const host = ensure(this.#hosts, id(record, 'host'), () => ({
      lease: null,
      leaseAt: Number.NEGATIVE_INFINITY,
      probe: null,
      probeAt: Number.NEGATIVE_INFINITY,
      probes: new Map(),
    }))
    switch (record.kind) {
      case 'guest.step':
        return this.#step(record, now, host)
      case 'lease.granted':
        host.lease = record
        host.leaseAt = now
        this.#leaseMs = numberField(record, 'leaseMs')
        return null
      case 'storage.probed':
        host.probe = record
        host.probeAt = now
        host.probes.set(stringField(record, 'storage'), now)
        return null
      default:
        if (field(record, 'storages') !== undefined) {
          const instances = ensure(this.#storages, id(record, 'vm'), () => new Map<string, readonly string[]>())
          const storages = stringsField(record, 'storages')
          setBounded(instances, stringField(record, 'instance'), storages, MAX_INSTANCES)
        }
        return null
    }
  }

  #step(record: TraceRecord, now: number, host: Host): Violation | null {
    const at = now - agoMs(record)
    if (host.lease !== null) {
      const leaseMs = numberField(host.lease, 'leaseMs')
      if (at <= host.leaseAt + leaseMs * this.#stretch + this.#slackMs) return null
    }
    const oldest = at - this.#leaseMs * this.#stretch - this.#slackMs
    const storages = this.#storages.get(id(record, 'vm'))?.get(stringField(record, 'instance'))
    if (storages === undefined) {
      if (host.probeAt >= oldest) return null
    } else if (
      storages.length > 0 &&
      storages.every(name => (host.probes.get(name) ?? Number.NEGATIVE_INFINITY) >= oldest)
    ) {
      return null
    }
    const ages = [
      host.lease === null ? 'never granted a lease' : `lease granted ${Math.round(at - host.leaseAt)} ms ago`,
      host.probe === null
        ? 'never answered by storage'
        : `last answered by storage ${Math.round(at - host.probeAt)} ms ago`,
    ]
    const message = `${record.vm}: executes on ${record.host}, which has no right to run it (${ages.join(', ')}; lease ${this.#leaseMs} ms)`
    return violation('FEN2', message, now, [host.lease, host.probe, record])
  }
}
