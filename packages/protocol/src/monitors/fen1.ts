// FEN1: nothing restarts before its old instance is fenced on every leg and waited out, or attested dead. Judged when the
// new placement is durable: against the fences storage recorded, the last right to run that was really given (a lease,
// a probe answered), and deaths that really happened. And after it: the old epoch must not be renewed.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  booleanField,
  ensure,
  id,
  isOwn,
  type Monitor,
  machinesEnded,
  numberField,
  setBounded,
  stringField,
  stringsField,
  type Violation,
  violation,
} from './monitor.ts'

/** Epochs of a host whose last grant or probe is remembered. */
const MAX_EPOCHS = 8

interface Given {
  readonly at: number
  readonly record: TraceRecord
}

interface Host {
  readonly leases: Map<number, Given>
  /** Storage → epoch → the last probe answered. */
  readonly probes: Map<string, Map<number, Given>>
  /** Storage → the fence with the highest epoch. */
  readonly fences: Map<string, TraceRecord>
  leaseMs: number | null
  /** When its agent died, and when all of it did, in the order of records. */
  deadOrder: number
  allDeadOrder: number
  /** The highest epoch that was replaced, with the failover that did. */
  replaced: { readonly epoch: number; readonly record: TraceRecord } | null
}

interface Vm {
  /** On which host it last began to run or ended, in the order of records. */
  host: string
  own: boolean
  runOrder: number
  endOrder: number
}

export class Fen1Monitor implements Monitor {
  readonly rule = 'FEN1'
  readonly kinds = [
    'failover.start',
    'storage.fenced',
    'storage.probed',
    'lease.granted',
    'machine.reaped',
    'process.dead',
    'vm.run',
    'vm.halt',
  ]
  readonly #hosts = new Map<string, Host>()
  readonly #vms = new Map<string, Vm>()
  #order = 0

  observe(record: TraceRecord, now: number): Violation | null {
    this.#order++
    switch (record.kind) {
      case 'storage.probed': {
        const host = this.#host(id(record, 'host'))
        const probes = ensure(host.probes, stringField(record, 'storage'), () => new Map<number, Given>())
        setBounded(probes, numberField(record, 'epoch'), { at: now, record }, MAX_EPOCHS)
        return null
      }
      case 'lease.granted':
        return this.#granted(record, now)
      case 'storage.fenced': {
        const fences = this.#host(id(record, 'host')).fences
        const storage = stringField(record, 'storage')
        const known = fences.get(storage)
        const epoch = numberField(record, 'epoch')
        if (known === undefined || numberField(known, 'epoch') < epoch) fences.set(storage, record)
        return null
      }
      case 'machine.reaped':
      case 'process.dead':
        this.#dead(record)
        return null
      case 'failover.start':
        return this.#failover(record, now)
      default:
        this.#machine(record)
        return null
    }
  }

  #dead(record: TraceRecord): void {
    const ended = machinesEnded(record)
    if (ended === null) return
    if ('vm' in ended) {
      const vm = this.#vms.get(ended.vm)
      if (vm?.own === true && vm.host === ended.host) vm.endOrder = this.#order
      return
    }
    const host = this.#host(ended.host)
    host.deadOrder = this.#order
    if (ended.of === 'host') host.allDeadOrder = this.#order
  }

  #machine(record: TraceRecord): void {
    const host = id(record, 'host')
    const vm = ensure(this.#vms, id(record, 'vm'), () => ({ host, own: false, runOrder: 0, endOrder: 0 }))
    const how = stringField(record, 'how')
    if (record.kind === 'vm.run') {
      vm.host = host
      vm.own = isOwn(record)
      vm.runOrder = this.#order
    } else if (vm.host === host && (how === 'killed' || how === 'crashed' || how === 'halted'))
      vm.endOrder = this.#order
  }

  #granted(record: TraceRecord, now: number): Violation | null {
    const name = id(record, 'host')
    const epoch = numberField(record, 'epoch')
    const host = this.#host(name)
    host.leaseMs = numberField(record, 'leaseMs')
    setBounded(host.leases, epoch, { at: now, record }, MAX_EPOCHS)
    if (host.replaced === null || epoch > host.replaced.epoch) return null
    const message = `${name} was granted a lease at epoch ${epoch} after its VMs were started elsewhere`
    return violation('FEN1', message, now, [host.replaced.record, record])
  }

  #failover(record: TraceRecord, now: number): Violation | null {
    const from = stringField(record, 'from')
    const epoch = numberField(record, 'fromEpoch')
    const legs = stringsField(record, 'legs')
    const host = this.#host(from)
    // Without legs nothing of the host was fenced (one machine died on a host that lives on): the epoch stays in use.
    if (legs.length > 0 && (host.replaced === null || host.replaced.epoch <= epoch)) host.replaced = { epoch, record }
    for (const leg of legs) {
      const fence = host.fences.get(leg)
      if (fence !== undefined && numberField(fence, 'epoch') >= epoch) continue
      const message = `${record.vm}: started elsewhere before ${leg} had fenced epoch ${epoch} of ${from}`
      return violation('FEN1', message, now, [fence, record])
    }
    if (booleanField(record, 'attested')) {
      if (this.#ended(id(record, 'vm'), from, host)) return null
      const message = `${record.vm}: started elsewhere by an attestation, but its instance on ${from} has not ended`
      return violation('FEN1', message, now, [record])
    }
    return this.#waited(record, now, host, epoch, legs)
  }

  /** The truth behind an attestation: the host's agent died, or the machine ended, since it last ran; or it never did. */
  #ended(name: string, from: string, host: Host): boolean {
    const vm = this.#vms.get(name)
    if (vm === undefined || vm.host !== from) return true
    return (vm.own ? host.allDeadOrder : host.deadOrder) > vm.runOrder || vm.endOrder > vm.runOrder
  }

  #waited(record: TraceRecord, now: number, host: Host, epoch: number, legs: readonly string[]): Violation | null {
    let last = latest(host.leases, epoch, null)
    for (const leg of legs) {
      const probes = host.probes.get(leg)
      if (probes !== undefined) last = latest(probes, epoch, last)
    }
    if (last === null) return null
    const leaseMs = host.leaseMs ?? numberField(record, 'waitMs')
    const waited = now - last.at
    if (waited >= leaseMs) return null
    const message = `${record.vm}: started elsewhere ${Math.round(waited)} ms after ${stringField(record, 'from')} was last given the right to run (${last.record.kind}), lease ${leaseMs} ms`
    return violation('FEN1', message, now, [last.record, record])
  }

  #host(name: string): Host {
    return ensure(this.#hosts, name, () => ({
      leases: new Map(),
      probes: new Map(),
      fences: new Map(),
      leaseMs: null,
      deadOrder: 0,
      allDeadOrder: 0,
      replaced: null,
    }))
  }
}

function latest(given: ReadonlyMap<number, Given>, upToEpoch: number, other: Given | null): Given | null {
  let last = other
  for (const [epoch, each] of given) {
    if (epoch <= upToEpoch && (last === null || each.at > last.at)) last = each
  }
  return last
}
