// A parent's view of one child: its pipe and its end.

import type { ChildProcess } from 'node:child_process'
import { assert } from '../assert.ts'
import type { Child, Json } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { EARLY_MESSAGES_MAX, type PipeMessage } from './parent-pipe.ts'

/** Messages given to the pipe and not yet taken by the system: a child this far behind does not read any more. */
const UNSENT_MESSAGES_MAX = 10_000

type Exit = { readonly code: number | null; readonly signal: string | null }

export class NodeChild implements Child {
  readonly pid: number
  readonly #name: string
  readonly #process: ChildProcess
  #unsent = 0
  #listener: ((message: Json) => void) | null = null
  #early: Json[] = []
  #exit: Exit | null = null
  #exitListener: ((exit: Exit) => void) | null = null
  #endListener: (() => void) | null = null

  constructor(name: string, pid: number, process: ChildProcess) {
    this.pid = pid
    this.#name = name
    this.#process = process
    process.on('message', (received: PipeMessage) => {
      if (!('message' in received)) return
      this.#receive(received.message)
    })
    // Not `exit`: this comes after the process was reaped *and* everything it had sent was read.
    process.on('close', (code, signal) => {
      this.#exit = { code, signal }
      this.#endListener?.()
      this.#exitListener?.(this.#exit)
    })
  }

  #receive(message: Json): void {
    if (this.#listener !== null) {
      this.#listener(message)
      return
    }
    assert(this.#early.length < EARLY_MESSAGES_MAX, 'a parent subscribes to its child’s messages when it spawns it')
    this.#early.push(message)
  }

  send(message: Json): void {
    this.post({ message })
  }

  post(message: PipeMessage): void {
    if (!this.#process.connected) return
    if (this.#unsent >= UNSENT_MESSAGES_MAX) {
      throw new StellwerkError('pipe-full', `${UNSENT_MESSAGES_MAX} messages wait to be read by the child`, {
        where: this.#name,
        hint: 'it hangs or is stopped: kill it',
      })
    }
    this.#unsent++
    // A child that is gone is told by its exit; the error of one message says no more.
    this.#process.send(message, undefined, undefined, () => {
      this.#unsent--
    })
  }

  onMessage(f: (message: Json) => void): void {
    this.#listener = f
    queueMicrotask(() => {
      for (const message of this.#early.splice(0)) f(message)
    })
  }

  onExit(f: (exit: Exit) => void): void {
    this.#exitListener = f
    const exit = this.#exit
    if (exit !== null) queueMicrotask(() => f(exit))
  }

  /** As `onExit`, before it: for the keeper of the record. */
  onEnd(f: () => void): void {
    this.#endListener = f
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }
}
