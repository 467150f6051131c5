// A chaos plan's target made of containers: the project of docker-compose.yml under a name of its own, guests on a mirrored volume,
// and an observer on this machine, which hears the agents over the guests' network. Only where the engine runs on this machine.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FileLock, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { ApiClient } from '../../api-client/client.ts'
import { filesOf } from '../../cluster/directory.ts'
import { VOLUME } from '../../cluster/first-use.ts'
import { findPorts } from '../../cluster/ports.ts'
import { STORAGES } from '../../container/layout.ts'
import { writeObserved } from '../../observer/observed-trace.ts'
import { Observer } from '../../observer/observer.ts'
import type { Fault } from '../fault.ts'
import { notWhole } from '../local/whole.ts'
import {
  askToMigrate,
  beginFault,
  endFault,
  processesOf,
  recordsOf,
  refuseCanary,
  SCRATCH_PREFIX,
} from '../run-records.ts'
import { type ChaosCluster, type ChaosSetup, type ChaosTarget, demandPatience } from '../target.ts'
import { ledgerVm, vmNamesOf, volumeBytesOf } from '../workload.ts'
import { readBackAll, scrubAll } from './audit.ts'
import { ComposeBreaker } from './compose-breaker.ts'
import { refusedByContainers } from './compose-faults.ts'
import { attachmentsOf, clusterOf, containerOf, containersOf } from './containers.ts'
import { COMPOSE_FILE, Docker, hasNetem } from './docker.ts'
import { RUN_LOCK } from './running-project.ts'

const FILE = fileURLToPath(new URL('../../../../../docker-compose.yml', import.meta.url))
/** Of a host besides its guests. */
const PROCESSES_MIB = 512
const SPARE_MEMORY_BYTES = 64 * MIB
/** The image may have to be made. */
const STARTS_MS = 600_000
const WHOLE_MS = 120_000
const POLL_MS = 100
const AGENT_PORT = 7_420
const STATE = '/var/lib/stellwerk'
/** What is copied out of the containers, as a cluster's directory has it. */
const TRACES = 'traces'
/** The project's. */
const CLUSTER = 'stellwerk'
const LOGS = 'logs'

export interface ComposeTargetOptions {
  /** Default: one that nobody has. */
  readonly project?: string
  /** Asked at the end: whether traces stay, for a look at them. Default: they go; the containers always do. */
  readonly keep?: () => boolean
  readonly say?: (line: string) => void
}

interface Running {
  readonly breaker: ComposeBreaker
  readonly api: ApiClient
  readonly observer: Observer
  readonly vms: readonly string[]
  startedAt: number
}

export class ComposeTarget implements ChaosTarget {
  readonly kind = 'compose'
  readonly directory: string
  readonly project: string
  readonly #docker: Docker
  readonly #hasNetem: boolean
  readonly #env: NodeEnvironment
  readonly #options: ComposeTargetOptions
  readonly #lock: FileLock
  #isBegun = false
  #running: Running | null = null
  #stop: () => boolean = () => false
  #isCopied = false
  #environment: readonly string[] = []
  /** Where each host is heard. */
  readonly #followed = new Map<string, string>()
  #following: Promise<void> = Promise.resolve()

  /** Throws `no-docker`. */
  static async open(options: ComposeTargetOptions = {}): Promise<ComposeTarget> {
    const directory = await makeScratchDirectory(SCRATCH_PREFIX)
    const env = createEnvironment({ name: 'chaos', directory, store: memoryStore(), logLevel: 'silent' })
    try {
      const docker = await Docker.find(env)
      // Released by this process's end: then `chaos heal` may put right what it has left.
      const lock = await env.files.lock(RUN_LOCK)
      return new ComposeTarget(options, directory, env, docker, await hasNetem(docker), lock)
    } catch (error) {
      await env.close()
      await removeScratchDirectory(directory)
      throw error
    }
  }

  private constructor(
    options: ComposeTargetOptions,
    directory: string,
    env: NodeEnvironment,
    docker: Docker,
    netem: boolean,
    lock: FileLock,
  ) {
    this.#lock = lock
    this.#options = options
    this.#env = env
    this.#docker = docker
    this.#hasNetem = netem
    this.directory = directory
    this.project =
      options.project ??
      `swk-chaos-${env.random
        .id(6)
        .replace(/[^A-Za-z0-9]/g, 'x')
        .toLowerCase()}`
  }

