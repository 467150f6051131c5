// What must be here before a VM's machine can be: its guest's module, and then its disks, so that nobody holds a disk while it
// waits for a module.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Machine, MachineSpec, NetworkPort } from '../hypervisor/hypervisor.ts'
import type { DiskSet } from '../volume/disk-set.ts'
import type { VmParts } from './vm-parts.ts'

export class Opening {
  readonly #parts: VmParts
  readonly #order: VmOrder
  /** Why it does not come on; null: it does again. */
  readonly #onTrouble: (why: string | null) => void
  readonly #unwanted = new AbortController()
  /** What to say when it fails. */
  failure = 'its disks cannot be opened'

  constructor(parts: VmParts, order: VmOrder, onTrouble: (why: string | null) => void) {
    this.#parts = parts
    this.#order = order
    this.#onTrouble = why => {
      if (!this.#unwanted.signal.aborted) onTrouble(why)
    }
  }

  attach(): Promise<DiskSet> {
    const module = this.module()
    const { disks } = this.#parts
    return module === null ? disks.attach(this.#order) : module.then(() => disks.attach(this.#order))
  }

  /** Null: it needs none that has to be fetched. */
  module(): Promise<void> | null {
    const wait = { signal: this.#unwanted.signal, onTrouble: this.#onTrouble }
    const needed = this.#parts.guests.need(this.#order.spec.guest, wait)
    return needed === null ? null : this.#arrived(needed)
  }

  /** Who is over by the time there is a machine has none. */
  async create(
    spec: MachineSpec,
    disks: DiskSet,
    ports: readonly NetworkPort[],
    isOver: () => boolean,
  ): Promise<Machine> {
    const hypervisor = this.#parts.hypervisor(spec.hypervisor)
    const { adopts } = this.#order
    const made =
      adopts === undefined
        ? hypervisor.create(spec, disks.devices, ports)
        : hypervisor.adopt?.(spec, adopts, disks.devices, ports)
    if (made === undefined) throw new StellwerkError('machine-gone', `a ${spec.hypervisor} guest ends with its agent`)
    const machine = await made
    if (isOver()) await machine.kill()
    return machine
  }

  /** Nobody wants the VM here any more: a wait for its module fails. */
  cancel(): void {
    this.#unwanted.abort()
  }

  async #arrived(module: Promise<void>): Promise<void> {
    const { failure } = this
    this.failure = 'its guest cannot be had'
    await module
    this.failure = failure
    if (this.#unwanted.signal.aborted) throw new StellwerkError('cancelled', 'it is not wanted here any more')
    this.#onTrouble(null)
  }
}
