// MIG1: a migration's target runs only after the commit is durable. Judged by `vm.run` of an arrival, and by any step
// at a target that has loaded the guest while the migration is undecided.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ensure, id, type Monitor, numberField, setBounded, stringField, type Violation, violation } from './monitor.ts'

/** Commits remembered per VM: an arrival follows its commit, so the last few suffice. */
const MAX_COMMITS = 64

interface Vm {
  /** Placement epoch → the commit that made it. */
  readonly commits: Map<number, TraceRecord>
  /** The target that has loaded the guest and waits for the decision. */
  undecided: TraceRecord | null
}

export class Mig1Monitor implements Monitor {
  readonly rule = 'MIG1'
  readonly kinds = [
    'vm.run',
    'guest.step',
    'migration.committed',
    'migration.aborted',
    'machine.loaded',
    'failover.start',
  ]
  readonly #vms = new Map<string, Vm>()

  observe(record: TraceRecord, now: number): Violation | null {
    const vm = ensure(this.#vms, id(record, 'vm'), () => ({ commits: new Map(), undecided: null }))
    switch (record.kind) {
      case 'guest.step': {
        const loaded = vm.undecided
        if (loaded === null || loaded.host !== record.host) return null
        const message = `${record.vm}: executes at the target ${record.host} while migration ${loaded.migration} is undecided`
        return violation('MIG1', message, now, [loaded, record])
      }
      case 'machine.loaded':
        vm.undecided = record
        return null
      case 'migration.committed':
        setBounded(vm.commits, numberField(record, 'epoch'), record, MAX_COMMITS)
        vm.undecided = null
        return null
      case 'vm.run':
        return this.#run(record, now, vm)
      default: // Aborted, or placed anew: what the target holds will not run (MIG2 and VM1 see to that).
        vm.undecided = null
        return null
    }
  }

  #run(record: TraceRecord, now: number, vm: Vm): Violation | null {
    const how = stringField(record, 'how')
    if (how === 'start' || how === 'adopt') vm.undecided = null // Another machine, not what was loaded.
    if (how !== 'arrive') return null
    const host = id(record, 'host')
    const epoch = numberField(record, 'epoch')
    const commit = vm.commits.get(epoch)
    if (commit === undefined) {
      const message = `${record.vm}: runs at the target ${host} at placement epoch ${epoch}, which no commit has made durable`
      return violation('MIG1', message, now, [vm.undecided, record])
    }
    const target = stringField(commit, 'target')
    if (target === host) return null
    const message = `${record.vm}: arrived at ${host} at placement epoch ${epoch}, committed to ${target}`
    return violation('MIG1', message, now, [commit, record])
  }
}