  refuses(fault: Fault): StellwerkError | null {
    return refusedByContainers(fault, this.#hasNetem)
  }

  async setUp(setup: ChaosSetup): Promise<ChaosCluster & { readonly vms: readonly string[] }> {
    const { cluster, workload, canary, stop } = setup
    refuseCanary(canary)
    this.#stop = () => stop?.() === true
    const memoryMiB = Math.ceil((workload.vms * workload.memoryBytes + SPARE_MEMORY_BYTES) / MIB)
    // One that stays when the coordinator's container is started again.
    const [port = 0] = await findPorts(this.#env, '127.0.0.1', 1)
    this.#environment = [
      ...[`STELLWERK_API_PORT=${port}`, `STELLWERK_MEMORY=${memoryMiB}MiB`, 'STELLWERK_TRACE=io'],
      // One host may have to take all guests, and the engine is not to end it for that.
      `STELLWERK_AGENT_LIMIT=${memoryMiB + PROCESSES_MIB}m`,
    ]
    const files = this.#env.files
    await files.makeDirectory('chaos')
    await files.writeAtomic(COMPOSE_FILE, Buffer.from(JSON.stringify({ project: this.project })))
    this.#isBegun = true
    this.#options.say?.(`compose project ${this.project}: building and starting`)
    // Without `guests`: what they do is the plan's.
    await this.#compose('up', '-d', '--build', '--scale', `agent=${cluster.hosts.length}`, 'coordinator', 'agent')
    demandPatience(setup)
    const breaker = await ComposeBreaker.open({
      docker: this.#docker,
      project: this.project,
      hasNetem: this.#hasNetem,
      files,
      clock: this.#env.clock,
      sleep: ms => this.#sleep(ms),
    })
    const api = new ApiClient({ host: '127.0.0.1', port, token: await this.#secret('api-token') })
    const join = await this.#secret('join-token')
    const observer = new Observer({ env: this.#env, cluster: CLUSTER, token: join })
    const vms = vmNamesOf(workload)
    const running: Running = { breaker, api, observer, vms, startedAt: 0 }
    this.#running = running
    demandPatience(setup)
    const { hosts } = breaker.cluster
    await this.#untilHolds('every host is up and reaches the storages', async () => {
      const status = await api.status()
      return hosts.every(host => {
        const view = status.hosts[host]
        return view?.state === 'up' && STORAGES.every(storage => view.storages.includes(storage))
      })
    })
    const storages = cluster.storages.length < STORAGES.length ? STORAGES.slice(0, 1) : STORAGES
    await api.post('/v1/volumes', { name: VOLUME, sizeBytes: volumeBytesOf(workload), storages })
    await this.#untilHolds('the volume serves', async () => {
      const volume = (await api.status()).volumes[VOLUME]
      return volume?.state === 'serving' && volume.legs.every(({ role }) => role === 'in-sync')
    })
    await this.#follow(running)
    await this.#untilHolds('the observer hears every host', async () => observer.answered.size === hosts.length)
    for (const [i, name] of vms.entries()) {
      await api.post('/v1/vms', ledgerVm(workload, { name, volume: VOLUME, host: hosts[i % hosts.length] ?? null }))
    }
    await this.#untilHolds('every guest works', async () => vms.every(vm => observer.ledger(vm).last !== null))
    // From here on the run itself ends, and heals, in order.
    this.#stop = () => false
    running.startedAt = this.#env.clock.now()
    return { ...breaker.cluster, vms }
  }

  now(): number {
    return this.#env.clock.now() - this.#up().startedAt
  }

  async until(atMs: number, stop: () => boolean): Promise<void> {
    while (!stop() && this.now() < atMs) await this.#sleep(Math.min(POLL_MS, Math.max(0, atMs - this.now())))
  }

  async inject(fault: Fault): Promise<void> {
    const { breaker, observer } = this.#up()
    await beginFault(fault, observer, breaker, this.#options.say)
  }

  async heal(fault: Fault): Promise<void> {
    const running = this.#up()
    await running.breaker.heal(fault.id)
    endFault(fault, running.observer)
    await this.#follow(running)
  }

  migrate(vm: string): Promise<string | null> {
    return askToMigrate(this.#up().api, vm)
  }

  async healAll(withinMs: number): Promise<void> {
    const running = this.#up()
    const { breaker, observer, vms } = running
    const open = await breaker.journal.read()
    const [left] = await breaker.healAll()
    for (const { fault } of open) endFault(fault, observer)
    if (left !== undefined) {
      throw new StellwerkError('not-healed', `${left.broken.fault.kind}: ${left.why}`, { where: this.project })
    }
    await this.#follow(running)
    observer.faultsEnded(withinMs, vms)
  }

  /** Looked at while it serves: what storages keep lies in the engine's volumes. */
  async finish(): Promise<readonly string[]> {
    const running = this.#up()
    const { api, observer, vms } = running
    const found: string[] = []
    const { clock } = this.#env
    for (const until = clock.now() + WHOLE_MS; ; await this.#sleep(POLL_MS)) {
      const wrong = await notWhole(api)
      if (wrong.length > 0 && clock.now() < until) continue
      found.push(...wrong)
      break
    }
    await this.#follow(running)
    const sleep = (ms: number) => this.#sleep(ms)
    found.push(...(await readBackAll({ api, clock, sleep, observer, vms })))
    found.push(...(await scrubAll({ api, clock, sleep })))
    if (observer.overflowed) found.push('the observer heard more than it keeps')
    observer.stop()
    await this.#compose('stop', '-t', '60')
    await this.#copyTraces(running.breaker.cluster)
    return found
  }

  records(): AsyncIterable<{ readonly record: TraceRecord; readonly now: number }> {
    const { breaker, observer, startedAt } = this.#up()
    return recordsOf(filesOf(this.directory), TRACES, breaker.cluster, observer, startedAt)
  }

  async close(): Promise<void> {
    // In the middle of its set-up: there is nothing to look at, and the user waits.
    const isGivenUp = this.#stop()
    this.#stop = () => false
    this.#running?.observer.stop()
    try {
      if (this.#isBegun) {
        await this.#unpaused()
        if (this.#options.keep?.() === true && !isGivenUp) await this.#keepEvidence()
        await this.#compose('down', '-v', '-t', '10')
      }
    } finally {
      this.#lock.release()
      await this.#env.close()
      if (this.#options.keep?.() !== true) await removeScratchDirectory(this.directory)
    }
  }

  /** What stands still can't be ended; of all else that is broken nothing is left when the containers are gone. */
  async #unpaused(): Promise<void> {
    try {
      await this.#running?.breaker.healAll()
    } catch (error) {
      this.#options.say?.(`not all was healed before the containers went: ${describeError(error)}`)
    }
  }

  /** An agent that is back has another address, perhaps. Heard over the guests' network, which heartbeats don't need. */
  #follow(running: Running): Promise<void> {
    // One after the other: heals that end together must not leave what the slower one saw earlier.
    const next = this.#following.then(() => this.#followAll(running))
    this.#following = next.catch(() => undefined)
    return next
  }

  async #followAll({ observer, breaker }: Running): Promise<void> {
    const containers = await containersOf(this.#docker, this.project)
    const followed: { name: string; control: { network: 'cluster'; host: string; port: number } }[] = []
    for (const host of breaker.cluster.hosts) {
      const attached = await attachmentsOf(this.#docker, this.project, containerOf(containers, host).name)
      const address = attached.get('guest')?.address ?? ''
      if (address === '') continue
      const known = this.#followed.get(host)
      // By its name alone a follower would go on asking at the old address.
      if (known !== undefined && known !== address) observer.follow(followed)
      this.#followed.set(host, address)
      followed.push({ name: host, control: { network: 'cluster', host: address, port: AGENT_PORT } })
    }
    observer.follow(followed)
  }

  async #copyTraces(cluster: ChaosCluster): Promise<void> {
    if (this.#isCopied) return
    const containers = await containersOf(this.#docker, this.project)
    for (const process of processesOf(cluster)) {
      const container = containerOf(containers, process.split('/')[0] ?? process)
      await this.#env.files.makeDirectory(join(TRACES, process))
      const to = this.#env.files.locate(join(TRACES, process))
      await this.#docker.run('cp', `${container.name}:${STATE}/${process}/trace`, to)
    }
    const observer = this.#running?.observer
    if (observer !== undefined) writeObserved(this.#env.files.locate(TRACES), CLUSTER, observer)
    this.#isCopied = true
  }

  /** With the containers goes all that they have said and put on record. What can't be had is told, and keeps nothing else. */
  async #keepEvidence(): Promise<void> {
    const { files } = this.#env
    const trying = async (what: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work()
      } catch (error) {
        this.#options.say?.(`${what} could not be kept: ${describeError(error)}`)
      }
    }
    await trying('what containers have said', async () => {
      await files.makeDirectory(LOGS)
      for (const { name } of await containersOf(this.#docker, this.project)) {
        const { output, errors } = await this.#docker.try('docker', 'logs', name)
        await files.writeAtomic(join(LOGS, `${name}.log`), Buffer.from(output + errors))
      }
    })
    await trying('the traces', async () => {
      if (this.#isCopied) return
      await this.#compose('stop', '-t', '60')
      await this.#copyTraces(clusterOf(await containersOf(this.#docker, this.project)))
    })
  }

  async #secret(file: string): Promise<string> {
    const { name } = containerOf(await containersOf(this.#docker, this.project), 'coordinator')
    return (await this.#docker.run('exec', name, 'cat', `/run/stellwerk/${file}`)).trim()
  }

  #compose(...words: string[]): Promise<string> {
    const all = [...this.#docker.compose, '-p', this.project, '-f', FILE, ...words]
    return this.#docker.mustInTime(this.#stop, 'env', ...this.#environment, ...all)
  }

  async #untilHolds(what: string, holds: () => Promise<boolean>): Promise<void> {
    const { clock } = this.#env
    let why = ''
    for (const until = clock.now() + STARTS_MS; clock.now() < until; await this.#sleep(POLL_MS)) {
      demandPatience({ stop: this.#stop })
      try {
        if (await holds()) return
      } catch (error) {
        why = describeError(error)
      }
    }
    throw new StellwerkError('not-healthy', `waited ${STARTS_MS / 1_000} s in vain: ${what} ${why}`, {
      where: this.project,
      hint: 'see what its containers said',
    })
  }

  #sleep(ms: number): Promise<void> {
    return new Promise(resolve => this.#env.timers.after(ms, resolve))
  }

  #up(): Running {
    if (this.#running !== null) return this.#running
    throw new StellwerkError('not-set-up', 'the cluster was not brought up')
  }
}
