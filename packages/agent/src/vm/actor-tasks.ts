// Work that takes time, begun by an actor: what comes of it is a message to the actor itself, in order with the others.

import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Logger } from '@stellwerk/runtime/environment.ts'

/** Of a message whose body is what is to be run. */
export const TASK = 'vm.task'

export class ActorTasks {
  readonly #vm: string
  readonly #log: Logger
  readonly #isOver: () => boolean
  #context: ActorContext | null = null

  /** `isOver`: nothing is run any more. */
  constructor(vm: string, log: Logger, isOver: () => boolean) {
    this.#vm = vm
    this.#log = log
    this.#isOver = isOver
  }

  /** The actor has started. */
  open(context: ActorContext): void {
    this.#context = context
  }

  run<T>(work: Promise<T>, then: (value: T) => void, failed: (error: unknown) => void): void {
    const context = this.#context
    assert(context !== null, 'a task of an actor that has not started')
    const later = (run: () => void): void => {
      if (!this.#isOver()) context.send(context.self, TASK, run)
    }
    work.then(
      value => later(() => then(value)),
      error => {
        if (!(error instanceof Error)) this.#log.warn({ vm: this.#vm }, `rejected with ${String(error)}`)
        later(() => failed(error))
      },
    )
  }
}
