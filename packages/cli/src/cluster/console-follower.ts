// Follows what the guests of some hosts say on their consoles, over links to the hosts' agents. Lines are heard as they
// leave a host; what is said while a link is down is missed.

import '@stellwerk/protocol/messages/all.ts'
import { clusterFamily, type ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Session } from '@stellwerk/protocol/session.ts'
import type { Address, Environment, Hlc } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'

const BACKOFF = { minMs: 50, maxMs: 500 }
const FOLLOW_MS = 2_000

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
  readonly onLine: (line: ConsoleLine) => void
  /** The beginning of a line that follows whole. */
  readonly onPrompt?: (vm: string, text: string) => void
  /** The host answers; these are its machines now. */
  readonly onMachines?: (host: string, machines: readonly ReportedMachine[]) => void
}

export class ConsoleFollower {
  readonly #options: FollowerOptions
  readonly #node: string
  readonly #sessions = new Map<string, PersistentSession>()

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
      if (this.#sessions.has(name)) continue
      const { env, cluster, token } = this.#options
      const session = new PersistentSession({
        env,
        address: () => control,
        class: 'control',
        identity: { cluster, node: this.#node, role: 'cli', incarnation: 1, credential: token },
        backoff: BACKOFF,
        onUp: up => this.#up(name, up),
      })
      this.#sessions.set(name, session)
      session.start()
    }
  }

  #up(host: string, session: Session): void {
    session.onMessage((envelope, reply) => {
      if (envelope.kind === 'console.prompt') {
        const { vm, text } = clusterFamily.body('console.prompt', envelope)
        this.#options.onPrompt?.(vm, text)
      }
      if (envelope.kind !== 'console.line') return
      const { said, ...line } = clusterFamily.body('console.line', envelope)
      this.#options.onLine({ ...line, hlc: said })
      if (reply.wanted) reply.ok({})
    })
    const addresses = { from: this.#node, to: `${host}/agent` }
    clusterFamily.request(session, 'console.follow', {}, FOLLOW_MS, addresses).then(
      ({ machines }) => this.#options.onMachines?.(host, machines),
      (error: unknown) => {
        const { env } = this.#options
        env.log.debug({ host, code: errorCode(error) }, `its consoles can't be followed: ${errorMessage(error)}`)
        session.close('retry', 'the consoles could not be followed')
      },
    )
  }

  stop(): void {
    for (const session of this.#sessions.values()) session.stop()
    this.#sessions.clear()
  }
}
