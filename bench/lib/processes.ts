// The servers of a bench, each a process of its own; all of them end with the bench, by their ids.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Order } from '../servers/orders.ts'

const START_MS = 30_000
const POLL_MS = 20
const STOP_MS = 3_000

export class Servers {
  readonly #children = new Set<ChildProcess>()
  #orders = 0

  /** Starts a program that is ready when this file is there: most often the unix socket that it listens on. */
  start(command: string, args: readonly string[], socket: string, withinMs = START_MS): Promise<ChildProcess> {
    return this.#start(command, args, ['pipe', 'ignore', 'inherit'], socket, withinMs)
  }

  async #start(
    command: string,
    args: readonly string[],
    stdio: StdioOptions,
    socket: string,
    withinMs: number,
  ): Promise<ChildProcess> {
    // Not detached: a session of its own would be scheduled apart from the client that it serves.
    const child = spawn(command, args, { stdio })
    this.#children.add(child)
    let failure: string | null = null
    child.on('error', error => {
      failure = error.message
    })
    child.on('exit', (code, signal) => {
      this.#children.delete(child)
      failure ??= `ended with ${signal ?? code}`
    })
    for (let waited = 0; !existsSync(socket); waited += POLL_MS) {
      if (failure !== null) throw new Error(`${command} did not start: ${failure}`)
      if (waited > withinMs) throw new Error(`${command} was not ready within ${withinMs} ms: no ${socket}`)
      await sleep(POLL_MS)
    }
    return child
  }

  /** One of bench/servers: gets its configuration as JSON, ends with its standard input. */
  serve(
    program: string,
    config: object,
    socket: string,
    withinMs = START_MS,
    /** Words before it: where it is to run. */
    within: readonly string[] = [],
  ): Promise<ChildProcess> {
    const file = join(import.meta.dirname, '..', 'servers', program)
    const flags = process.env.STELLWERK_BENCH_NODE_FLAGS?.split(' ').filter(flag => flag !== '') ?? []
    const args = [...flags, file, JSON.stringify(config)]
    const [command = '', ...words] = [...within, process.execPath, ...args]
    return this.#start(command, words, ['pipe', 'ignore', 'inherit', 'ipc'], socket, withinMs)
  }

  /** An order to one of bench/servers that takes some. */
  ask(child: ChildProcess, kind: string, body: object = {}): Promise<unknown> {
    this.#orders += 1
    const order: Order = { id: this.#orders, kind, body }
    return new Promise((resolve, reject) => {
      const over = (): void => {
        child.removeListener('message', onAnswer)
        child.removeListener('exit', onExit)
      }
      const onExit = (): void => {
        over()
        reject(new Error(`a server ended before it answered ${kind}`))
      }
      const onAnswer = (message: unknown): void => {
        const answer = message as Answer
        if (answer.id !== order.id) return
        over()
        if (answer.error === undefined) resolve(answer.value)
        else reject(new Error(`${kind}: ${answer.error}`))
      }
      child.on('message', onAnswer)
      child.on('exit', onExit)
      child.send(order)
    })
  }

  async stopAll(): Promise<void> {
    // The latest first: a proxy goes before what it stands on.
    for (const child of [...this.#children].reverse()) {
      const gone = new Promise(resolve => child.once('exit', resolve))
      child.stdin?.end()
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await gone
      clearTimeout(late)
    }
  }
}

export function installed(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(directory => existsSync(join(directory, program)))
}
