// Links between virtual switches, on the guest network, one for each pair of hosts. Frames that are sent within one turn go together. What a link can't take is dropped and counted: a guest's transport
// notices by itself, and a queue would only make it notice late.

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import { BATCH_BYTES, BATCH_FRAMES, type NetworkFrames, networkFamily } from '@stellwerk/protocol/messages/network.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import type { Address, Environment, Listener } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { PeerDials } from '../peer-dials.ts'
import { isTold } from './told.ts'

/** Bytes that wait for a link's credit: more is dropped. */
export const QUEUE_BYTES = 1024 * 1024

export interface UplinksOptions {
  readonly env: Environment
  readonly identity: Identity
  readonly listen: Address | null
  readonly onFrames: (host: string, frames: NetworkFrames) => void
}

interface Batch extends Omit<NetworkFrames, 'frames'> {
  frames: Uint8Array[]
  bytes: number
}

interface Uplink {
  readonly peer: string
  session: Session | null
  batch: Batch | null
  dropped: number
}

export class Uplinks {
  readonly #options: UplinksOptions
  readonly #links = new Map<string, Uplink>()
  readonly #dials: PeerDials
  #listener: Listener | null = null
  #flushing = false

  constructor(options: UplinksOptions) {
    this.#options = options
    const { env, identity } = options
    this.#dials = new PeerDials({ env, identity, class: 'io', onUp: session => this.#accept(session) })
  }

  async listen(): Promise<void> {
    const { env, identity, listen } = this.#options
    if (listen === null) return
    this.#listener = await listenSessions(
      env,
      listen,
      identity,
      who =>
        who.role === 'agent' && who.class === 'io'
          ? { ok: true }
          : { ok: false, code: 'wrong-role', message: `a ${who.role} has no business with a switch` },
      session => this.#accept(session),
    )
  }

  follow(hosts: ClusterMap['hosts']): void {
    const { identity, listen } = this.#options
    if (listen === null) return
    const present = new Map(
      hosts.flatMap(({ name, guest }) => (name === identity.node || guest === undefined ? [] : [[name, guest]])),
    )
    for (const [name, link] of [...this.#links]) {
      if (present.has(name)) continue
      this.#links.delete(name)
      link.session?.close('closed', `${name} is no member any more`)
    }
    for (const name of present.keys()) {
      if (!this.#links.has(name)) this.#links.set(name, { peer: name, session: null, batch: null, dropped: 0 })
    }
    this.#dials.follow(present)
  }

  /** `to`: a host, or all that are linked. */
  send(to: string, network: string, hostEpoch: number, placementEpoch: number, frame: Uint8Array): void {
    if (to !== 'all') {
      const link = this.#links.get(to)
      if (link !== undefined) this.#queue(link, network, hostEpoch, placementEpoch, frame)
      return
    }
    for (const link of this.#links.values()) this.#queue(link, network, hostEpoch, placementEpoch, frame)
  }

  async stop(): Promise<void> {
    this.#dials.stop()
    for (const { session } of this.#links.values()) session?.close('closed', 'this side is ending')
    this.#links.clear()
    await this.#listener?.close()
  }

  #accept(session: Session): void {
    const { node } = session.peer
    const link = this.#links.get(node)
    if (link === undefined) {
      // The map that names it may be on its way: it dials again.
      session.close('not-a-member', `${node} is not known here yet`)
      return
    }
    // Its end has not been noticed here: the newer one counts.
    link.session?.close('replaced', 'a newer link took over')
    link.session = session
    session.onClose(() => {
      if (link.session === session) link.session = null
    })
    session.onMessage((envelope, reply) => {
      if (envelope.kind === 'network.frames') {
        this.#options.onFrames(node, networkFamily.body('network.frames', envelope))
        return
      }
      reply.fail(new StellwerkError('protocol-error', `a link of switches carries frames, not ${envelope.kind}`))
    })
  }

  #queue(link: Uplink, network: string, hostEpoch: number, placementEpoch: number, frame: Uint8Array): void {
    const { session } = link
    if (session === null || session.queuedBytes + (link.batch?.bytes ?? 0) > QUEUE_BYTES) {
      this.#dropped(link, 1)
      return
    }
    const { batch } = link
    const fits =
      batch !== null &&
      batch.network === network &&
      batch.placementEpoch === placementEpoch &&
      batch.hostEpoch === hostEpoch &&
      batch.frames.length < BATCH_FRAMES &&
      batch.bytes + frame.byteLength <= BATCH_BYTES
    if (fits) {
      batch.frames.push(frame)
      batch.bytes += frame.byteLength
      return
    }
    this.#flush(link)
    link.batch = { network, hostEpoch, placementEpoch, frames: [frame], bytes: frame.byteLength }
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(() => {
      this.#flushing = false
      for (const each of this.#links.values()) this.#flush(each)
    })
  }

  #flush(link: Uplink): void {
    const { batch, session } = link
    link.batch = null
    if (batch === null || session === null || session.closed) return
    const { bytes: _, ...body } = batch
    if (!networkFamily.send(session, 'network.frames', body)) this.#dropped(link, batch.frames.length)
  }

  #dropped(link: Uplink, count: number): void {
    for (let i = 0; i < count; i += 1) {
      link.dropped += 1
      if (!isTold(link.dropped)) continue
      const { peer, session, dropped } = link
      const why = session === null ? 'there is no link' : 'it takes in too little'
      this.#options.env.log.warn({ peer, dropped }, `guests’ frames to a peer were dropped: ${why}`)
    }
  }
}
