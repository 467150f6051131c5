// Who follows the consoles of this host's guests, from outside: each line as it is said, and a question while it waits for its answer;
// or, as a terminal does, one guest's serial port byte for byte.

import { CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import type { Hlc } from '@stellwerk/runtime/environment.ts'
import type { PortPlace } from '../hypervisor/hypervisor.ts'
import { type AskFollower, TerminalFollower } from './terminal-follower.ts'

/** Of a line, or what stands of one. */
const TEXT_MAX = 4096

/** How a guest's serial port stands: the end of what it has sent, up to `at`. */
export interface PortState extends PortPlace {
  readonly recent: Uint8Array
}

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

  /** What its serial port sends. */
  output(vm: string, bytes: Uint8Array, { life, at }: PortPlace): void {
    const before = this.#ports.get(vm)
    const recent = before?.life === life ? before.recent : new Uint8Array(0)
    this.stands(vm, Buffer.concat([recent, bytes]).subarray(-CONSOLE_RECENT_BYTES), { life, at: at + bytes.length })
    for (const terminal of this.#terminals.values()) terminal.output(vm, bytes, { life, at })
  }

  /** What it has sent last, before anybody here could hear it. */
  stands(vm: string, recent: Uint8Array, { life, at }: PortPlace): void {
    // A copy: of a chunk that is kept by its end all of it would be kept.
    this.#ports.set(vm, { life, at, recent: Buffer.from(recent) })
  }

  #tellReaders(kind: string, body: object): void {
    for (const [name, context] of this.#readers) context.send(name, kind, body)
  }
}
