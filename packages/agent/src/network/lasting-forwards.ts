// The lasting forwards that this host is to keep open, as the cluster's map has them: each is opened until it is, also when what keeps
// it open has ended, and closed when the map has it here no more. How they are opened is forwards.ts's.

import type { ForwardReport, MapForward, OpenForward } from '@stellwerk/protocol/messages/forward.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'

/** Where this host listens for forwards that name no address of their own. */
export const FORWARD_ADDRESS = '127.0.0.1'
const AGAIN_MIN_MS = 1_000
const AGAIN_MAX_MS = 15_000

export type LastingForward = Omit<OpenForward, 'forward' | 'keepMs'>

/** What is open, by key. */
export interface LastingWays {
  has(key: string): boolean
  /** Rejects with why it cannot be; it is tried again. */
  open(key: string, forward: LastingForward): Promise<void>
  close(key: string): Promise<void>
}

export interface LastingOptions {
  readonly host: string
  /** Of this host, for those that name none. */
  readonly address: string
  readonly ways: LastingWays
  readonly now: () => number
  /** What is reported has changed. */
  readonly onChange: () => void
  readonly warn: (facts: { readonly forward: string; readonly why: string }, message: string) => void
}

interface Wanted {
  readonly id: string
  readonly forward: LastingForward
  /** What the last attempt came to; null: it is open, or was not tried yet. */
  why: string | null
  againAt: number
  againMs: number
}

export class LastingForwards {
  readonly #options: LastingOptions
  /** By all that they are: one of which anything changes is another. */
  #wanted = new Map<string, Wanted>()
  /** Being opened here, or open, and not closed. */
  readonly #opened = new Set<string>()

  constructor(options: LastingOptions) {
    this.#options = options
  }

  /** True: there is something to do. */
  follow(forwards: readonly MapForward[]): boolean {
    const { host, address } = this.#options
    const next = new Map<string, Wanted>()
    for (const { forward: id, at, listen, ...into } of forwards) {
      const gateway = at.find(each => each.host === host)?.gateway
      if (gateway === undefined) continue
      const forward = { ...into, gateway, listen: { host: listen.host ?? address, port: listen.port } }
      const key = keyOf(id, forward)
      next.set(key, this.#wanted.get(key) ?? { id, forward, why: null, againAt: 0, againMs: AGAIN_MIN_MS })
    }
    this.#wanted = next
    return this.#unsettled
  }

  get #unsettled(): boolean {
    const { ways } = this.#options
    return [...this.#opened].some(key => !this.#wanted.has(key)) || [...this.#wanted.keys()].some(key => !ways.has(key))
  }

  /** There is one to be kept open. */
  get any(): boolean {
    return this.#wanted.size > 0 || this.#opened.size > 0
  }

  needs(isThrough: (forward: LastingForward) => boolean): boolean {
    return [...this.#wanted.values()].some(({ forward }) => isThrough(forward))
  }

  /** Of those that were tried. */
  get reports(): ForwardReport[] {
    return [...this.#wanted].flatMap(([key, { id, forward, why }]): ForwardReport[] => {
      const isOpen = this.#options.ways.has(key)
      if (!isOpen && why === null) return []
      return [{ forward: id, address: forward.listen.host, why: isOpen ? null : why }]
    })
  }

  /** Closes first: a port may pass from one to another. Not to be called again before it has ended. */
  async settle(): Promise<void> {
    const { ways } = this.#options
    for (const key of this.#opened) {
      if (this.#wanted.has(key)) continue
      this.#opened.delete(key)
      await ways.close(key)
    }
    for (const [key, wanted] of this.#wanted) {
      // The map may have changed meanwhile.
      if (ways.has(key) || this.#options.now() < wanted.againAt || this.#wanted.get(key) !== wanted) continue
      await this.#open(key, wanted)
    }
  }

  async #open(key: string, wanted: Wanted): Promise<void> {
    const { ways, now, onChange, warn } = this.#options
    this.#opened.add(key)
    try {
      await ways.open(key, wanted.forward)
      wanted.why = null
      wanted.againMs = AGAIN_MIN_MS
    } catch (error) {
      this.#opened.delete(key)
      const why = errorMessage(error).slice(0, WHY_MAX)
      if (why !== wanted.why) warn({ forward: wanted.id, why }, 'a lasting forward is not open; it is tried again')
      wanted.why = why
      wanted.againAt = now() + wanted.againMs
      wanted.againMs = Math.min(2 * wanted.againMs, AGAIN_MAX_MS)
    }
    onChange()
  }
}

/** As a beat takes it. */
const WHY_MAX = 1_000

function keyOf(id: string, { listen, network, gateway, bits, guest, guestPort }: LastingForward): string {
  return `lasting/${id} ${listen.host} ${network} ${gateway}/${bits} ${guest}:${guestPort}`
}
