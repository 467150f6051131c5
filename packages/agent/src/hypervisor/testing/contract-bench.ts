// The bench on which a hypervisor is tested: a world, a disk, a switch for the right to run, the evidence, and a guest that is
// watched. The tests are in contract-life.ts and contract-migration.ts.

import type { Environment, TraceEvent } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { checkEntry, LOG_START, ledgerTag, unitOffset, unitsOf } from '../../guests/ledger-format.ts'
import type {
  Commit,
  Hypervisor,
  Incoming,
  Loaded,
  Machine,
  MachineEvent,
  MachineSpec,
  Outgoing,
} from '../hypervisor.ts'
import type { HypervisorOptions } from '../options.ts'
import { MemoryDisk } from './memory-disk.ts'

export type Load = 'moderate' | 'heavy'

export interface ContractWorld {
  readonly env: Environment
  /** Lets time pass until the predicate holds; says whether it did within the limit. */
  until(predicate: () => boolean, limitMs: number): Promise<boolean>
  close(): Promise<void>
}

export interface ContractSubject {
  readonly name: string
  open(): Promise<ContractWorld>
  hypervisor(options: HypervisorOptions): Hypervisor
  /** A self-checking guest of this hypervisor: moderately busy, or dirtying memory as fast as it can. */
  spec(vm: string, load: Load): MachineSpec
  /** A link that carries this much for each entry the heavy guest acknowledges cannot keep up with it. */
  readonly hopelessBytesPerEntry: number
  /** A request that fails holds its guests up, and they never hear of it. */
  readonly hidesDiskErrors?: true
  /** Its machines have a reset line and a watchdog, and what happens to them is told in its own words. */
  readonly isComputer?: true
  /** A guest in which an agent answers, or something else of that kind (simulated/guest-agent.ts). */
  withAgent?(vm: string, agent: string): MachineSpec
  /** What is waited for comes long before; default LIMIT_MS. */
  readonly limitMs?: number
}

const DISK_BYTES = 4 << 20
const LIMIT_MS = 20_000

/** A machine with what it said. */
export interface Watched {
  readonly machine: Machine
  readonly lines: string[]
  readonly events: MachineEvent[]
  readonly acks: number[]
}

export class ContractBench {
  readonly world: ContractWorld
  readonly hypervisor: Hypervisor
  readonly disk: MemoryDisk
  /** In front of `disk`, where a machine has two. */
  readonly spare: MemoryDisk
  readonly evidence: TraceEvent[] = []
  /** The right to execute. */
  allowed = true
  readonly #subject: ContractSubject
  readonly #machines: Machine[] = []

  constructor(subject: ContractSubject, world: ContractWorld) {
    this.world = world
    this.#subject = subject
    this.disk = new MemoryDisk(world.env.timers, DISK_BYTES)
    this.spare = new MemoryDisk(world.env.timers, DISK_BYTES)
    this.hypervisor = subject.hypervisor({
      env: world.env,
      mayExecute: () => this.allowed,
      until: () => (this.allowed ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY),
      evidence: event => this.evidence.push(event),
    })
  }

  get hidesDiskErrors(): boolean {
    return this.#subject.hidesDiskErrors === true
  }

  async close(): Promise<void> {
    this.disk.failing = null
    this.disk.go()
    await this.settle(Promise.all(this.#machines.splice(0).map(machine => machine.kill())))
    await this.world.close()
  }

  async until(what: string, predicate: () => boolean): Promise<void> {
    if (!(await this.world.until(predicate, this.#subject.limitMs ?? LIMIT_MS)))
      throw new Error(`did not happen in time: ${what}`)
  }

  async pass(ms: number): Promise<void> {
    await this.world.until(() => false, ms)
  }

  async settle<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const done = (): void => {
      settled = true
    }
    promise.then(done, done)
    await this.until('a promise settles', () => settled)
    return promise
  }

  /** How it ends, without waiting for it: only one at a time may let time pass. */
  outcome(promise: Promise<unknown>): Promise<string> {
    return promise.then(
      () => 'no failure',
      error => errorCode(error),
    )
  }

  failure(promise: Promise<unknown>): Promise<string> {
    return this.settle(this.outcome(promise))
  }

  watch(machine: Machine): Watched {
    const watched: Watched = { machine, lines: [], events: [], acks: [] }
    this.#machines.push(machine)
    machine.onEvent(event => {
      watched.events.push(event)
      if (event.kind !== 'console') return
      watched.lines.push(event.line)
      if (event.line.startsWith('ack ')) watched.acks.push(Number(event.line.slice(4)))
    })
    return watched
  }

  async create(load: Load = 'moderate'): Promise<Watched> {
    return this.watch(await this.settle(this.hypervisor.create(this.#subject.spec('vm-1', load), [this.disk], [])))
  }

  /** A computer with two disks, whose guest works on the second, as its parameter says. */
  async createWithTwo(): Promise<Watched> {
    return this.watch(await this.settle(this.hypervisor.create(this.#specOfTwo(), [this.spare, this.disk], [])))
  }

  receiveWithTwo(): Promise<Incoming> {
    return this.settle(this.hypervisor.receive(this.#specOfTwo(), [this.spare, this.disk], []))
  }

  #specOfTwo(): MachineSpec {
    const spec = this.#subject.spec('vm-1', 'moderate')
    return { ...spec, parameters: { ...spec.parameters, disk: 'vdb' } }
  }

  async running(acks = 5, load: Load = 'moderate'): Promise<Watched> {
    const watched = await this.create(load)
    watched.machine.start()
    await this.until(`${acks} entries are acknowledged`, () => watched.acks.length >= acks)
    return watched
  }

  receive(load: Load = 'moderate'): Promise<Incoming> {
    return this.settle(this.hypervisor.receive(this.#subject.spec('vm-1', load), [this.disk], []))
  }

  /** On its way there, so far that it may be switched. */
  async sending(source: Watched, incoming: Incoming): Promise<{ outgoing: Outgoing; loading: Promise<Loaded> }> {
    const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 10, whenDiverging: 'pause' })
    const loading = incoming.load(outgoing.stream)
    // Whoever waits for it hears of it.
    loading.catch(() => undefined)
    await this.settle(outgoing.converged)
    return { outgoing, loading }
  }

  /** Moves it there; `converged` comes in between, before the switch. */
  async move(
    source: Watched,
    incoming: Incoming,
    converged: () => Promise<void> = () => Promise.resolve(),
  ): Promise<Watched> {
    const { outgoing, loading } = await this.sending(source, incoming)
    await converged()
    await this.settle(outgoing.release(async () => null))
    await this.settle(loading)
    return this.watch(await this.settle(incoming.run(this.commit())))
  }

  commit(vm = 'vm-1'): Commit {
    return { migration: 'm-1', vm, placementEpoch: 7 }
  }

  /** How many entries stand on the disk, each once and in order. */
  entriesOnDisk(): number {
    let entries = 0
    let previous = 0
    for (;;) {
      const start = LOG_START + unitOffset(entries + 1) * 512
      const bytes = this.disk.bytes.subarray(start, start + unitsOf(entries + 1) * 512)
      const crc = checkEntry(bytes, entries + 1, ledgerTag('vm-1'), previous)
      if (crc === null) return entries
      entries++
      previous = crc
    }
  }
}

export function consecutive(numbers: readonly number[]): boolean {
  return numbers.every((number, n) => n === 0 || number === numbers[n - 1]! + 1)
}
