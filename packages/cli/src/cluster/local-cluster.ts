// A whole cluster on this machine, each part its own process: made or recovered from its directory, started, watched, and
// ended in order. What it is used for is up to `up` and `demo`.

import { join } from 'node:path'
import { EXIT_DEPOSED } from '@stellwerk/coordinator/decider.ts'
import type { FileLock, Json, TraceLevel } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError, tellError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import type { LogLevel } from '@stellwerk/runtime/node/log.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { ApiClient } from '../api-client/client.ts'
import { type Launch, PROCESS_ENTRY } from '../programs/process.ts'
import { withBridges } from './bridges.ts'
import {
  API_TOKEN_FILE,
  type ClusterFile,
  type ExternalStorage,
  JOIN_TOKEN_FILE,
  takeToken,
  writeClusterFile,
} from './cluster-file.ts'
import { olderState, refuseLostCoordinator } from './coordinator-state.ts'
import { checkHostDirectory, lookInto } from './directory.ts'
import { withExternal } from './external-storages.ts'
import { CHAOS_DIRECTORY, faultSwitch, RULES_FILE } from './fault-seam.ts'
import {
  coordinatorConfig,
  guardianConfig,
  newCluster,
  PORTS_PER_HOST,
  portsNeeded,
  storageConfig,
  type Tokens,
} from './layout.ts'
import { type Ended, LocalProcess } from './local-process.ts'
import { withOwnHint } from './own-hints.ts'
import { findPorts } from './ports.ts'
import { lookAtUp } from './up-record.ts'

export interface LocalClusterOptions {
  readonly directory: string
  /** Of a new cluster; a known one keeps what it has. */
  readonly hosts: number
  readonly memoryBytes: number
  readonly profile: ClusterFile['profile']
  /** Named now, besides those that the cluster knows. */
  readonly external?: readonly ExternalStorage[]
  /** Likewise: networks of the guests and their bridges. */
  readonly bridges?: readonly (readonly [network: string, bridge: string])[]
  /** Dead processes are started again. */
  readonly supervise: boolean
  readonly logLevel: LogLevel
  /** Of its processes; default `message`. */
  readonly traceLevel?: TraceLevel
  /** Its processes go by fault rules (fault-seam.ts); without, they can't be told any. */
  readonly faults?: boolean
  /** A process ended that was not told to. */
  readonly onEnded: (name: string, ended: Ended) => void
}

const LOCK_FILE = 'lock'
const ADDRESS = '127.0.0.1'
const RESTART_MS = 1_000
const HALT_MS = 20_000
const GUARDIAN_STOP_MS = 25_000
const STOP_MS = 10_000
const POLL_MS = 50

export class LocalCluster {
  readonly env: NodeEnvironment
  readonly api: ApiClient
  readonly tokens: Tokens
  /** Nothing of it was there before. */
  readonly isNew: boolean
  file: ClusterFile
  readonly #options: LocalClusterOptions
  readonly #lock: FileLock
  readonly #processes = new Map<string, LocalProcess>()
  readonly #launches = new Map<string, { readonly program: string; readonly config: object }>()
  #stopping = false
  #failure: StellwerkError | null = null

  /** Throws what is wrong with the directory; `locked` when another `up` has it. Starts nothing. */
  static async open(options: LocalClusterOptions): Promise<LocalCluster> {
    const known = await lookInto(options.directory)
    if (known !== null && (await lookAtUp(options.directory)) === null)
      await refuseLostCoordinator(options.directory, known)
    const env = createEnvironment({
      name: 'up',
      directory: options.directory,
      entry: PROCESS_ENTRY,
      outputDirectory: join(options.directory, 'output'),
      store: memoryStore(),
      logLevel: options.logLevel,
      logFile: join(options.directory, 'log'),
    })
    try {
      const lock = await takeLock(env, options.directory)
      const before = known ?? (await make(env, options))
      const named = withBridges(withExternal(before, options.external ?? []), options.bridges ?? [])
      const file = await withGuestPorts(env, named)
      const tokens = {
        join: await takeToken(env.files, JOIN_TOKEN_FILE, env.random),
        api: await takeToken(env.files, API_TOKEN_FILE, env.random),
      }
      if (file !== known) await writeClusterFile(env.files, file)
      await readyForFaults(env, options.faults === true)
      return new LocalCluster(env, options, lock, file, tokens, known === null)
    } catch (error) {
      await env.close()
      throw error
    }
  }

  private constructor(
    env: NodeEnvironment,
    options: LocalClusterOptions,
    lock: FileLock,
    file: ClusterFile,
    tokens: Tokens,
    isNew: boolean,
  ) {
    this.env = env
    this.#options = options
    this.#lock = lock
    this.file = file
    this.tokens = tokens
    this.isNew = isNew
    this.api = new ApiClient({ host: file.address, port: file.coordinator.apiPort, token: tokens.api })
  }

