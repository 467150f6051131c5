// The simulated QEMU's side of its monitor (QMP; docs/interop/qmp-spec in the QEMU tree). Commands are QEMU's main loop's, one
// after the other with everything else that this does: while a machine is being stopped nobody has an answer.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { splitLines } from './lines.ts'

export type Arguments = { readonly [name: string]: Json }

/** What QEMU does one at a time, with its big lock. */
export class MainLoop {
  #tail: Promise<void> = Promise.resolve()

  run(work: () => void | Promise<void>): Promise<void> {
    const done = this.#tail.then(work)
    // Who asked for it hears of it; what comes next is not held up.
    this.#tail = done.catch(() => undefined)
    return done
  }
}

/** An answer that is a refusal: QEMU's class GenericError. */
export function refusal(why: string): StellwerkError {
  return new StellwerkError('refused', why)
}

export class SimulatedMonitor {
  readonly #write: (parts: readonly Uint8Array[]) => void
  readonly #loop: MainLoop
  readonly #execute: (command: string, args: Arguments) => Json | Promise<Json>
  #rest: Buffer = Buffer.alloc(0)

  /** `write`: to whom it is connected to. */
  constructor(
    write: (parts: readonly Uint8Array[]) => void,
    loop: MainLoop,
    execute: (command: string, args: Arguments) => Json | Promise<Json>,
  ) {
    this.#write = write
    this.#loop = loop
    this.#execute = execute
  }

  greet(version: string): void {
    const [major = 0, minor = 0, micro = 0] = version.split('.').map(Number)
    this.#say({ QMP: { version: { qemu: { major, minor, micro }, package: '' }, capabilities: [] } })
  }

  event(event: string, data: Arguments = {}): void {
    this.#say({ event, data })
  }

  take(chunk: Uint8Array): void {
    const { lines, rest } = splitLines(Buffer.concat([this.#rest, chunk]))
    this.#rest = rest
    for (const line of lines) {
      const asked = JSON.parse(line) as { execute: string; arguments?: Arguments; id: Json }
      void this.#loop.run(() => this.#answer(asked.id, asked.execute, asked.arguments ?? {}))
    }
  }

  async #answer(id: Json, command: string, args: Arguments): Promise<void> {
    try {
      this.#say({ return: await this.#execute(command, args), id })
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      this.#say({ error: { class: 'GenericError', desc: errorMessage(error) }, id })
    }
  }

  #say(message: Json): void {
    this.#write([Buffer.from(`${JSON.stringify(message)}\r\n`, 'utf8')])
  }
}
