// The coordinator process: opens its state, listens for agents and guardians, keeps a session to each storage, and runs
// the decider. It wires; the decisions are in core/.

import '@stellwerk/protocol/messages/all.ts'
import { PersistentSession } from '@stellwerk/protocol/persistent-session.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { bindSession } from '@stellwerk/protocol/session-bridge.ts'
import { type Admission, type Introduction, listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import { PROFILES, type Profile, type Settings } from '@stellwerk/protocol/settings.ts'
import { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Address, Environment, Listener } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isTaken, whyNotTaken } from './core/announce.ts'
import type { Command } from './core/commands.ts'
import { orderedStorages } from './core/external.ts'
import { foreignGuardian, isForeignGuardian } from './core/guardians.ts'
import { COORDINATOR_NAME, whyNoHostName } from './core/host-names.ts'
import { whoPassesOn } from './core/hosts.ts'
import { load, whyMarkedAsOlder } from './core/load.ts'
import type { CoordinatorState, StorageRecord } from './core/state.ts'
import { UNCONFIRMED, UNCONFIRMED_HINT } from './core/unconfirmed.ts'
import { DECIDER, Decider } from './decider.ts'
import { GuestLibrary, LIBRARY } from './guest-library.ts'

export interface CoordinatorConfig {
  readonly cluster: string
  readonly token: string
  readonly profile: Profile
  /** Overrides of the profile. */
  readonly settings?: Partial<Settings>
  readonly listen: Address
  readonly storages: readonly StorageRecord[]
}

export interface Coordinator {
  readonly address: Address
  readonly state: CoordinatorState
  /** The guest modules that operators brought. */
  readonly guests: Pick<GuestLibrary, 'hold' | 'has'>
  /** Rejects with the refusal's coded error. */
  command(command: Command): Promise<unknown>
  /** Asks a volume's owner directly, for what only it knows. */
  askOwner(volume: string, kind: string, body: unknown, deadlineMs?: number): Promise<unknown>
  /** Or another part of it: `HOST/part`. */
  askAgent(host: string, kind: string, body: unknown, part?: string): Promise<unknown>
  /** Directly, or where the control link is down through an agent that has a path; rejects with `storage-unreachable`. */
  askStorage(storage: string, kind: string, body: unknown): Promise<unknown>
  stop(): Promise<void>
}

const COMMAND_MS = 5_000
/** What operators ask waits for this run's being taken, looked at so often, and is refused this long after a storage's silence counts. */
const TAKEN_LOOK_MS = 20
const TAKEN_WITHIN_MS = 1_000

export async function startCoordinator(env: Environment, config: CoordinatorConfig): Promise<Coordinator> {
  const older = whyMarkedAsOlder(env.store)
  if (older !== null) {
    throw new StellwerkError(
      'stale-state',
      `the coordinator's state is older than the cluster: it decides nothing (${older})`,
      {
        hint: 'put the newer state back, or use "stellwerk cluster restore"',
      },
    )
  }
  const settings: Settings = { ...PROFILES[config.profile], ...config.settings }
  const state = load(
    env.store,
    config.cluster,
    settings,
    config.storages,
    env.clock.now(),
    env.clock.wall(),
    env.random.id(),
  )
  const system = new ActorSystem({ env, local: [COORDINATOR_NAME] })
  const identity: Identity = {
    cluster: config.cluster,
    node: COORDINATOR_NAME,
    role: 'coordinator',
    incarnation: state.cluster.term,
    credential: config.token,
  }
  const storages = new Map<string, PersistentSession>()
  const reaches = (storage: string) => storages.get(storage)?.session !== null
  const newest = new Map<string, Session>()
  system.spawn(DECIDER, new Decider({ state, store: env.store, reaches }), {
    mailbox: 16_384,
  })
  const guests = new GuestLibrary({ env, system, state })
  system.spawn(LIBRARY, guests)
  for (const storage of orderedStorages(state)) {
    storages.set(storage.name, keepStorageSession(env, system, identity, storage))
  }
  const listener = await listenSessions(env, config.listen, identity, admitTo(state), session => {
    serve(system, session, newest)
  })
  env.log.info({ address: listener.address, term: state.cluster.term }, 'the coordinator listens')
  return {
    address: listener.address,
    state,
    guests,
    command: async command => {
      await untilTaken(env, state)
      return system.ask('coordinator/api', DECIDER, 'shell.command', { command }, COMMAND_MS)
    },
    askOwner: async (volume, kind, body, deadlineMs = COMMAND_MS) => {
      await untilTaken(env, state)
      const owner = state.volumes.get(volume)?.owner?.host ?? 'nobody'
      const term = state.cluster.term
      return system.ask('coordinator/api', `${owner}/owner/${volume}`, kind, body, deadlineMs, { term })
    },
    askAgent: async (host, kind, body, part = 'agent') => {
      await untilTaken(env, state)
      const term = state.cluster.term
      return system.ask('coordinator/api', `${host}/${part}`, kind, body, COMMAND_MS, { term })
    },
    askStorage: async (storage, kind, body) => {
      await untilTaken(env, state)
      const { term, settings } = state.cluster
      const ask = (to: string, what: string, content: unknown) =>
        system.ask('coordinator/api', to, what, content, settings.requestMs, { term })
      if (reaches(storage)) return ask(`${storage}/control`, kind, body)
      const relay = whoPassesOn(state, storage)
      if (relay === undefined) {
        throw new StellwerkError(
          'storage-unreachable',
          `neither the coordinator nor a host reaches storage "${storage}"`,
          {
            retryable: true,
            hint: 'see: stellwerk path list',
          },
        )
      }
      const reply = (await ask(`${relay.name}/agent`, 'storage.relay', { storage, kind, body })) as { body: unknown }
      return reply.body
    },
    stop: () => stop(listener, storages, system),
  }
}

