// MIG3: guest memory at the target's first instruction equals the source's at its last. Judged at the arrival: what the
// target had loaded must be what the source had released in the migration that was committed.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  ensure,
  field,
  id,
  type Monitor,
  numberField,
  setBounded,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

const MAX_MIGRATIONS_PER_VM = 64

interface Migration {
  released: TraceRecord | null
  loaded: TraceRecord | null
}

interface Vm {
  readonly migrations: Map<string, Migration>
  /** Placement epoch → the migration that made it. */
  readonly commits: Map<number, TraceRecord>
}

export class Mig3Monitor implements Monitor {
  readonly rule = 'MIG3'
  readonly kinds = ['machine.released', 'machine.loaded', 'migration.committed', 'vm.run']
  readonly #vms = new Map<string, Vm>()

  observe(record: TraceRecord, now: number): Violation | null {
    const vm = ensure(this.#vms, id(record, 'vm'), () => ({ migrations: new Map(), commits: new Map() }))
    switch (record.kind) {
      case 'machine.released':
        this.#migration(vm, record).released = record
        return null
      case 'machine.loaded':
        this.#migration(vm, record).loaded = record
        return null
      case 'migration.committed':
        setBounded(vm.commits, numberField(record, 'epoch'), record, MAX_MIGRATIONS_PER_VM)
        return null
      default:
        return stringField(record, 'how') === 'arrive' ? this.#arrived(record, now, vm) : null
    }
  }

  #migration(vm: Vm, record: TraceRecord): Migration {
    const name = id(record, 'migration')
    const known = vm.migrations.get(name)
    if (known !== undefined) return known
    const made = { released: null, loaded: null }
    setBounded(vm.migrations, name, made, MAX_MIGRATIONS_PER_VM)
    return made
  }

  #arrived(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const commit = vm.commits.get(numberField(record, 'epoch'))
    const name = commit?.migration ?? record.migration
    if (name === undefined) return null // No commit at all: that is MIG1's.
    const migration = vm.migrations.get(name)
    const released = migration?.released ?? null
    const loaded = migration?.loaded ?? null
    if (released === null || loaded === null || loaded.host !== record.host) {
      const missing = released === null ? 'its source released it' : 'this target had loaded all of it'
      const message = `${record.vm}: runs on ${record.host} by migration ${name} without a record that ${missing}`
      return violation('MIG3', message, now, [released, loaded, record])
    }
    if (field(released, 'checksum') === field(loaded, 'checksum')) return null
    const message = `${record.vm}: runs on ${record.host} with another state than ${released.host} had released`
    return violation('MIG3', message, now, [released, loaded, record])
  }
}
