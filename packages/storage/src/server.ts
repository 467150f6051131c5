// The storage subsystem: state recovered, LUNs opened, then portals for NBD and control links listened on. It wires the
// parts and has no policy.

import { storageFamily } from '@stellwerk/protocol/messages/storage.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import { AssertionFailure } from '@stellwerk/runtime/assert.ts'
import type { Address, Environment, FileLock, Listener } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isName } from './admission/export-name.ts'
import { recoverAdmission } from './admission/recover.ts'
import { Control, type StorageBody, type StorageKind, type StorageReply } from './control.ts'
import type { Seen } from './gated-device.ts'
import { type GateEffect, Gatekeeper } from './gatekeeper.ts'
import { checkAllKnown } from './lun/file-notes.ts'
import { LUN_DIRECTORY } from './lun/lun.ts'
import { LunShelf } from './lun-shelf.ts'
import { Portal } from './portal.ts'

export interface StorageConfig {
  /** As the cluster's map calls it: `san-a`. */
  readonly name: string
  readonly cluster: string
  /** The cluster's join token. */
  readonly credential: string
  /** Where NBD is served: on fabric-0 and fabric-1. */
  readonly portals: readonly Address[]
  /** Where control links are taken: on cluster, fabric-0 and fabric-1. */
  readonly control: readonly Address[]
}

export interface StorageServer {
  readonly name: string
  /** As configured, with the ports that were really taken. */
  readonly portals: readonly Address[]
  readonly control: readonly Address[]
  /** What a control link would be answered. Rejects with the refusal's code. */
  order<K extends StorageKind>(kind: K, body: StorageBody<K>): Promise<StorageReply<K>>
  /** Takes nothing new, lets what is in flight finish, leaves nothing to recover. */
  close(): Promise<void>
}

/**
 * Rejects when its state can't be trusted (`corrupt-state`, `foreign-state`, `lost-state`), another process has it (`locked`), or an
 * address is taken (`address-in-use`). A LUN that can't be opened does not stop it; `storage.status` says so.
 */
export async function startStorage(env: Environment, config: StorageConfig): Promise<StorageServer> {
  if (!isName(config.name))
    throw new StellwerkError('bad-config', `'${config.name}' is not a name for a storage`, { where: 'name' })
  const lock = await env.files.lock('lock')
  const listeners: Listener[] = []
  try {
    // Before the first mark is written: a state that is new here would take the place of the one that was lost.
    if (env.store.get('identity') === undefined)
      checkAllKnown(await env.files.list(LUN_DIRECTORY), () => false, LUN_DIRECTORY)
    const incarnation = takeIdentity(env, config)
    const server = new Server(env, config, incarnation, lock)
    await server.start(listeners)
    return server
  } catch (error) {
    for (const listener of listeners) await listener.close()
    lock.release()
    throw error
  }
}

/** The state directory belongs to one storage of one cluster. Counts the starts. */
function takeIdentity(env: Environment, { name, cluster }: StorageConfig): number {
  const found = env.store.get('identity')
  const owner = `${cluster}/${name}`
  if (found !== undefined && found !== owner) {
    throw new StellwerkError('foreign-state', `this state is storage ${JSON.stringify(found)}'s, not ${owner}'s`, {
      hint: 'use another directory, or the right name and cluster',
    })
  }
  const starts = env.store.get('starts') ?? 0
  if (typeof starts !== 'number' || !Number.isSafeInteger(starts) || starts < 0) {
    throw new StellwerkError('corrupt-state', `the stored mark 'starts' can't be read`, { where: 'starts' })
  }
  env.store.commit([
    { put: 'identity', value: owner },
    { put: 'starts', value: starts + 1 },
  ])
  return starts + 1
}

class Server implements StorageServer {
  readonly name: string
  portals: readonly Address[] = []
  control: readonly Address[] = []
  readonly #env: Environment
  readonly #config: StorageConfig
  readonly #identity: Identity
  readonly #lock: FileLock
  readonly #shelf: LunShelf
  readonly #gate: Gatekeeper
  readonly #portal: Portal
  readonly #control: Control
  #listeners: readonly Listener[] = []
  #closed: Promise<void> | null = null

