// A client of QEMU's machine protocol (QMP): lines of JSON over a stream, commands answered in order of their ids, events in
// between. Source: docs/interop/qmp-spec in the QEMU tree.

import type { ByteStream, Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

/** No answer of those asked for here comes near it. */
const LINE_MAX_BYTES = MIB
const NEWLINE = 0x0a
/** Events that are kept for the first who listens. */
const EARLY_MAX = 64

export interface QmpEvent {
  readonly event: string
  readonly data: { readonly [key: string]: Json }
}

interface Waiting {
  readonly command: string
  readonly resolve: (value: Json) => void
  readonly reject: (error: StellwerkError) => void
}

export class Qmp {
  readonly #stream: ByteStream
  readonly #where: string
  readonly #waiting = new Map<number, Waiting>()
  readonly #greeting = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<void>()
  #nextId = 1
  #parts: Uint8Array[] = []
  #partBytes = 0
  #closed: StellwerkError | null = null
  #early: QmpEvent[] = []
  #onEvent: (event: QmpEvent) => void = event => {
    if (this.#early.length < EARLY_MAX) this.#early.push(event)
  }

  private constructor(stream: ByteStream, where: string) {
    this.#stream = stream
    this.#where = where
    // Told by what waits for it.
    this.#greeting.promise.catch(() => undefined)
    stream.onData(chunk => this.#take(chunk))
    stream.onEnd(() => this.#close('QEMU has closed its monitor'))
    stream.onClose(error => this.#close(`the monitor is gone${error === null ? '' : `: ${error.message}`}`))
  }

  /** Greets QEMU, which has just connected. Rejects with `qmp-closed` when it goes away before it has answered. */
  static async open(stream: ByteStream, where: string): Promise<Qmp> {
    const qmp = new Qmp(stream, where)
    await qmp.#greeting.promise
    await qmp.execute('qmp_capabilities')
    return qmp
  }

  /** Resolves when it will say nothing more. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }

  /** What was said before anybody listened is told first. */
  onEvent(f: (event: QmpEvent) => void): void {
    this.#onEvent = f
    for (const event of this.#early.splice(0)) f(event)
  }

  /** Rejects with `qmp-refused` when QEMU says no, with `qmp-closed` when it is gone. */
  execute(command: string, args: { readonly [key: string]: Json } = {}): Promise<Json> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#waiting.set(id, { command, resolve, reject })
      this.#stream.write([Buffer.from(`${JSON.stringify({ execute: command, arguments: args, id })}\n`, 'utf8')])
    })
  }

  #take(chunk: Uint8Array): void {
    let rest = chunk
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      const line = Buffer.concat([...this.#parts, rest.subarray(0, end)]).toString('utf8')
      this.#parts = []
      this.#partBytes = 0
      rest = rest.subarray(end + 1)
      this.#heard(line)
    }
    if (rest.length === 0) return
    this.#parts.push(rest)
    this.#partBytes += rest.length
    if (this.#partBytes <= LINE_MAX_BYTES) return
    this.#close('QEMU said more in a line than the protocol has')
    this.#stream.destroy()
  }

  #heard(line: string): void {
    if (line.trim() === '') return
    let message: { [key: string]: Json }
    try {
      message = JSON.parse(line) as { [key: string]: Json }
    } catch {
      this.#close(`QEMU said what is no JSON: ${line.slice(0, 100)}`)
      this.#stream.destroy()
      return
    }
    if ('QMP' in message) this.#greeting.resolve()
    else if (typeof message['event'] === 'string') {
      this.#onEvent({ event: message['event'], data: (message['data'] ?? {}) as QmpEvent['data'] })
    } else this.#answered(message)
  }

  #answered(message: { [key: string]: Json }): void {
    const id = Number(message['id'])
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#waiting.delete(id)
    if ('return' in message) {
      waiting.resolve(message['return'] ?? null)
      return
    }
    const { desc } = (message['error'] ?? {}) as { desc?: string }
    waiting.reject(
      new StellwerkError('qmp-refused', `${waiting.command}: ${desc ?? 'QEMU gave no reason'}`, { where: this.#where }),
    )
  }

  #close(why: string): void {
    if (this.#closed !== null) return
    const error = new StellwerkError('qmp-closed', why, { where: this.#where })
    this.#closed = error
    this.#ended.resolve()
    this.#greeting.reject(error)
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
