// Who follows the consoles of this host's guests, from outside: each line as it is said, and a question while it waits for its answer;
// or, as a terminal does, one guest's serial port byte for byte.

import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import type { Hlc } from '@stellwerk/runtime/environment.ts'
import type { PortState } from '../hypervisor/hypervisor.ts'
import { type AskFollower, TerminalFollower } from './terminal-follower.ts'

/** Of a line, or what stands of one. */
const TEXT_MAX = 4096

export class HostConsoles {
  readonly #host: string
  readonly #ask: AskFollower
  /** In whose name each is told. */
  readonly #readers = new Map<string, ActorContext>()
  readonly #terminals = new Map<string, TerminalFollower>()
  readonly #sessions = new Map<string, number>()
  readonly #ports = new Map<string, PortState>()

  constructor(host: string, ask: AskFollower) {
    this.#host = host
    this.#ask = ask
  }

  /** Of all guests, or of one VM: then how its serial port stands, if that is known here. */
  follow(name: string, vm: string | null, context: ActorContext): PortState | null {
    this.#forget(name)
    if (vm === null) {
      this.#readers.set(name, context)
      return null
    }
    this.#terminals.set(name, new TerminalFollower({ vm, host: this.#host }, body => this.#ask(name, body)))
    return this.#ports.get(vm) ?? null
  }

  /** A session of it stands; what is given is called when that has ended. An older one may end after its successor has begun. */
  joined(name: string): () => void {
    this.#sessions.set(name, (this.#sessions.get(name) ?? 0) + 1)
    return () => {
      const others = (this.#sessions.get(name) ?? 1) - 1
      if (others > 0) {
        this.#sessions.set(name, others)
        return
      }
      this.#sessions.delete(name)
      this.#forget(name)
    }
  }

  #forget(name: string): void {
    this.#readers.delete(name)
    this.#terminals.get(name)?.stop()
    this.#terminals.delete(name)
  }

  /** It is not here any more. */
  left(vm: string): void {
    this.#ports.delete(vm)
  }

  line(vm: string, epoch: number, line: string, said: Hlc): void {
    this.#tellReaders('console.line', { vm, epoch, host: this.#host, line: line.slice(0, TEXT_MAX), said })
  }

  prompt(vm: string, text: string): void {
    this.#tellReaders('console.prompt', { vm, host: this.#host, text: text.slice(0, TEXT_MAX) })
  }

  /** What its serial port sends, and how it stands since. */
  output(vm: string, bytes: Uint8Array, port: PortState): void {
    this.#ports.set(vm, port)
    if (bytes.length === 0) return
    const place = { life: port.life, at: port.at - bytes.length }
    for (const terminal of this.#terminals.values()) terminal.output(vm, bytes, place)
  }

  #tellReaders(kind: string, body: object): void {
    for (const [name, context] of this.#readers) context.send(name, kind, body)
  }
}
