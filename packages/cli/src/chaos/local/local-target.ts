// A chaos plan's target made of real processes on this machine: a cluster in a directory of its own, guests on a mirrored volume,
// an observer outside all hosts. Everything broken is in the directory's journal, so that `chaos heal` can put it right when
// this process is gone.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isStillRunning, type RecordedProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { filesOf } from '../../cluster/directory.ts'
import { demandAll, untilHostsUp, VOLUME } from '../../cluster/first-use.ts'
import { LocalCluster } from '../../cluster/local-cluster.ts'
import { writeObserved } from '../../observer/observed-trace.ts'
import { Observer } from '../../observer/observer.ts'
import type { Fault } from '../fault.ts'
import { askToMigrate, beginFault, endFault, recordsOf, refuseCanary, SCRATCH_PREFIX } from '../run-records.ts'
import { type ChaosCluster, type ChaosSetup, type ChaosTarget, demandPatience } from '../target.ts'
import { ledgerVm, vmNamesOf, volumeBytesOf } from '../workload.ts'
import { aftermath } from './aftermath.ts'
import { Breaker } from './breaker.ts'
import { hostProcesses } from './node-processes.ts'
import { refusal } from './rules-of.ts'
import { notWhole } from './whole.ts'

const PROFILE = 'lab'
/** A host takes all of the guests, should it be the last one. */
const SPARE_MEMORY_BYTES = 64 * MIB
const STARTS_MS = 60_000
const POLL_MS = 10
const STATUS_POLL_MS = 50
/** So long everything is waited for that was started again. */
const WHOLE_MS = 60_000

export interface LocalTargetOptions {
  /** Default: one below the system's directory for temporary files. */
  readonly directory?: string
  /** Asked at the end: whether the directory stays, for a look at its traces and logs. Default: it goes. */
  readonly keep?: () => boolean
  readonly say?: (line: string) => void
}

export class LocalTarget implements ChaosTarget {
  readonly kind = 'local'
  readonly #options: LocalTargetOptions
  #running: Running | null = null
  #directory: string | null = null
  #finished = false
  #isObservedKept = false

  constructor(options: LocalTargetOptions = {}) {
    this.#options = options
  }

  /** The cluster's; null before `setUp`. */
  get directory(): string | null {
    return this.#directory
  }

  refuses(fault: Fault): StellwerkError | null {
    return refusal(fault)
  }

  async setUp(setup: ChaosSetup): Promise<ChaosCluster & { readonly vms: readonly string[] }> {
    refuseCanary(setup.canary)
    const directory = this.#options.directory ?? (await makeScratchDirectory(SCRATCH_PREFIX))
    this.#directory = directory
    const cluster = await LocalCluster.open({
      directory,
      hosts: setup.cluster.hosts.length,
      memoryBytes: setup.workload.vms * setup.workload.memoryBytes + SPARE_MEMORY_BYTES,
      profile: PROFILE,
      supervise: false,
      logLevel: 'info',
      traceLevel: 'io',
      faults: true,
      onEnded: () => undefined,
    })
    const { env } = cluster
    const breaker = new Breaker({
      directory,
      files: filesOf(directory),
      clock: env.clock,
      sleep: ms => cluster.sleep(ms),
      cluster: () => cluster.file,
      api: () => cluster.api,
      start: async nodes => {
        for (const node of nodes) await cluster.startNode(node)
      },
    })
    const observer = new Observer({ env, cluster: cluster.file.cluster, token: cluster.tokens.join })
    const vms = vmNamesOf(setup.workload)
    const running: Running = { cluster, breaker, observer, vms, agents: [], startedAt: 0 }
    this.#running = running
    const failed = await cluster.start()
    demandAll([...failed].map(([name, error]) => `${name}: ${error.message}`))
    demandAll(await untilHostsUp(cluster))
    demandPatience(setup)
    const storages = breaker.cluster.storages.slice(0, setup.cluster.storages.length)
    await makeVolume(running, storages, setup)
    await startGuests(running, setup)
    this.#noteAgents(running)
    running.startedAt = env.clock.now()
    return { ...breaker.cluster, vms }
  }

  now(): number {
    const { cluster, startedAt } = this.#up()
    return cluster.env.clock.now() - startedAt
  }

  async until(atMs: number, stop: () => boolean): Promise<void> {
    const { cluster } = this.#up()
    while (!stop() && this.now() < atMs) await cluster.sleep(Math.min(POLL_MS, Math.max(0, atMs - this.now())))
  }

