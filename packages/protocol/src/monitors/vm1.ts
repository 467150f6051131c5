// VM1: at most one instance of a VM executes guest code at any time. Judged by the guest's own steps: along a trace the
// instances that execute rise in placement epoch, and one epoch has one instance. A resumed source after an aborted
// migration keeps its old epoch, which is fine because the burnt epoch never stepped.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import {
  agoMs,
  ensure,
  hostOfGuests,
  id,
  isOwn,
  type Monitor,
  machinesEnded,
  numberField,
  stringField,
  type Violation,
  violation,
} from './monitor.ts'

/** Instances remembered per VM; only those that run or have run lately matter. */
const MAX_INSTANCES = 16

interface Instance {
  readonly host: string
  /** A process of its own, which outlives its agent. */
  own: boolean
  state: 'running' | 'halted' | 'dead'
  /** Places in the order of records; 0: never. */
  runOrder: number
  stepOrder: number
  /** When that was: a step may be told of long after it. */
  runAt: number
  stepAt: number
  run: TraceRecord | null
  step: TraceRecord | null
  halt: TraceRecord | null
}

interface Vm {
  highestEpoch: number
  highestInstance: string
  /** When it first executed. */
  highestSince: number
  highestStep: TraceRecord | null
  readonly instances: Map<string, Instance>
}

export class Vm1Monitor implements Monitor {
  readonly rule = 'VM1'
  readonly kinds = [
    'guest.step',
    'vm.run',
    'vm.halt',
    'machine.reaped',
    'process.dead',
    'process.paused',
    'process.resumed',
  ]
  readonly #vms = new Map<string, Vm>()
  readonly #paused = new Set<string>()
  #order = 0

  observe(record: TraceRecord, now: number): Violation | null {
    this.#order++
    switch (record.kind) {
      case 'guest.step':
        return this.#step(record, now)
      case 'vm.run': {
        const instance = this.#instance(record)
        instance.state = 'running'
        instance.own = isOwn(record)
        instance.runOrder = this.#order
        instance.runAt = now
        instance.run = record
        return null
      }
      case 'vm.halt': {
        const instance = this.#instance(record)
        instance.state = 'halted'
        instance.halt = record
        return null
      }
      default:
        this.#process(record)
        return null
    }
  }

  #process(record: TraceRecord): void {
    const host = record.kind === 'machine.reaped' ? null : hostOfGuests(record)
    if (host !== null) {
      if (record.kind === 'process.paused') this.#paused.add(host)
      else this.#paused.delete(host)
    }
    const ended = machinesEnded(record)
    if (ended === null) return
    for (const [name, vm] of this.#vms) {
      if ('vm' in ended && ended.vm !== name) continue
      for (const instance of vm.instances.values()) {
        if (instance.host !== ended.host) continue
        if ('vm' in ended ? instance.own : ended.of === 'host' || !instance.own) instance.state = 'dead'
      }
    }
  }

  #step(record: TraceRecord, now: number): Violation | null {
    const epoch = numberField(record, 'epoch')
    const name = stringField(record, 'instance')
    const instance = this.#instance(record)
    const vm = this.#vms.get(id(record, 'vm'))!
    const at = now - agoMs(record)
    // Told late, of what was over before its successor began.
    if (epoch < vm.highestEpoch && at < vm.highestSince) return null
    instance.step = record
    instance.stepOrder = this.#order
    instance.stepAt = at
    if (instance.state === 'halted') {
      const message = `${record.vm}: instance ${name} on ${instance.host} executes after it was halted`
      return violation('VM1', message, now, [instance.halt, record])
    }
    if (epoch > vm.highestEpoch) {
      vm.highestEpoch = epoch
      vm.highestInstance = name
      vm.highestSince = at
    } else if (epoch < vm.highestEpoch) {
      const message = `${record.vm}: instance ${name} on ${instance.host} executes at placement epoch ${epoch} after another executed at ${vm.highestEpoch}`
      return violation('VM1', message, now, [vm.highestStep, record])
    } else if (name !== vm.highestInstance) {
      const message = `${record.vm}: two instances, ${vm.highestInstance} and ${name}, execute at placement epoch ${epoch}`
      return violation('VM1', message, now, [vm.highestStep, record])
    }
    vm.highestStep = record
    return vm.instances.size > 1 ? this.#overlap(record, now, vm, instance) : null
  }

  /** Another instance has executed since this one began, and has neither halted nor died nor been stopped in its tracks. */
  #overlap(record: TraceRecord, now: number, vm: Vm, instance: Instance): Violation | null {
    if (instance.runOrder === 0) return null
    for (const other of vm.instances.values()) {
      if (other === instance || other.state !== 'running' || this.#paused.has(other.host)) continue
      if (other.stepOrder <= instance.runOrder || other.stepAt < instance.runAt) continue
      const message = `${record.vm}: executes on ${instance.host} while the instance on ${other.host} runs and has not halted`
      return violation('VM1', message, now, [other.run, instance.run, other.step, record])
    }
    return null
  }

  #instance(record: TraceRecord): Instance {
    const vm = ensure(this.#vms, id(record, 'vm'), () => ({
      highestEpoch: Number.NEGATIVE_INFINITY,
      highestInstance: '',
      highestSince: Number.NEGATIVE_INFINITY,
      highestStep: null,
      instances: new Map(),
    }))
    const name = stringField(record, 'instance')
    const known = vm.instances.get(name)
    if (known !== undefined) return known
    const host = id(record, 'host')
    const made: Instance = {
      host,
      own: false,
      state: 'running',
      runOrder: 0,
      stepOrder: 0,
      runAt: Number.NEGATIVE_INFINITY,
      stepAt: Number.NEGATIVE_INFINITY,
      run: null,
      step: null,
      halt: null,
    }
    vm.instances.set(name, made)
    if (vm.instances.size > MAX_INSTANCES) this.#forget(vm)
    return made
  }

  /** The oldest that no longer runs, or else the oldest. */
  #forget(vm: Vm): void {
    let victim: string | null = null
    for (const [name, instance] of vm.instances) {
      victim ??= name
      if (instance.state === 'running') continue
      victim = name
      break
    }
    if (victim !== null) vm.instances.delete(victim)
  }
}
