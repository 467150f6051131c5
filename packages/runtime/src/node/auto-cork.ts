// Gathers what is written to a socket within one turn of the event loop into one system call.

import type { Socket } from 'node:net'

/** Call before writing: the socket is corked until the turn's synchronous work and microtasks are done. */
export class AutoCork {
  readonly #socket: Socket
  #corked = false

  constructor(socket: Socket) {
    this.#socket = socket
  }

  hold(): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
    // A tick asked for by a microtask comes after all microtasks: answers made by promises go along.
    queueMicrotask(() => process.nextTick(() => this.release()))
  }

  /** Lets go at once, before the socket is ended. */
  release(): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }
}
