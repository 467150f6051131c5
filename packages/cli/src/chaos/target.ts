// What a chaos plan runs against. A target makes the cluster and its workload, breaks what it is told to and puts it right
// again; it judges nothing: what happened is in the records it gives, judged alike for all targets.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Fault } from './fault.ts'

export interface ChaosCluster {
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
}

/** Self-checking guests (`ledger`), spread over the hosts, on a mirrored volume where there are two storages. */
export interface ChaosWorkload {
  readonly vms: number
  readonly memoryBytes: number
  readonly dirtyBytesPerSecond: number
  readonly writesPerSecond: number
}

export interface ChaosSetup {
  /** Of everything that the target draws. */
  readonly seed: string
  readonly cluster: ChaosCluster
  readonly workload: ChaosWorkload
  /** A planted bug, by name, for proving that a broken build is found; see simulation/canaries.ts. */
  readonly canary?: string
  /** The user has had enough: what waits gives up, with `interrupted`. */
  readonly stop?: () => boolean
}

/** Throws `interrupted` where the user has had enough. */
export function demandPatience({ stop }: Pick<ChaosSetup, 'stop'>): void {
  if (stop?.() !== true) return
  throw new StellwerkError('interrupted', 'the run was interrupted before it began', { hint: 'nothing was broken yet' })
}

export interface ChaosTarget {
  readonly kind: 'sim' | 'local' | 'compose'
  /** The simulator's alone: what is done to it takes none of its time, and only one thing is done at once. */
  readonly isTimeless?: boolean
  /** The simulator's alone: how large its volume is, once set up, for rules that look at where writes land. */
  readonly volumeBytes?: number
  /** The simulator's alone: the same plan and seed have the same. */
  traceHash?(): string
  /** Of real processes: where their logs and traces are, once set up. */
  readonly directory?: string | null
  /** Why this target can't do that fault (code `fault-unsupported`); null if it can. Asked before anything is started. */
  refuses(fault: Fault): StellwerkError | null
  /** Cluster up, volume and guests made, all of them running. Gives the names that are really there. */
  setUp(setup: ChaosSetup): Promise<ChaosCluster & { readonly vms: readonly string[] }>
  /** Milliseconds since the workload ran, on the target's clock: simulated time in the simulator. */
  now(): number
  /** Until `now()` is `atMs`, or until `stop` says so. */
  until(atMs: number, stop: () => boolean): Promise<void>
  inject(fault: Fault): Promise<void>
  heal(fault: Fault): Promise<void>
  /** Asks for a live migration of a VM to any host that can have it; a refusal is no failure and is told as text. */
  migrate(vm: string): Promise<string | null>
  /** Everything broken is whole again (`fault.ended` of what still was); demands that all guests make progress `withinMs` from now (record `faults.ended`). */
  healAll(withinMs: number): Promise<void>
  /** Guests, hosts, storage stopped in order; what the target itself found wrong by looking at what is left (a leg that differs). */
  finish(): Promise<readonly string[]>
  /**
   * All records of the run merged in an order that respects cause and effect, with `fault.begun` and `fault.ended` (body:
   * `{id, fault, host?, …}`), `guest.acknowledged` and `guest.recovered` as an observer outside the hosts heard them, and the
   * instant of each on the clock of `now()`. After `finish`.
   */
  records(): AsyncIterable<{ readonly record: TraceRecord; readonly now: number }>
  /** Ends what still runs, whatever state it is in; called at most once, also after a failure. */
  close(): Promise<void>
}
