// Chaos in the simulator: the shipping code of the whole cluster on simulated machines, in virtual time. The same plan and
// seed give the same run, record by record.

import { assert, present } from '@stellwerk/runtime/assert.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { SimulationFailure } from '@stellwerk/runtime/sim/simulation.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { DurabilityWitness } from '../../simulation/durability.ts'
import { inspectAt } from '../../simulation/inspection.ts'
import { watchLegs } from '../../simulation/mirror-witness.ts'
import { watchReach } from '../../simulation/reach.ts'
import { quiesce } from '../../simulation/run-seed.ts'
import { World } from '../../simulation/world.ts'
import type { Fault } from '../fault.ts'
import type { ChaosCluster, ChaosSetup, ChaosTarget } from '../target.ts'
import { beginSimFault, findsNothing, healWorld, simRefuses } from './sim-faults.ts'
import { createVm, VOLUME, vmNames, volumeBytes } from './sim-volume.ts'

const SETUP_MS = 30_000
const HOST_MEMORY_BYTES = 64 * GIB
/** Records of one run, all kept in memory: some 800 a second. An hour of a few guests has fewer. */
const RECORDS_MAX = 5_000_000

export class SimTarget implements ChaosTarget {
  readonly kind = 'sim'
  readonly isTimeless = true
  readonly #cluster: ChaosCluster
  readonly #records: { readonly record: TraceRecord; readonly at: number }[] = []
  readonly #inForce = new Map<number, { readonly fault: Fault; readonly end: () => void }>()
  /** By storage. */
  readonly #luns = new Map<string, string>()
  readonly #onRecord: ((record: TraceRecord, now: number) => void) | null
  #world: World | null = null
  #random = new SimRandom('chaos')
  #canary: string | null = null
  #startedAt = 0
  #vms: readonly string[] = []
  volumeBytes = 0

  /** `onRecord` hears each record as it is made. */
  constructor(cluster: ChaosCluster, onRecord?: (record: TraceRecord, now: number) => void) {
    this.#cluster = cluster
    this.#onRecord = onRecord ?? null
  }

