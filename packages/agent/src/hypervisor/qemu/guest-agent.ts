// The agent in a guest, where there is one (QEMU's, qemu-ga): whether it is there, what it tells of its guest, and what it is asked to
// do. The guest's end of its port says by QEMU's events whether anything has it open; nothing is asked before. A guest without one is
// none the worse: nothing waits for it. ADR 65.

import type { GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'
import type { ByteStream, Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { AgentChannel } from './agent-channel.ts'
import { AGENT_PORT } from './command-line.ts'
import { FileFreeze } from './file-freeze.ts'
import { guestFacts } from './guest-facts.ts'
import type { Qmp, QmpEvent } from './qmp.ts'

/** To any question but one that takes its time. */
const ANSWER_MS = 5_000
/** A shutdown has no answer, but a refusal. */
const REFUSAL_MS = 1_000
/** How often it is asked what it has to tell. */
const REFRESH_MS = 30_000
/** After it has not answered; twice as long each time it does not again. */
const RETRY_MS = 2_000
const RETRY_MAX_MS = 60_000
/** Of a guest that stands still nothing is asked: this often it is looked whether it goes on. */
const STILL_MS = 500
/** It is not there any more when it has not answered so often, one after the other. */
const SILENT_MAX = 2

export interface GuestAgentOptions {
  readonly env: Pick<Environment, 'timers' | 'random' | 'log'>
  readonly vm: string
  /** Its port; QEMU takes one connection at a time. */
  readonly dial: () => Promise<ByteStream>
  /** Whether the guest executes. */
  readonly runs: () => boolean
  /** Whether a word may leave it. */
  readonly mayPass: () => boolean
  /** What it tells has changed; null: none answers. */
  readonly told: (facts: GuestFacts | null) => void
}

export class GuestAgent {
  /** Of its file systems, for a snapshot. */
  readonly files: FileFreeze
  readonly #options: GuestAgentOptions
  #channel: AgentChannel | null = null
  /** Something in the guest has the port open. */
  #isOpen = false
  #isOver = false
  #facts: GuestFacts | null = null
  #silences = 0
  #timer: Timer | null = null
  #isLooking = false
  #isShuttingDown = false
  /** One question after the other. */
  #work: Promise<void> = Promise.resolve()

  constructor(options: GuestAgentOptions) {
    this.#options = options
    this.files = new FileFreeze(options.env, {
      isThere: () => this.#facts !== null && this.#isOpen && options.runs(),
      ask: (command, deadlineMs) => this.#inTurn(() => this.#ask(command, {}, deadlineMs)),
      look: () => this.#look(),
    })
  }

  get isThere(): boolean {
    return this.#facts !== null
  }

  heard({ event, data }: QmpEvent): void {
    if (event === 'VSERPORT_CHANGE' && data['id'] === AGENT_PORT) this.#opened(data['open'] === true)
  }

  /** What its guest had done with the port before anybody listened. */
  async find(qmp: Qmp): Promise<void> {
    const ports = (await qmp.execute('query-chardev')) as { label?: string; 'frontend-open'?: boolean }[]
    this.#opened(ports.some(port => port.label === AGENT_PORT && port['frontend-open'] === true))
  }

  /** The guest's end of the port. */
  #opened(isOpen: boolean): void {
    if (this.#isOver || isOpen === this.#isOpen) return
    this.#isOpen = isOpen
    this.#silences = 0
    // Whatever had it open before: what comes may be of another.
    this.#channel?.forget()
    this.files.lost()
    if (isOpen) this.#look()
    else {
      this.#timer?.cancel()
      this.#tell(null)
    }
  }

  /** Asks it to shut its guest down; does nothing where none is. */
  shutdown(): void {
    if (this.#facts === null || this.#isShuttingDown || !this.#options.runs()) return
    this.#isShuttingDown = true
    const ask = () => this.#ask('guest-shutdown', { mode: 'powerdown' }, REFUSAL_MS)
    this.#inTurn(ask)
      .catch((error: unknown) => {
        // What succeeds is not answered.
        if (errorCode(error) !== 'guest-agent-silent') this.#warn(error)
      })
      .finally(() => {
        this.#isShuttingDown = false
      })
  }

  /** Its machine is: nothing is asked any more. */
  end(): void {
    this.#isOver = true
    this.#isOpen = false
    this.#timer?.cancel()
    this.files.end()
    this.#channel?.close()
  }

  // --- asking --------------------------------------------------------------------------------------------------------

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work)
    this.#work = done.then(
      () => undefined,
      () => undefined,
    )
    return done
  }

  async #ask(command: string, args: { readonly [key: string]: Json }, deadlineMs: number): Promise<Json> {
    const channel = await this.#synced()
    return channel.execute(command, args, deadlineMs)
  }

  async #synced(): Promise<AgentChannel> {
    if (!this.#isOpen) throw new StellwerkError('guest-agent-silent', 'no agent has its port open')
    const { env, dial, mayPass } = this.#options
    if (this.#channel === null || this.#channel.closed) {
      this.#channel = null
      const stream = await dial()
      this.#channel = new AgentChannel(stream, env.timers, env.random, mayPass)
      if (this.#isOver) this.#channel.close()
    }
    if (!this.#channel.synced) await this.#channel.sync(ANSWER_MS)
    return this.#channel
  }

  // --- looking -------------------------------------------------------------------------------------------------------

  #look(): void {
    this.#timer?.cancel()
    this.#timer = null
    if (this.#isOver || !this.#isOpen || this.#isLooking) return
    this.#isLooking = true
    this.#inTurn(() => this.#asked()).then(
      facts => this.#looked(facts),
      (error: unknown) => this.#looked(null, error),
    )
  }

  /** Null: now is not the time. */
  async #asked(): Promise<GuestFacts | null> {
    if (!this.#options.runs() || this.files.isFrozen) return null
    // What an agent before this one has left frozen, too.
    await this.files.melt((command, deadlineMs) => this.#ask(command, {}, deadlineMs))
    const ask = (command: string): Promise<Json> =>
      this.#ask(command, {}, ANSWER_MS).catch((error: unknown) => {
        // Guests forbid their agents what they like.
        if (errorCode(error) === 'guest-agent-refused') return null
        throw error
      })
    return guestFacts({
      info: await ask('guest-info'),
      hostName: await ask('guest-get-host-name'),
      os: await ask('guest-get-osinfo'),
      interfaces: await ask('guest-network-get-interfaces'),
    })
  }

  #looked(facts: GuestFacts | null, error?: unknown): void {
    this.#isLooking = false
    if (this.#isOver || !this.#isOpen) return
    if (error === undefined) {
      this.#silences = 0
      if (facts !== null) this.#tell(facts)
      this.#lookIn(facts === null ? STILL_MS : this.files.mayBeFrozen ? RETRY_MS : REFRESH_MS)
      return
    }
    // Who stands still can't answer.
    if (this.#options.runs()) this.#silences += 1
    if (this.#silences >= SILENT_MAX) this.#tell(null)
    const waitMs = RETRY_MS * 2 ** Math.max(0, this.#silences - 1)
    // Whoever may have frozen files is not left alone.
    this.#lookIn(this.files.mayBeFrozen && this.#facts !== null ? RETRY_MS : Math.min(waitMs, RETRY_MAX_MS))
  }

  #lookIn(delayMs: number): void {
    this.#timer?.cancel()
    this.#timer = this.#options.env.timers.after(delayMs, () => this.#look())
  }

  #tell(facts: GuestFacts | null): void {
    if (JSON.stringify(facts) === JSON.stringify(this.#facts)) return
    this.#facts = facts
    this.#options.told(facts)
  }

  #warn(error: unknown): void {
    const { env, vm } = this.#options
    env.log.warn({ vm, code: errorCode(error) }, `its guest agent: ${describeError(error)}`)
  }
}