  async inject(fault: Fault): Promise<void> {
    const { breaker, observer } = this.#up()
    this.#noteAgents(this.#up())
    await beginFault(fault, observer, breaker, this.#options.say)
  }

  async heal(fault: Fault): Promise<void> {
    const { breaker, observer } = this.#up()
    await breaker.heal(fault.id)
    endFault(fault, observer)
    this.#noteAgents(this.#up())
  }

  migrate(vm: string): Promise<string | null> {
    return askToMigrate(this.#up().cluster.api, vm)
  }

  async healAll(withinMs: number): Promise<void> {
    const { breaker, observer, cluster, vms } = this.#up()
    const open = await breaker.journal.read()
    const left = await breaker.healAll()
    for (const { fault } of open) endFault(fault, observer)
    for (const node of ['coordinator', ...breaker.cluster.storages, ...breaker.cluster.hosts]) {
      await cluster.startNode(node)
    }
    const [first] = left
    if (first !== undefined) {
      throw new StellwerkError('not-healed', `${first.broken.fault.kind}: ${first.why}`, {
        where: this.#directory ?? '',
      })
    }
    this.#noteAgents(this.#up())
    observer.faultsEnded(withinMs, vms)
  }

  async finish(): Promise<readonly string[]> {
    const running = this.#up()
    const { cluster, observer, vms, agents } = running
    const late = await this.#untilWhole()
    this.#noteAgents(running)
    await cluster.stop()
    observer.stop()
    this.#finished = true
    this.#keepObserved(running)
    const left = [
      ...cluster.processes.filter(({ isEnded }) => !isEnded).map(({ name, pid }) => `${name} (${pid})`),
      ...agents.filter(isStillRunning).map(({ name, pid }) => `${name} (${pid})`),
    ]
    return [
      ...late,
      ...left.map(process => `${process} still runs after the end`),
      ...(observer.overflowed ? ['the observer heard more than it keeps'] : []),
      ...(await aftermath(
        this.#directory ?? '',
        VOLUME,
        vms.map(vm => observer.ledger(vm)),
      )),
    ]
  }

  records(): AsyncIterable<{ readonly record: TraceRecord; readonly now: number }> {
    const { breaker, observer, startedAt } = this.#up()
    return recordsOf(filesOf(this.#directory ?? ''), '.', breaker.cluster, observer, startedAt)
  }

  async close(): Promise<void> {
    const running = this.#running
    try {
      if (running !== null && !this.#finished) {
        running.observer.stop()
        const left = await running.breaker.healAll()
        for (const { broken, why } of left) this.#options.say?.(`${broken.fault.kind} was not healed: ${why}`)
        await this.#stop(running.cluster)
        if (this.#options.keep?.() === true) this.#keepObserved(running)
      }
    } finally {
      const keep = this.#options.keep?.() ?? false
      if (this.#directory !== null && this.#options.directory === undefined && !keep) {
        await removeScratchDirectory(this.#directory)
      }
    }
  }

  #keepObserved({ cluster, observer }: Running): void {
    if (this.#isObservedKept) return
    this.#isObservedKept = true
    writeObserved(this.#directory ?? '', cluster.file.cluster, observer)
  }

  async #stop(cluster: LocalCluster): Promise<void> {
    if (!cluster.isStopping) await cluster.stop()
  }

  /** What is not as it should be when nothing is broken any more and everything had its time. */
  async #untilWhole(): Promise<string[]> {
    const { cluster } = this.#up()
    const { clock } = cluster.env
    for (const until = clock.now() + WHOLE_MS; ; await cluster.sleep(STATUS_POLL_MS)) {
      const wrong = await notWhole(cluster.api)
      if (wrong.length === 0 || clock.now() > until) return wrong
    }
  }

  /** To see at the end that none of them is left. */
  #noteAgents(running: Running): void {
    const known = new Set(running.agents.map(({ pid }) => pid))
    for (const host of running.breaker.cluster.hosts) {
      const { agent, programs } = hostProcesses(this.#directory ?? '', host)
      running.agents.push(...[...agent, ...programs].filter(({ pid }) => !known.has(pid)))
    }
  }

  #up(): Running {
    if (this.#running !== null) return this.#running
    throw new StellwerkError('not-set-up', 'the cluster was not brought up')
  }
}

interface Running {
  readonly cluster: LocalCluster
  readonly breaker: Breaker
  readonly observer: Observer
  readonly vms: readonly string[]
  readonly agents: RecordedProcess[]
  startedAt: number
}

async function makeVolume({ cluster }: Running, storages: readonly string[], setup: ChaosSetup): Promise<void> {
  await cluster.api.post('/v1/volumes', { name: VOLUME, sizeBytes: volumeBytesOf(setup.workload), storages })
  await untilStatus(cluster, setup, 'the volume serves', async () => {
    const { volumes } = await cluster.api.status()
    const volume = volumes[VOLUME]
    return volume?.state === 'serving' && volume.legs.every(({ role }) => role === 'in-sync')
  })
}

async function startGuests(running: Running, setup: ChaosSetup): Promise<void> {
  const { workload } = setup
  const { cluster, observer, vms } = running
  const { hosts, address } = cluster.file
  observer.follow(hosts.map(({ name, port }) => ({ name, control: { network: 'cluster', host: address, port } })))
  await untilStatus(
    cluster,
    setup,
    'the observer follows every host',
    async () => observer.answered.size === hosts.length,
  )
  for (const [i, name] of vms.entries()) {
    await cluster.api.post(
      '/v1/vms',
      ledgerVm(workload, { name, volume: VOLUME, host: hosts[i % hosts.length]?.name ?? null }),
    )
  }
  await untilStatus(cluster, setup, 'every guest works', async () => vms.every(vm => observer.ledger(vm).last !== null))
}

async function untilStatus(
  cluster: LocalCluster,
  setup: ChaosSetup,
  what: string,
  holds: () => Promise<boolean>,
): Promise<void> {
  const { clock } = cluster.env
  for (const until = clock.now() + STARTS_MS; !(await holds()); await cluster.sleep(STATUS_POLL_MS)) {
    demandPatience(setup)
    if (clock.now() > until) {
      throw new StellwerkError('not-healthy', `waited ${STARTS_MS / 1_000} s in vain: ${what}`, {
        hint: 'see the logs',
      })
    }
  }
}
