// The peer's side of a redirected path: carries the bytes of another host's NBD connection to one of this host's own
// portals. No block semantics live here, so it can neither retry nor reorder: when the connection ends, the path does.
// Only own, direct paths are used: no chains.

import { bulkStream } from '@stellwerk/protocol/bulk-stream.ts'
import type { ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import { type RedirectOpen, redirectFamily } from '@stellwerk/protocol/messages/redirect.ts'
import type { Reply, Session } from '@stellwerk/protocol/session.ts'
import type { ByteStream, Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { parseExportName } from '@stellwerk/storage/admission/export-name.ts'
import { type Joined, joinStreams } from '../join-streams.ts'
import { JOIN_BELOW_BYTES } from './redirected-path.ts'

/** Connections carried for others at once; more are refused, and their hosts ask another peer. */
export const MAX_REDIRECTS = 1024

export interface RedirectServerOptions {
  readonly env: Environment
  readonly host: string
  readonly storage: (name: string) => ClusterMapStorage | null
  /** This host's HBAs over which the storage answers now, the best first. */
  readonly hbas: (storage: string) => readonly NetworkName[]
  readonly dialTimeoutMs: () => number
}

export class RedirectServer {
  readonly #options: RedirectServerOptions
  readonly #carried = new Set<{ readonly of: string; readonly storage: string; joined: Joined | null }>()

  constructor(options: RedirectServerOptions) {
    this.#options = options
  }

  /** Of the hosts whose requests go through here now. */
  get carried(): { host: string; storage: string }[] {
    return [...this.#carried].map(({ of, storage }) => ({ host: of, storage }))
  }

  /** An io session that another host has opened. */
  accept(session: Session): void {
    session.onMessage((envelope, reply) => {
      if (envelope.kind !== 'redirect.open') {
        reply.fail(new StellwerkError('protocol-error', `an io link begins with redirect.open, not ${envelope.kind}`))
        return
      }
      void this.#open(session, redirectFamily.body('redirect.open', envelope), reply)
    })
  }

  stop(): void {
    for (const each of [...this.#carried]) each.joined?.drop()
  }

  async #open(session: Session, { storage, exportName }: RedirectOpen, reply: Reply): Promise<void> {
    const { env, host } = this.#options
    const carried = { of: session.peer.node, storage, joined: null as Joined | null }
    this.#carried.add(carried)
    const end = (): void => {
      this.#carried.delete(carried)
    }
    try {
      const misfit = this.#misfit(session, exportName)
      if (misfit !== null) throw new StellwerkError('redirect-refused', `${exportName}: ${misfit}`, { where: host })
      const { stream, hba } = await this.#dial(storage)
      if (session.closed) {
        stream.destroy()
        end()
        return
      }
      reply.ok({ hba })
      const link = bulkStream(session, { joinBelowBytes: JOIN_BELOW_BYTES })
      env.trace.emit({
        level: 'decision',
        kind: 'path.carried',
        host,
        body: { of: session.peer.node, storage, hba, export: exportName },
      })
      carried.joined = joinStreams(link, stream, env.timers, end)
    } catch (error) {
      end()
      if (!(error instanceof StellwerkError)) throw error
      if (!session.closed) reply.fail(error)
    }
  }

  /** What is carried is the asking host's own, by name: its epoch and session stand or fall with it. */
  #misfit(session: Session, exportName: string): string | null {
    const { host } = this.#options
    if (this.#carried.size > MAX_REDIRECTS) return `more than ${MAX_REDIRECTS} connections are carried`
    const name = parseExportName(exportName)
    if ('code' in name) return name.message
    const { claim } = name
    if (claim === null) return 'it names no host'
    if (claim.via !== host) return `it is to go via ${claim.via ?? 'nobody'}`
    const { node, incarnation } = session.peer
    if (claim.host !== node) return `it is of host ${claim.host}, asked for by ${node}`
    return claim.session[0] === incarnation ? null : `its session is not of incarnation ${incarnation}`
  }

  async #dial(name: string): Promise<{ stream: ByteStream; hba: NetworkName }> {
    const { env, host, storage, hbas, dialTimeoutMs } = this.#options
    let why = 'none of its HBAs reaches it'
    for (const hba of hbas(name)) {
      const portal = storage(name)?.portals.find(({ network }) => network === hba)
      if (portal === undefined) continue
      try {
        return { stream: await env.network.dialStream(portal, { timeoutMs: dialTimeoutMs() }), hba }
      } catch (error) {
        why = errorMessage(error)
      }
    }
    throw new StellwerkError('no-direct-path', `host ${host} has no direct path to ${name}: ${why}`, {
      retryable: true,
    })
  }
}
