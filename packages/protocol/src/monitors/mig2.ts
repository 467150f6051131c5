// MIG2: after an abort the source runs again, unchanged, unless it has died; what was aborted never runs at the target.
// And the other half of the same promise: a source that released its guest runs it only after a durable abort.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  ensure,
  field,
  id,
  isOwn,
  type Monitor,
  machinesEnded,
  numberField,
  setBounded,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

/** Per VM: burnt epochs and decided migrations remembered, and instances that have released. */
const MAX_REMEMBERED = 64

export interface Mig2Options {
  /** Once faults have ended, how long an aborted migration's source may take to run again. */
  readonly resumeWithinMs?: number
}

/** A source between `released` and whatever follows. */
interface Release {
  readonly record: TraceRecord
  readonly instance: string
  readonly host: string
  abort: TraceRecord | null
  abortedAt: number
}

interface Vm {
  readonly burnt: Map<number, TraceRecord>
  readonly committed: Map<string, TraceRecord>
  readonly aborted: Map<string, TraceRecord>
  readonly releases: Map<string, Release>
  /** Instances that are processes of their own. */
  readonly own: Map<string, true>
}

export class Mig2Monitor implements Monitor {
  readonly rule = 'MIG2'
  readonly kinds = [
    'migration.aborted',
    'migration.committed',
    'machine.released',
    'machine.resumed',
    'vm.run',
    'vm.halt',
    'guest.step',
    'failover.start',
    'machine.reaped',
    'process.dead',
    'faults.ended',
  ]
  readonly #vms = new Map<string, Vm>()
  readonly #resumeWithinMs: number
  #faultsEndedAt: number | null = null

  constructor(options: Mig2Options = {}) {
    this.#resumeWithinMs = options.resumeWithinMs ?? 30_000
  }

  observe(record: TraceRecord, now: number): Violation | null {
    if (record.kind === 'process.dead' || record.kind === 'machine.reaped') return this.#dead(record)
    if (record.kind === 'faults.ended') {
      this.#faultsEndedAt = now
      return null
    }
    const vm = ensure(this.#vms, id(record, 'vm'), () => ({
      burnt: new Map(),
      committed: new Map(),
      aborted: new Map(),
      releases: new Map(),
      own: new Map(),
    }))
    switch (record.kind) {
      case 'guest.step':
        return vm.burnt.size > 0 || vm.releases.size > 0 ? this.#executes(record, now, vm) : null
      case 'vm.run':
        if (isOwn(record)) setBounded(vm.own, stringField(record, 'instance'), true, MAX_REMEMBERED)
        return this.#executes(record, now, vm)
      case 'migration.aborted':
        return this.#aborted(record, now, vm)
      case 'migration.committed':
        return this.#committed(record, now, vm)
      case 'machine.released': {
        const instance = stringField(record, 'instance')
        field(record, 'checksum')
        const abort = vm.aborted.get(id(record, 'migration')) ?? null
        const release = { record, instance, host: id(record, 'host'), abort, abortedAt: now }
        setBounded(vm.releases, instance, release, MAX_REMEMBERED)
        return null
      }
      case 'machine.resumed':
        return this.#resumed(record, now, vm)
      case 'vm.halt': {
        const how = stringField(record, 'how')
        // Then there is nothing left that could run again.
        const gone = how === 'killed' || how === 'crashed' || how === 'halted'
        if (gone) vm.releases.delete(stringField(record, 'instance'))
        return null
      }
      default: // failover.start: the VM was placed elsewhere, so its source need not run again.
        for (const release of vm.releases.values()) release.abortedAt = Number.POSITIVE_INFINITY
        return null
    }
  }

  finish(now: number): Violation | null {
    if (this.#faultsEndedAt === null) return null
    for (const [name, vm] of this.#vms) {
      for (const release of vm.releases.values()) {
        if (release.abort === null) continue
        const since = Math.max(release.abortedAt, this.#faultsEndedAt)
        if (now - since <= this.#resumeWithinMs) continue
        const message = `${name}: its migration was aborted, but ${release.host} has not run it again for ${Math.round(now - since)} ms`
        return violation('MIG2', message, now, [release.record, release.abort])
      }
    }
    return null
  }

  #dead(record: TraceRecord): null {
    const ended = machinesEnded(record)
    if (ended === null) return null
    for (const [name, vm] of this.#vms) {
      if ('vm' in ended && ended.vm !== name) continue
      for (const [instance, release] of vm.releases) {
        const dies = 'vm' in ended ? vm.own.has(instance) : ended.of === 'host' || !vm.own.has(instance)
        if (release.host === ended.host && dies) vm.releases.delete(instance)
      }
    }
    return null
  }

  #aborted(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const migration = id(record, 'migration')
    setBounded(vm.burnt, numberField(record, 'epoch'), record, MAX_REMEMBERED)
    setBounded(vm.aborted, migration, record, MAX_REMEMBERED)
    for (const release of vm.releases.values()) {
      if (release.record.migration !== migration) continue
      release.abort = record
      release.abortedAt = now
    }
    const commit = vm.committed.get(migration)
    if (commit === undefined) return null
    return violation('MIG2', `${record.vm}: migration ${migration} aborted after its commit`, now, [commit, record])
  }

  #committed(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const migration = id(record, 'migration')
    setBounded(vm.committed, migration, record, MAX_REMEMBERED)
    const abort = vm.aborted.get(migration) ?? vm.burnt.get(numberField(record, 'epoch'))
    if (abort === undefined) return null
    return violation('MIG2', `${record.vm}: migration ${migration} committed after its abort`, now, [abort, record])
  }

  #resumed(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const instance = stringField(record, 'instance')
    const release = vm.releases.get(instance)
    if (release === undefined) return null // It never released: it may run on without anybody's word.
    vm.releases.delete(instance)
    if (release.abort === null) return this.#withoutAbort(record, now, vm, release)
    if (field(release.record, 'checksum') === field(record, 'checksum')) return null
    const message = `${record.vm}: resumed on ${release.host} with another state than it had released`
    return violation('MIG2', message, now, [release.record, release.abort, record])
  }

  #executes(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const abort = vm.burnt.get(numberField(record, 'epoch'))
    if (abort !== undefined) {
      const message = `${record.vm}: runs on ${record.host} at placement epoch ${numberField(record, 'epoch')}, which an abort has burnt`
      return violation('MIG2', message, now, [abort, record])
    }
    const instance = stringField(record, 'instance')
    const release = vm.releases.get(instance)
    if (release === undefined) return null
    if (release.abort === null) return this.#withoutAbort(record, now, vm, release)
    vm.releases.delete(instance)
    return null
  }

  #withoutAbort(record: TraceRecord, now: number, vm: Vm, release: Release): Violation {
    const commit = vm.committed.get(release.record.migration ?? '')
    const why = commit === undefined ? 'without a durable abort' : 'although the migration was committed'
    const message = `${record.vm}: runs again on ${release.host} after it had released the guest, ${why}`
    return violation('MIG2', message, now, [release.record, commit, record])
  }
}
