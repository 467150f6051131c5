// Who follows the consoles of this host's guests, from outside: each line as it is said, and a question while it waits for its answer;
// or, as a terminal does, one guest's serial port byte for byte.

import { CONSOLE_OUTPUT_BYTES, CONSOLE_RECENT_BYTES } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorContext } from '@stellwerk/runtime/actors/message.ts'
import type { Hlc } from '@stellwerk/runtime/environment.ts'

/** Of a line, or what stands of one. */
const TEXT_MAX = 4096

interface Follower {
  /** Of the actor in whose name it is told. */
  readonly context: ActorContext
  /** Whose serial port; null: everybody's lines. */
  readonly vm: string | null
}

interface Recent {
  readonly epoch: number
  readonly bytes: Buffer
}

export class HostConsoles {
  readonly #host: string
  readonly #followers = new Map<string, Follower>()
  readonly #sessions = new Map<string, number>()
  readonly #recent = new Map<string, Recent>()

  constructor(host: string) {
    this.#host = host
  }

  /** What the VM's serial port has sent last, where it is one VM that is followed. */
  follow(name: string, vm: string | null, context: ActorContext): Uint8Array {
    this.#followers.set(name, { context, vm })
    return (vm === null ? null : this.#recent.get(vm)?.bytes) ?? new Uint8Array(0)
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
      this.#followers.delete(name)
    }
  }

  /** It is not here any more. */
  left(vm: string): void {
    this.#recent.delete(vm)
  }

  line(vm: string, epoch: number, line: string, said: Hlc): void {
    this.#tellReaders('console.line', { vm, epoch, host: this.#host, line: line.slice(0, TEXT_MAX), said })
  }

  prompt(vm: string, text: string): void {
    this.#tellReaders('console.prompt', { vm, host: this.#host, text: text.slice(0, TEXT_MAX) })
  }

  /** What its serial port sends. */
  output(vm: string, epoch: number, bytes: Uint8Array): void {
    const recent = this.#recent.get(vm)
    const before = recent?.epoch === epoch ? [recent.bytes] : []
    this.#recent.set(vm, {
      epoch,
      bytes: Buffer.from(Buffer.concat([...before, bytes]).subarray(-CONSOLE_RECENT_BYTES)),
    })
    for (const [name, follower] of this.#followers) {
      if (follower.vm !== vm) continue
      for (let at = 0; at < bytes.length; at += CONSOLE_OUTPUT_BYTES) {
        const part = bytes.subarray(at, at + CONSOLE_OUTPUT_BYTES)
        follower.context.send(name, 'console.output', { vm, host: this.#host, bytes: part })
      }
    }
  }

  #tellReaders(kind: string, body: object): void {
    for (const [name, { vm, context }] of this.#followers) {
      if (vm === null) context.send(name, kind, body)
    }
  }
}