  constructor(env: Environment, config: StorageConfig, incarnation: number, lock: FileLock) {
    const { name, cluster, credential } = config
    this.name = name
    this.#env = env
    this.#config = config
    this.#lock = lock
    this.#identity = { cluster, node: name, role: 'storage', incarnation, credential }
    this.#shelf = new LunShelf(env)
    this.#gate = new Gatekeeper(env, name, recoverAdmission(env.store), {
      perform: effect => this.#perform(effect),
      undecided: (input, error) => {
        if ('ticket' in input) this.#control.fail(input.ticket, error)
        else if (input.kind === 'connect') {
          this.#portal.refuse(input.connection, { code: 'store-failed', message: `store-failed ${error.message}` })
        } else throw error
      },
    })
    const seen = new Map<string, Seen>()
    this.#control = new Control(env, name, this.#gate, this.#shelf, seen)
    this.#portal = new Portal(env, this.#gate, this.#shelf, host => this.#control.seenOf(host))
  }

  async start(listeners: Listener[]): Promise<void> {
    await this.#shelf.start(this.#gate.state.luns)
    this.#tellGenerations()
    for (const address of this.#config.control) {
      listeners.push(
        await listenSessions(
          this.#env,
          address,
          this.#identity,
          who => admitLink(who.class),
          session => this.#serve(session),
        ),
      )
    }
    const controls = listeners.length
    for (const address of this.#config.portals) {
      listeners.push(await this.#env.network.listenStream(address, stream => this.#portal.accept(stream)))
    }
    this.#listeners = listeners
    this.control = listeners.slice(0, controls).map(({ address }) => address)
    this.portals = listeners.slice(controls).map(({ address }) => address)
    this.#env.log.info({ storage: this.name, luns: this.#gate.state.luns.size }, 'the storage is up')
  }

  /** What is in force from the start: one that was raised just before a crash was durable, but nobody was told. */
  #tellGenerations(): void {
    for (const [lun, { generation }] of this.#gate.state.luns) {
      if (generation === 0) continue
      this.#env.trace.emit({ level: 'decision', kind: 'storage.generation', volume: lun, body: { generation } })
    }
  }

  order<K extends StorageKind>(kind: K, body: StorageBody<K>): Promise<StorageReply<K>> {
    return this.#control.handle(kind, body)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.#portal.close()
    for (const listener of this.#listeners) await listener.close()
    await this.#shelf.close()
    this.#lock.release()
  }

  #serve(session: Session): void {
    session.onMessage(({ kind, body }, reply) => {
      if (!(kind in storageFamily.messages)) {
        reply.fail(new StellwerkError('unknown-kind', `a storage does not answer ${kind}`))
        return
      }
      // The codec has checked the body against the kind's schema.
      this.#control.handle(kind as StorageKind, body as never).then(
        answer => reply.ok(answer),
        (error: unknown) => {
          if (error instanceof AssertionFailure) throw error
          reply.fail(error)
        },
      )
    })
  }

  #perform(effect: GateEffect): void {
    switch (effect.kind) {
      case 'drain':
        this.#portal.drain(effect.connection, effect.refusal)
        break
      case 'welcome':
        this.#portal.welcome(effect.connection)
        break
      case 'refuse':
        this.#portal.refuse(effect.connection, effect.refusal)
        break
      case 'answer':
        this.#control.answer(effect.ticket)
        break
      case 'reject':
        this.#control.reject(effect.ticket, effect.refusal)
        break
    }
  }
}

function admitLink(linkClass: string): { ok: true } | { ok: false; code: string; message: string } {
  if (linkClass === 'control') return { ok: true }
  return { ok: false, code: 'wrong-class', message: `a storage takes control links only, not ${linkClass}` }
}
