// Who follows the consoles of this host's guests, from outside: each line as it is said, and a question while it waits for its answer.

import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import type { Hlc } from '@stellwerk/runtime/environment.ts'

/** Of a line, or what stands of one. */
const TEXT_MAX = 4096

export class HostConsoles {
  readonly #host: string
  readonly #all = new Map<string, ActorContext>()

  constructor(host: string) {
    this.#host = host
  }

  /** `context`: of the actor in whose name it is told. */
  follow(follower: string, context: ActorContext): void {
    this.#all.set(follower, context)
  }

  unfollow(follower: string): void {
    this.#all.delete(follower)
  }

  line(vm: string, epoch: number, line: string, said: Hlc): void {
    const host = this.#host
    for (const [follower, context] of this.#all) {
      context.send(follower, 'console.line', { vm, epoch, host, line: line.slice(0, TEXT_MAX), said })
    }
  }

  prompt(vm: string, text: string): void {
    for (const [follower, context] of this.#all) {
      context.send(follower, 'console.prompt', { vm, host: this.#host, text: text.slice(0, TEXT_MAX) })
    }
  }
}