  /** `san-a`, `coordinator`, `host-a/guardian`; a guardian's agent is its own child. */
  get processes(): readonly LocalProcess[] {
    return [...this.#processes.values()]
  }

  /** Why a host's agent could not start; null: it has, or has not said yet. */
  agentFailure(host: string): StellwerkError | null {
    const failure = this.#processes.get(`${host}/guardian`)?.agentFailure ?? null
    return failure === null ? null : withOwnHint(failure, `${host}/agent`, this.#options.directory, this.file)
  }

  /** What has died, or could not start, is tried again. */
  get isSupervised(): boolean {
    return this.#options.supervise
  }

  /** Why this cluster can't be brought up, whatever is waited for. */
  get failure(): StellwerkError | null {
    return this.#failure
  }

  get isStopping(): boolean {
    return this.#stopping
  }

  /**
   * Resolves when all that can start are ready to be talked to, with what could not, by name. Rejects, after ending the
   * others, without the coordinator, without any host, or without any storage: then nothing could serve.
   */
  async start(): Promise<ReadonlyMap<string, StellwerkError>> {
    const killed = await this.env.processes.killLeftovers()
    if (killed.length > 0) this.env.log.warn({ pids: killed }, 'ended what an earlier start had left running')
    try {
      // What keeps state is asked first: if that can't be trusted, nothing else has begun.
      await this.startCoordinator()
      const failed = new Map<string, StellwerkError>()
      const all = async (names: readonly string[], start: (name: string) => Promise<void>) => {
        const ends = await Promise.allSettled(names.map(start))
        for (const [i, end] of ends.entries()) {
          if (end.status === 'rejected') failed.set(names[i] ?? '', asCoded(end.reason))
        }
        const [first] = ends
        if (first?.status === 'rejected' && ends.every(end => end.status === 'rejected')) throw first.reason
      }
      await Promise.all([
        all(
          this.file.storages.map(({ name }) => name),
          name => this.startStorage(name),
        ),
        all(
          this.file.hosts.map(({ name }) => name),
          name => this.startHost(name),
        ),
      ])
      return failed
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  startCoordinator(): Promise<void> {
    return this.#spawn('coordinator', 'coordinator', coordinatorConfig(this.file, this.tokens))
  }

  startStorage(name: string): Promise<void> {
    return this.#spawn('storage', name, storageConfig(this.file, this.tokens, name))
  }

  /** Its guardian, which starts its agent; where the guardian runs: its agent, unless that runs. */
  async startHost(name: string): Promise<void> {
    const running = this.#processes.get(`${name}/guardian`)
    if (running !== undefined && !running.isEnded) {
      running.send({ kind: 'start-agent' })
      return
    }
    const config = guardianConfig(this.file, this.tokens, name, this.#options.supervise)
    await this.#spawn('guardian', `${name}/guardian`, config)
  }

  /** `host-a`, `san-a` or `coordinator`, if it has ended; what runs is left alone. */
  async startNode(name: string): Promise<void> {
    if (this.#stopping) return
    if (this.file.hosts.some(host => host.name === name)) return this.startHost(name)
    if (this.#processes.get(name)?.isEnded === false) return
    if (name === 'coordinator') await this.startCoordinator()
    else await this.startStorage(name)
  }

  /** What has ended without being told to, in the order in which a start has it. A supervised cluster does so by itself. */
  async restartEnded(): Promise<void> {
    if (this.#options.supervise || this.#stopping) return
    this.#failure = null
    const ended = [...this.#launches].filter(([name]) => this.#processes.get(name)?.isEnded === true)
    for (const [name, { program, config }] of ended) {
      // Another who asked for the same may have come to it first.
      if (this.#processes.get(name)?.isEnded === true) await this.#spawn(program, name, config)
    }
    // Guardians that live on without their agents.
    for (const { name } of this.file.hosts) if (this.#processes.has(`${name}/guardian`)) await this.startHost(name)
  }

  /** A host more, or one that is down again. Kept for the next start. */
  async addHost(name: string): Promise<void> {
    if (!this.file.hosts.some(host => host.name === name)) {
      checkHostDirectory(name, this.#options.directory)
      const [port = 0, guestPort = 0] = await findPorts(this.env, this.file.address, PORTS_PER_HOST)
      const host = { name, port, guestPort, memoryBytes: this.#options.memoryBytes }
      const file = { ...this.file, hosts: [...this.file.hosts, host] }
      await writeClusterFile(this.env.files, file)
      this.file = file
    }
    await this.startHost(name)
  }

  async #spawn(program: string, name: string, config: object): Promise<void> {
    const { directory, logLevel, traceLevel, supervise, faults, onEnded } = this.#options
    const launch: Launch = {
      root: directory,
      cluster: this.file.cluster,
      logLevel,
      ...(traceLevel === undefined ? {} : { traceLevel }),
      ...(faults === true ? { faults: faultSwitch(directory, this.file, name) } : {}),
      config: config as unknown as Json,
    }
    const started = new LocalProcess(this.env, program, name, launch, message => this.#hostWanted(message))
    this.#processes.set(name, started)
    this.#launches.set(name, { program, config })
    started.ended.then(ended => {
      if (this.#stopping || started.isStopping) return
      this.env.log.warn({ name, ...ended }, 'a process ended')
      onEnded(name, ended)
      if (name === 'coordinator' && ended.code === EXIT_DEPOSED) {
        // Started again it would only step down again.
        this.#failure = olderState(directory)
        return
      }
      if (!supervise) return
      this.env.timers.after(RESTART_MS, () => {
        if (this.#stopping) return
        this.#spawn(program, name, config).catch((error: unknown) => {
          this.env.log.error({ name, code: errorCode(error) }, `it did not start again: ${errorMessage(error)}`)
        })
      })
    })
    await started.ready.catch((error: unknown) => {
      throw withOwnHint(asCoded(error), name, directory, this.file)
    })
  }

  #hostWanted({ seq, name }: { readonly seq: number; readonly name: string }): void {
    const answer = (error: unknown) =>
      this.#processes
        .get('coordinator')
        ?.send({ kind: 'host-added', seq, name, error: error === null ? null : tellError(error) })
    this.addHost(name).then(() => answer(null), answer)
  }

  /** Guests first, then agents, then the coordinator, then storage: each while what it needs is still there. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#haltGuests()
    const named = (match: (name: string) => boolean) => this.processes.filter(({ name }) => match(name))
    const guardians = named(name => name.endsWith('/guardian'))
    await Promise.all(guardians.map(guardian => guardian.stop(this.env, GUARDIAN_STOP_MS)))
    await Promise.all(named(name => name === 'coordinator').map(p => p.stop(this.env, STOP_MS)))
    await Promise.all(this.processes.map(process => process.stop(this.env, STOP_MS)))
    await this.env.close()
    this.#lock.release()
  }

  /** VMs stay wanted: the next start brings them back. */
  async #haltGuests(): Promise<void> {
    const coordinator = this.#processes.get('coordinator')
    if (coordinator === undefined || coordinator.isEnded) return
    const { env, api } = this
    try {
      await api.post('/v1/cluster/halt')
      const { settings } = (await api.status()).cluster
      const until = env.clock.now() + (settings['stopTimeoutMs'] ?? 0) + HALT_MS
      while (env.clock.now() < until) {
        const { vms, hosts } = await api.status()
        // Where no host answers, nobody can say more of what ran there.
        const left = Object.values(vms).filter(vm => vm.host !== null && hosts[vm.host]?.connected === true)
        if (left.length === 0) return
        await this.sleep(POLL_MS)
      }
      env.log.warn({}, 'some guests did not stop in time: their agents stop them')
    } catch (error) {
      env.log.warn({ code: errorCode(error) }, `the guests were not halted in order: ${errorMessage(error)}`)
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.env.timers.after(ms, resolve)
    })
  }
}

function asCoded(error: unknown): StellwerkError {
  return error instanceof StellwerkError ? error : new StellwerkError(errorCode(error), errorMessage(error))
}

async function takeLock(env: NodeEnvironment, directory: string): Promise<FileLock> {
  try {
    return await env.files.lock(LOCK_FILE)
  } catch (error) {
    if (errorCode(error) !== 'locked') throw error
    throw new StellwerkError('locked', `a cluster already runs there: ${errorMessage(error)}`, {
      where: directory,
      hint: 'see it: npx stellwerk status; end it: npx stellwerk down; or name another directory with --dir',
      cause: error,
    })
  }
}

/** The rules' file says that they are gone by. */
async function readyForFaults(env: NodeEnvironment, faults: boolean): Promise<void> {
  if (!faults) return env.files.remove(RULES_FILE)
  await env.files.makeDirectory(CHAOS_DIRECTORY)
  await env.files.writeAtomic(RULES_FILE, new Uint8Array(0))
}

/** Hosts of a cluster that was made before they had virtual switches get theirs. */
async function withGuestPorts(env: NodeEnvironment, file: ClusterFile): Promise<ClusterFile> {
  const without = file.hosts.filter(host => host.guestPort === undefined)
  if (without.length === 0) return file
  const ports = await findPorts(env, file.address, without.length)
  return {
    ...file,
    hosts: file.hosts.map(host => (host.guestPort === undefined ? { ...host, guestPort: ports.shift() ?? 0 } : host)),
  }
}

async function make(env: NodeEnvironment, options: LocalClusterOptions): Promise<ClusterFile> {
  const ports = await findPorts(env, ADDRESS, portsNeeded(options.hosts))
  return newCluster({
    cluster: `local-${env.random
      .id(8)
      .replace(/[^A-Za-z0-9]/g, 'x')
      .toLowerCase()}`,
    profile: options.profile,
    address: ADDRESS,
    hosts: options.hosts,
    memoryBytes: options.memoryBytes,
    ports,
  })
}
