// The agent's handle on the thread a guest runs in: tells it to run or to come to rest, and hears what it says. It knows no
// devices and no life cycle.

import type { Environment, Timer, Worker } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { corrupt } from '../precopy/format.ts'
import type { GuestImage } from './guest-image.ts'
import {
  CONTROL,
  CONTROL_BYTES,
  CONTROL_CLOCK_AT,
  CONTROL_GLOBALS_AT,
  CONTROL_TIMES,
  controlTime,
  type WorkerData,
  type WorkerMessage,
} from './layout.ts'

/** A guest whose step takes longer than this when told to rest has hung. */
const REST_LIMIT_MS = 5000

export interface ThreadListener {
  /** The guest wants its devices served. */
  bell(): void
  halted(): void
  crashed(reason: string): void
}

export class GuestThread {
  readonly #env: Environment
  readonly #worker: Worker
  readonly #control: Int32Array
  readonly #times: BigInt64Array
  readonly #saved: DataView
  readonly #globals: number
  readonly #listener: ThreadListener
  #command = 1
  #restedAt = 0
  #waiting: { readonly promise: Promise<void>; readonly resolve: () => void; readonly deadline: Timer } | null = null
  #gone = false

  /** The thread begins at rest; `rest()` resolves once it is there. */
  constructor(env: Environment, image: GuestImage, listener: ThreadListener) {
    this.#env = env
    this.#listener = listener
    const control = new SharedArrayBuffer(CONTROL_BYTES)
    this.#control = new Int32Array(control)
    this.#times = new BigInt64Array(control)
    this.#saved = new DataView(control)
    this.#globals = image.facts.globals.length
    Atomics.store(this.#control, CONTROL.command, this.#command)
    const data: WorkerData = { module: image.module, memory: image.memory, control, globals: image.facts.globals }
    this.#worker = env.compute.startWorker(new URL('./guest-worker.ts', import.meta.url), data)
    this.#worker.onMessage(message => this.#hear(message as WorkerMessage))
    this.#worker.onExit(error => {
      if (this.#gone) return
      this.#settle()
      if (error !== null) this.#listener.crashed(`its thread ended: ${errorMessage(error)}`)
    })
  }

  /** Steps executed so far; wraps. */
  get steps(): number {
    return Atomics.load(this.#control, CONTROL.steps)
  }

  /** When the last step began, by the machine's monotonic clock. */
  get steppedAt(): number {
    return Number(Atomics.load(this.#times, CONTROL_TIMES.steppedAt)) / 1000
  }

  /** No step begins at that time or later. Nobody is woken. */
  allowUntil(ms: number): void {
    Atomics.store(this.#times, CONTROL_TIMES.until, controlTime(ms))
  }

  /** The guest waits for its devices and nothing else. */
  get asleep(): boolean {
    return Atomics.load(this.#control, CONTROL.asleep) === 1
  }

  /** Resolves when the guest is between two steps and stays there; or when it was told to run, or is gone. */
  rest(): Promise<void> {
    if (this.#gone) return Promise.resolve()
    if (this.#command % 2 === 0) this.#tell()
    if (this.#restedAt === this.#command) return Promise.resolve()
    if (this.#waiting === null) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const deadline = this.#env.timers.after(REST_LIMIT_MS, () => {
        this.#listener.crashed(`it did not come to rest within ${REST_LIMIT_MS} ms`)
        this.#settle()
      })
      this.#waiting = { promise, resolve, deadline }
    }
    return this.#waiting.promise
  }

  run(): void {
    if (this.#gone || this.#command % 2 === 0) return
    this.#tell()
    this.#settle()
  }

  /** The guest has reason to look at its devices. */
  wake(): void {
    Atomics.store(this.#control, CONTROL.wake, 1)
    Atomics.notify(this.#control, CONTROL.wake)
  }

  answerBell(): void {
    Atomics.store(this.#control, CONTROL.bell, 0)
  }

  throttle(share: number): void {
    Atomics.store(this.#control, CONTROL.throttle, Math.round(share * 1000))
  }

  /** Resolves when the thread executes nothing any more. */
  async end(): Promise<void> {
    this.#gone = true
    this.#settle()
    await this.#worker.terminate()
  }

  /** Clock and globals as they were when the guest came to rest. */
  registers(): Buffer {
    const globals = Buffer.from(this.#saved.buffer, CONTROL_GLOBALS_AT, this.#globals * 8).toString('hex')
    return Buffer.from(JSON.stringify({ clockMs: this.#saved.getFloat64(CONTROL_CLOCK_AT, true), globals }))
  }

  /** Sets them, for the guest to go on with; it is at rest. */
  restore(registers: Uint8Array): void {
    const { clockMs, globals } = decodeRegisters(registers)
    if (globals.length !== this.#globals * 8) throw corrupt(`its registers are not those of this guest's module`)
    this.#saved.setFloat64(CONTROL_CLOCK_AT, clockMs, true)
    Buffer.from(this.#saved.buffer).set(globals, CONTROL_GLOBALS_AT)
    Atomics.store(this.#control, CONTROL.restore, 1)
  }

  #tell(): void {
    this.#command++
    Atomics.store(this.#control, CONTROL.command, this.#command)
    Atomics.notify(this.#control, CONTROL.command)
    this.wake()
  }

  #settle(): void {
    const waiting = this.#waiting
    this.#waiting = null
    waiting?.deadline.cancel()
    waiting?.resolve()
  }

  #hear(message: WorkerMessage): void {
    if (this.#gone) return
    switch (message.kind) {
      case 'rest':
        // An answer to an older command says nothing about this one.
        if (message.command !== this.#command) return
        this.#restedAt = message.command
        this.#settle()
        return
      case 'bell':
        this.#listener.bell()
        return
      case 'halted':
        this.#listener.halted()
        return
      case 'crashed':
        this.#listener.crashed(message.reason)
        this.#settle()
    }
  }
}

function decodeRegisters(registers: Uint8Array): { readonly clockMs: number; readonly globals: Buffer } {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(registers).toString('utf8'))
  } catch (error) {
    throw corrupt(`its registers are no JSON (${errorMessage(error)})`)
  }
  if (typeof value === 'object' && value !== null && 'clockMs' in value && 'globals' in value) {
    const { clockMs, globals } = value
    if (typeof clockMs === 'number' && clockMs >= 0 && typeof globals === 'string') {
      return { clockMs, globals: Buffer.from(globals, 'hex') }
    }
  }
  throw new StellwerkError('corrupt-data', 'the registers that arrived are not those of a wasm machine')
}