  refuses(fault: Fault): StellwerkError | null {
    return simRefuses(fault, this.#cluster.storages.length)
  }

  async setUp({
    seed,
    cluster,
    workload,
    canary,
  }: ChaosSetup): Promise<ChaosCluster & { readonly vms: readonly string[] }> {
    assert(this.#world === null, 'a target is set up once')
    if (canary !== undefined) {
      canaries.add(canary)
      this.#canary = canary
    }
    this.#random = new SimRandom(`chaos/${seed}/sim`)
    this.volumeBytes = volumeBytes(workload)
    const { hosts, storages } = cluster
    const world = new World({
      seed: `chaos/${seed}`,
      hosts,
      storages,
      settings: {},
      hostMemoryBytes: HOST_MEMORY_BYTES,
    })
    this.#world = world
    // Before the witnesses: they see what is there when they speak.
    world.sim.onRecord(record => this.#keep(record))
    new DurabilityWitness(world, this.volumeBytes)
    watchReach(world)
    watchLegs(world)
    world.start()
    const known = () => world.coordinator?.state
    await this.#reached(() => hosts.every(host => known()?.hosts.get(host)?.phase === 'admitted'), 'its hosts')
    world.command({
      kind: 'volume-create',
      name: VOLUME,
      id: `volume-${VOLUME}`,
      sizeBytes: this.volumeBytes,
      storages,
    })
    this.#vms = vmNames(workload)
    for (const vm of this.#vms) world.command(createVm(vm, workload))
    await this.#reached(() => this.#vms.every(vm => known()?.vms.get(vm)?.placement?.phase === 'running'), 'its VMs')
    for (const { storage, lun } of known()?.volumes.get(VOLUME)?.legs ?? []) this.#luns.set(storage, lun)
    this.#startedAt = world.sim.now
    return { hosts, storages, vms: this.#vms }
  }

  now(): number {
    return this.#world === null ? 0 : this.#world.sim.now - this.#startedAt
  }

  async until(atMs: number, stop: () => boolean): Promise<void> {
    const left = atMs - this.now()
    if (left > 0) await this.#simulate(sim => sim.runUntil(stop, left))
  }

  async inject(fault: Fault): Promise<void> {
    await this.#inside(world => {
      this.#say('fault.begun', fault)
      const idle = (): void => world.sim.emit({ level: 'decision', kind: 'fault.idle', body: { id: fault.id } })
      if (findsNothing(world, fault)) {
        idle()
        return
      }
      const random = this.#random.fork(`fault/${fault.id}`)
      const end = beginSimFault(world, fault, { random, lunOn: storage => this.#luns.get(storage) ?? null, idle })
      this.#inForce.set(fault.id, { fault, end })
    })
  }

  async heal(fault: Fault): Promise<void> {
    await this.#inside(() => {
      this.#inForce.get(fault.id)?.end()
      this.#inForce.delete(fault.id)
      this.#say('fault.ended', fault)
    })
  }

  migrate(vm: string): Promise<string | null> {
    const world = this.#there
    return new Promise(resolve => {
      world.sim.after(0, () => {
        const id = this.#random.id()
        world.command({ kind: 'vm-migrate', name: vm, to: null, id }, ({ ok, code }) => resolve(ok ? null : code))
      })
    })
  }

  async healAll(withinMs: number): Promise<void> {
    await this.#inside(world => {
      for (const { fault, end } of this.#inForce.values()) {
        end()
        this.#say('fault.ended', fault)
      }
      this.#inForce.clear()
      healWorld(world)
      world.sim.emit({ level: 'decision', kind: 'faults.ended', body: { withinMs, vms: [...this.#vms] } })
      inspectAt(world, withinMs)
    })
  }

  async finish(): Promise<readonly string[]> {
    try {
      await quiesce(this.#there, () => false)
      return []
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error
      return [error.message]
    }
  }

  async *records(): AsyncGenerator<{ readonly record: TraceRecord; readonly now: number }> {
    for (const { record, at } of this.#records) yield { record, now: at - this.#startedAt }
  }

  traceHash(): string {
    return this.#there.sim.traceHash()
  }

  async close(): Promise<void> {
    if (this.#canary !== null) canaries.delete(this.#canary)
    this.#records.length = 0
  }

  get #there(): World {
    return present(this.#world, 'the world, after set-up')
  }

  #keep(record: TraceRecord): void {
    assert(this.#records.length < RECORDS_MAX, `at most ${RECORDS_MAX} records of a run`)
    this.#records.push({ record, at: this.#there.sim.now })
    this.#onRecord?.(record, this.#there.sim.now)
  }

  #say(kind: string, fault: Fault): void {
    const { id, kind: what, ...more } = fault
    const host = fault.host === undefined ? {} : { host: fault.host }
    this.#there.sim.emit({ level: 'decision', kind, ...host, body: { id, fault: what, ...more } })
  }

  async #reached(predicate: () => boolean, what: string): Promise<void> {
    if (await this.#simulate(sim => sim.runUntil(predicate, SETUP_MS))) return
    throw new StellwerkError('not-set-up', `the cluster has not got ${what} within ${SETUP_MS / 1_000} s`, {
      where: 'the simulator',
      hint: 'with a smaller workload it should',
    })
  }

  /** Runs it in an event of the simulation, as everything that happens to the world is. */
  async #inside(f: (world: World) => void): Promise<void> {
    let done = false
    const world = this.#there
    world.sim.after(0, () => {
      f(world)
      done = true
    })
    await this.#simulate(sim => sim.runUntil(() => done, 1))
  }

  /** A bug that came to light ends the run: it is what was found. */
  async #simulate<T>(run: (sim: World['sim']) => Promise<T>): Promise<T> {
    try {
      return await run(this.#there.sim)
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error
      throw new StellwerkError('simulation-failed', error.stack ?? error.message, { cause: error })
    }
  }
}
