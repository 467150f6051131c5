// What a VM's actor and its migrations have to say to the coordinator.

import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import { COORDINATOR } from '../coordinator-name.ts'
import type { VmParts } from './vm-parts.ts'

export class CoordinatorLine {
  readonly #parts: VmParts
  readonly #vm: string
  #context: ActorContext | null = null

  constructor(parts: VmParts, vm: string) {
    this.#parts = parts
    this.#vm = vm
  }

  /** The VM's actor has started. */
  open(context: ActorContext): void {
    this.#context = context
  }

  /** Once; may be lost. */
  tell(kind: string, body: unknown): void {
    this.#context?.send(COORDINATOR, kind, body)
  }

  ask(kind: string, body: object): Promise<unknown> {
    const { host, incarnation, settings } = this.#parts
    const full = { host, incarnation, ...body }
    return this.#parts.ask(`${host}/vm/${this.#vm}`, COORDINATOR, kind, full, settings().requestMs)
  }

  /** Until the coordinator has taken it, or has asked and been told again. */
  reportDone(migration: string, statistics: { readonly [name: string]: number }): void {
    this.#parts.reportDone({ migration, vm: this.#vm, statistics })
  }
}
