// What a VM's actor puts on record of its machine (docs/SPEC.md): when it may execute, when it does not, what it said.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { Json, TraceEvent } from '@stellwerk/runtime/environment.ts'
import type { MachineNotice } from '../hypervisor/hypervisor.ts'
import type { VmParts } from './vm-parts.ts'

export class Evidence {
  readonly #parts: VmParts
  readonly #order: VmOrder
  readonly #instance: string
  /** With legs of its disks that are written to: what its storage lease rests on. Null: it has none. */
  #storages: readonly string[] | null = null
  #ran = false

  constructor(parts: VmParts, order: VmOrder, instance: string) {
    this.#parts = parts
    this.#order = order
    this.#instance = instance
  }

  /** To be called whenever that may be others, in the turn in which it changes. */
  restsOn(storages: readonly string[] | null): void {
    const before = this.#storages
    if (before !== null && storages !== null && before.join() === storages.join()) return
    this.#storages = storages
    if (!this.#ran) return
    const { epoch } = this.#order
    this.#emit('decision', 'vm.storages', { epoch, instance: this.#instance, storages: [...(storages ?? [])] })
  }

  /** To be called the instant before the guest may execute. */
  runs(how: 'start' | 'adopt' | 'thaw' | 'resume' | 'arrive'): void {
    this.#ran = true
    this.#parts.gate.begins(this.#order.vm)
    const { epoch, spec } = this.#order
    // A process of the guardian's: it does not end with this agent.
    const own = spec.hypervisor === 'qemu' && this.#parts.env.processes.parent !== null
    this.#emit('decision', 'vm.run', {
      ...{ epoch, instance: this.#instance, how, storages: [...(this.#storages ?? [])] },
      ...(own ? { own } : {}),
    })
  }

  /** To be called once it executes nothing. */
  halted(how: 'frozen' | 'released' | 'killed' | 'crashed' | 'halted'): void {
    this.#emit('decision', 'vm.halt', { epoch: this.#order.epoch, instance: this.#instance, how })
  }

  /** It stands still until somebody makes room. */
  pausedCritical(why: string): void {
    this.#emit('decision', 'vm.paused-critical', { epoch: this.#order.epoch, instance: this.#instance, why })
  }

  /** To be called before its machine's reset line is pulled: what it says from then on may be of a guest that begins anew. */
  reset(): void {
    this.#emit('decision', 'vm.reset', { epoch: this.#order.epoch, instance: this.#instance })
  }

  /** What the machine's QEMU has reported. */
  notice({ event, data, missed }: MachineNotice): void {
    if (!this.#parts.env.trace.on('message')) return
    const { epoch } = this.#order
    const beyond = missed === 0 ? {} : { missed }
    this.#emit('message', 'qemu.event', { epoch, instance: this.#instance, event, data, ...beyond })
  }

  of(migration: string, kind: string, body: { readonly [key: string]: Json }): void {
    this.#emit('decision', kind, { epoch: this.#order.epoch, instance: this.#instance, ...body }, migration)
  }

  /** The ledger's words, as they leave the host. */
  said(line: string): void {
    if (!this.#parts.env.trace.on('io')) return
    const [word, number, state] = line.split(' ')
    const entry = Number(number)
    if (word === 'ack') this.#emit('io', 'guest.acknowledged', { entry })
    else if (word === 'recovered') this.#emit('io', 'guest.recovered', { entry, intact: state === 'intact' })
  }

  #emit(level: TraceEvent['level'], kind: string, body: Json, migration?: string): void {
    this.#parts.env.trace.emit({
      level,
      kind,
      vm: this.#order.vm,
      host: this.#parts.host,
      ...(migration === undefined ? {} : { migration }),
      body,
    })
  }
}