/** What an older state accepted would be lost with it. Rejects with `unconfirmed-state`. */
async function untilTaken(env: Environment, state: CoordinatorState): Promise<void> {
  const until = env.clock.now() + state.cluster.settings.requestMs + TAKEN_WITHIN_MS
  while (!isTaken(state)) {
    if (env.clock.now() >= until) {
      throw new StellwerkError(UNCONFIRMED, `nothing was changed: ${whyNotTaken(state)}`, {
        hint: UNCONFIRMED_HINT,
        retryable: true,
      })
    }
    await new Promise<void>(resolve => env.timers.after(TAKEN_LOOK_MS, resolve))
  }
}

/** Agents and guardians come in by their host's name; a removed host does not. */
function admitTo(state: CoordinatorState): (who: Introduction) => Admission {
  return who => {
    if (who.role !== 'agent' && who.role !== 'guardian' && who.role !== 'cli') {
      return { ok: false, code: 'wrong-role', message: `a ${who.role} has no business with the coordinator` }
    }
    const whyNot = who.role === 'cli' ? null : whyNoHostName(state, who.node)
    if (whyNot !== null) return { ok: false, code: 'bad-host-name', message: whyNot }
    const known = refusalOf(state, who)
    if (known === null) return { ok: true }
    // Not for good by a state that may be an older one.
    return { ok: false, ...(isTaken(state) ? known : { ...known, code: UNCONFIRMED }) }
  }
}

function refusalOf(state: CoordinatorState, who: Introduction): { code: string; message: string } | null {
  if (state.hosts.get(who.node)?.removed) {
    return {
      code: 'host-removed',
      message: `host "${who.node}" was removed from the cluster; let it in again: stellwerk host add ${who.node}`,
    }
  }
  if (who.role !== 'cli' && isForeignGuardian(state, who.node, who.guardian)) {
    return foreignGuardian(who.node)
  }
  const isBound = state.hosts.get(who.node)?.guardian !== undefined
  const known = state.liveHosts.get(who.node)?.incarnation ?? 0
  if (who.role === 'agent' && isBound && who.incarnation < known) {
    return { code: 'stale-incarnation', message: `a newer agent of host "${who.node}" has been here` }
  }
  return null
}

/** `newest`: of each agent, the session that counts. */
function serve(system: ActorSystem, session: Session, newest: Map<string, Session>): void {
  const { node, role, incarnation } = session.peer
  if (role === 'guardian') {
    bindSession(system, session, { remotePrefix: `${node}/guardian` })
    return
  }
  bindSession(system, session, { remotePrefix: node })
  if (role !== 'agent') return
  newest.set(node, session)
  session.onClose(() => {
    // The end of an older session may be noticed long after its successor stands.
    if (newest.get(node) !== session) return
    newest.delete(node)
    system.send(DECIDER, 'shell.agent-down', { host: node, incarnation }, { from: 'coordinator/api' })
  })
}

function keepStorageSession(
  env: Environment,
  system: ActorSystem,
  identity: Identity,
  storage: StorageRecord,
): PersistentSession {
  let next = 0
  const session = new PersistentSession({
    env,
    // The cluster network first; a control link over a fabric serves too, where this machine has one.
    address: () => storage.control[next++ % storage.control.length]!,
    class: 'control',
    identity,
    onUp: up => {
      bindSession(system, up, { remotePrefix: storage.name })
    },
  })
  session.start()
  return session
}

async function stop(listener: Listener, storages: Map<string, PersistentSession>, system: ActorSystem): Promise<void> {
  for (const session of storages.values()) session.stop()
  await listener.close()
  system.stop()
}
