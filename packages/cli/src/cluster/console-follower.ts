// Follows what the guests of some hosts say on their consoles, or what the serial port of one sends, over links to the hosts' agents,
// and types there. It is heard as it leaves a host; what is said while a link is down is missed.

import '@stellwerk/protocol/messages/all.ts'
import { CONSOLE_RECENT_BYTES, clusterFamily, type ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Session } from '@stellwerk/protocol/session.ts'
import type { Address, Environment, Hlc } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'

const BACKOFF = { minMs: 50, maxMs: 500 }
const FOLLOW_MS = 2_000
const TYPE_MS = 5_000

export interface ConsoleLine {
  readonly vm: string
  readonly epoch: number
  readonly host: string
  readonly line: string
  /** When the host heard it: lines of several hosts are ordered by it, whichever came first. */
  readonly hlc: Hlc
}

export interface FollowerOptions {
  readonly env: Environment
  readonly cluster: string
  readonly token: string
  /** Of all guests. */
  readonly onLine?: (line: ConsoleLine) => void
  /** The beginning of a line that follows whole. */
  readonly onPrompt?: (vm: string, text: string) => void
  /** Instead of lines: the serial port of one. */
  readonly port?: FollowedPort
  /** The host answers; these are its machines now. */
  readonly onMachines?: (host: string, machines: readonly ReportedMachine[]) => void
}

export interface FollowedPort {
  readonly vm: string
  /** `isOld`: it was sent before it was followed. Resolves when it stands there: until then nothing more of it comes from that host. */
  onOutput(bytes: Uint8Array, host: string, isOld: boolean): Promise<void> | void
  /** So many bytes before these have not come. */
  onMissed(bytes: number): void
}

export class ConsoleFollower {
  readonly #options: FollowerOptions
  readonly #node: string
  readonly #sessions = new Map<string, PersistentSession>()
  /** Where hosts are now. */
  readonly #addresses = new Map<string, Address>()
  /** Of the port that is followed: the life of its machine that was heard last, and what comes next of it. */
  #heard: { life: string; next: number } | null = null
  /** The life that keys are typed for; null: nobody knows. */
  #life: string | null = null

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#node = `cli-${options.env.random.id(8).replace(/[^A-Za-z0-9]/g, 'x')}`
  }

  /** Follows these hosts and no others. */
  follow(hosts: readonly { readonly name: string; readonly control: Address }[]): void {
    const wanted = new Set(hosts.map(host => host.name))
    for (const [name, session] of this.#sessions) {
      if (wanted.has(name)) continue
      session.stop()
      this.#sessions.delete(name)
    }
    for (const { name, control } of hosts) {
      this.#addresses.set(name, control)
      if (this.#sessions.has(name)) continue
      const { env, cluster, token } = this.#options
      const session = new PersistentSession({
        env,
        address: () => this.#addresses.get(name) ?? control,
        class: 'control',
        identity: { cluster, node: this.#node, role: 'cli', incarnation: 1, credential: token },
        backoff: BACKOFF,
        onUp: up => this.#up(name, up),
      })
      this.#sessions.set(name, session)
      session.start()
    }
  }

  get hosts(): readonly string[] {
    return [...this.#sessions.keys()]
  }

  /** At the VM's serial port. Rejects with `not-linked`: nothing was sent; or as `console.keys` is refused. */
  async type(host: string, vm: string, bytes: Uint8Array, life: string | null): Promise<void> {
    const session = this.#sessions.get(host)?.session ?? null
    if (session === null) throw new StellwerkError('not-linked', 'there is no link to it', { where: host })
    const body = { vm, bytes, ...(life === null ? {} : { life }) }
    try {
      const typed = await clusterFamily.request(session, 'console.keys', body, TYPE_MS, this.#to(host))
      this.#life = typed.life
    } catch (error) {
      // It has begun another, which has said nothing yet.
      if (errorCode(error) === 'other-life' && this.#life === life) this.#life = null
      throw error
    }
  }

  /** Of the guest that was heard last; null: nobody knows. */
  get life(): string | null {
    return this.#life
  }

  #to(host: string): { readonly from: string; readonly to: string } {
    return { from: this.#node, to: `${host}/agent` }
  }

  #up(host: string, session: Session): void {
    const { port } = this.#options
    session.onMessage((envelope, reply) => {
      if (envelope.kind === 'console.output') {
        const output = clusterFamily.body('console.output', envelope)
        void this.#output(output, host, false).then(
          () => reply.ok({}),
          (error: unknown) =>
            reply.fail(error instanceof StellwerkError ? error : new StellwerkError('not-shown', errorMessage(error))),
        )
        return
      }
      if (envelope.kind === 'console.prompt') {
        const { vm, text } = clusterFamily.body('console.prompt', envelope)
        this.#options.onPrompt?.(vm, text)
      }
      if (envelope.kind !== 'console.line') return
      const { said, ...line } = clusterFamily.body('console.line', envelope)
      this.#options.onLine?.({ ...line, hlc: said })
      if (reply.wanted) reply.ok({})
    })
    const wanted = port === undefined ? {} : { vm: port.vm }
    clusterFamily.request(session, 'console.follow', wanted, FOLLOW_MS, this.#to(host)).then(
      ({ machines, port: stands }) => {
        if (stands !== undefined) this.#stands(stands, host)
        this.#options.onMachines?.(host, machines)
      },
      (error: unknown) => {
        const { env } = this.#options
        env.log.debug({ host, code: errorCode(error) }, `its consoles can't be followed: ${errorMessage(error)}`)
        session.close('retry', 'the consoles could not be followed')
      },
    )
  }

  /** What a host has of the port when it is linked: all of it is new, or what came while there was no link. */
  #stands({ life, at, recent }: { life: string; at: number; recent: Uint8Array }, host: string): void {
    const isKnown = this.#heard?.life === life
    const bytes = isKnown ? recent : wholeLines(recent)
    void this.#output({ life, at: at - bytes.length, bytes }, host, !isKnown)
  }

  async #output(
    { life, at, bytes }: { life: string; at: number; bytes: Uint8Array },
    host: string,
    isOld: boolean,
  ): Promise<void> {
    const { port } = this.#options
    if (this.#heard?.life !== life) this.#heard = { life, next: at }
    this.#life = life
    const missed = at - this.#heard.next
    const news = missed < 0 ? bytes.subarray(-missed) : bytes
    this.#heard.next = Math.max(this.#heard.next, at + bytes.length)
    if (missed > 0) port?.onMissed(missed)
    if (news.length > 0) await port?.onOutput(news, host, isOld)
  }

  stop(): void {
    for (const session of this.#sessions.values()) session.stop()
    this.#sessions.clear()
  }
}

/** What was cut off somewhere begins with a line. */
function wholeLines(recent: Uint8Array): Uint8Array {
  return recent.length < CONSOLE_RECENT_BYTES ? recent : recent.subarray(recent.indexOf(0x0a) + 1)
}
