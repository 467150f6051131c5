// A child's end of the pipe to the process that spawned it: Node's IPC channel. Its first message says what to run.
// There is one per process, since the channel is one.

import { assert } from '../assert.ts'
import type { Json, Parent, ProcessSpec } from '../environment.ts'

/** Set in a child's environment: a channel of Node's may also come from others (a test runner), and is then not ours. */
export const CHILD_MARK = 'STELLWERK_CHILD'

/** Messages kept, on either end, until `onMessage` is set. */
export const EARLY_MESSAGES_MAX = 10_000

/** What goes over the pipe, either way. */
export type PipeMessage = { readonly spec: ProcessSpec } | { readonly message: Json }

class ParentPipe implements Parent {
  readonly spec: Promise<ProcessSpec>
  #early: Json[] = []
  #listener: ((message: Json) => void) | null = null
  #gone = false
  #goneListener: (() => void) | null = null

  constructor() {
    const { promise, resolve } = Promise.withResolvers<ProcessSpec>()
    this.spec = promise
    process.on('message', (received: PipeMessage) => {
      if ('spec' in received) resolve(received.spec)
      else this.#receive(received.message)
    })
    process.on('disconnect', () => {
      this.#gone = true
      // A program that has not subscribed yet runs nothing that would have to be ended first.
      if (this.#goneListener === null) process.exit(1)
      this.#goneListener()
    })
  }

  send(message: Json): void {
    if (this.#gone || process.send === undefined) return
    // A parent that is gone is told by the channel's end; the error of one message says no more.
    process.send({ message } satisfies PipeMessage, undefined, undefined, () => undefined)
  }

  onMessage(f: (message: Json) => void): void {
    this.#listener = f
    queueMicrotask(() => {
      for (const message of this.#early.splice(0)) f(message)
    })
  }

  onGone(f: () => void): void {
    this.#goneListener = f
    if (this.#gone) queueMicrotask(f)
  }

  #receive(message: Json): void {
    if (this.#listener !== null && this.#early.length === 0) {
      this.#listener(message)
      return
    }
    assert(this.#early.length < EARLY_MESSAGES_MAX, 'a child subscribes to its parent’s messages at its start')
    this.#early.push(message)
  }
}

let pipe: ParentPipe | null = null

function parentPipe(): ParentPipe | null {
  if (pipe === null && process.env[CHILD_MARK] !== undefined && process.send !== undefined) {
    // Children of this one get their own mark, and other programs it starts none.
    delete process.env[CHILD_MARK]
    pipe = new ParentPipe()
  }
  return pipe
}

export function parentOfThisProcess(): Parent | null {
  return parentPipe()
}

/**
 * For the entry file: what this process was spawned to run, or null if it was started by hand. Call it before anything else
 * is awaited: the pipe is read from then on.
 */
export async function receiveSpec(): Promise<ProcessSpec | null> {
  return (await parentPipe()?.spec) ?? null
}
