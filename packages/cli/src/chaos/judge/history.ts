// What happened in a run, gathered from its records alone: where each VM ran and when, what it acknowledged, which faults
// were in force, how migrations and failovers went. The objectives and the report's picture are made of it.

import { hostOfGuests } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { hitBy } from '../describe-fault.ts'
import type { Fault, FaultKind } from '../fault.ts'

export interface FaultSpan {
  readonly id: number
  readonly kind: FaultKind
  /** The host it hit, where it hit one. */
  readonly host: string | null
  /** Whom or what it hit, for people. */
  readonly on: string
  readonly from: number
  /** Null: it never ended. */
  to: number | null
}

/** One instance of a VM, from its first instruction to its last. */
export interface RunSpan {
  readonly host: string
  readonly instance: string
  readonly from: number
  to: number | null
}

export interface Pause {
  readonly vm: string
  readonly migration: string | null
  readonly from: number
  readonly to: number
}

export interface Failover {
  readonly vm: string
  readonly from: string
  readonly to: string
  readonly attested: boolean
  /** When it was decided. */
  readonly at: number
}

export class VmHistory {
  readonly runs: RunSpan[] = []
  /** The instants of its acknowledged entries, in order. */
  readonly acknowledged: number[] = []
}

/** Of migrations that were released and not heard of again. */
const RELEASED_MAX = 1_000

export class History {
  readonly faults: FaultSpan[] = []
  /** Those that found what they were to hit down already, or nothing to hit: by number. */
  readonly idle = new Set<number>()
  readonly vms = new Map<string, VmHistory>()
  readonly pauses: Pause[] = []
  readonly failovers: Failover[] = []
  migrationsCommitted = 0
  /** The longest that any host was granted, ms; 0: none was. */
  leaseMs = 0
  /** The end of the faults, and how long what should run may take then; null: the run did not come that far. */
  ended: { readonly at: number; readonly withinMs: number } | null = null
  /** Of the last record. */
  last = 0
  records = 0
  readonly #released = new Map<string, { readonly vm: string; readonly at: number }>()

  constructor(vms: readonly string[]) {
    for (const vm of vms) this.vms.set(vm, new VmHistory())
  }

  observe(record: TraceRecord, now: number): void {
    this.records += 1
    this.last = Math.max(this.last, now)
    switch (record.kind) {
      case 'fault.begun':
        this.#begun(record, now)
        return
      case 'fault.idle':
        this.#idle(record)
        return
      case 'fault.ended':
        this.#faultEnded(record, now)
        return
      case 'faults.ended':
        this.ended = { at: now, withinMs: bodyOf(record)['withinMs'] as number }
        return
      case 'guest.acknowledged':
        this.#of(record)?.acknowledged.push(now)
        return
      case 'vm.run':
        this.#run(record, now)
        return
      case 'vm.halt':
        this.#halt(record, now)
        return
      case 'process.dead': {
        const host = hostOfGuests(record)
        if (host !== null) this.#endAllAt(host, now)
        return
      }
      case 'migration.committed':
        this.migrationsCommitted += 1
        return
      case 'failover.start':
        this.#failover(record, now)
        return
      case 'lease.granted':
        this.leaseMs = Math.max(this.leaseMs, bodyOf(record)['leaseMs'] as number)
    }
  }

  /** A fault other than `except` was in force at some time between. */
  disturbed(from: number, to: number, except: FaultSpan | null = null): boolean {
    return this.faults.some(
      fault => fault !== except && fault.from < to && (fault.to ?? Number.POSITIVE_INFINITY) > from,
    )
  }

  #begun(record: TraceRecord, now: number): void {
    const body = bodyOf(record)
    const { id, fault, host } = body as { id?: unknown; fault?: unknown; host?: string }
    // The simulator's own rules begin and end under other names; what a plan did carries its number.
    if (typeof id !== 'number') return
    const kind = fault as FaultKind
    this.faults.push({ id, kind, host: host ?? null, on: hitBy(body as unknown as Fault), from: now, to: null })
    // What nothing attests, nothing records either.
    if ((kind === 'host-kill' || kind === 'agent-kill') && host !== undefined) this.#endAllAt(host, now)
  }

  #idle(record: TraceRecord): void {
    const { id } = bodyOf(record) as { id?: unknown }
    const at = this.faults.findIndex(each => each.id === id)
    if (at === -1) return
    this.idle.add(this.faults[at]!.id)
    this.faults.splice(at, 1)
  }

  #faultEnded(record: TraceRecord, now: number): void {
    const { id } = bodyOf(record) as { id?: unknown }
    const fault = this.faults.find(each => each.id === id && each.to === null)
    if (fault !== undefined) fault.to = now
  }

  #of(record: TraceRecord): VmHistory | null {
    return this.vms.get(record.vm ?? '') ?? null
  }

  #run(record: TraceRecord, now: number): void {
    const { instance, how } = bodyOf(record) as { instance: string; how: string }
    const vm = this.#of(record)
    if (vm === null || record.host === undefined) return
    for (const run of vm.runs) if (run.to === null && run.instance !== instance) run.to = now
    vm.runs.push({ host: record.host, instance, from: now, to: null })
    if (how === 'arrive' || how === 'resume') this.#landed(record, now)
  }

  /** A guest that was released for a migration runs again, there or here. */
  #landed(record: TraceRecord, now: number): void {
    for (const [key, { vm, at }] of this.#released) {
      if (vm !== record.vm) continue
      this.#released.delete(key)
      this.pauses.push({ vm, migration: record.migration ?? null, from: at, to: now })
    }
  }

  #halt(record: TraceRecord, now: number): void {
    const { instance, how } = bodyOf(record) as { instance: string; how: string }
    const run = this.#of(record)?.runs.findLast(each => each.instance === instance && each.to === null)
    if (run !== undefined) run.to = now
    if (how !== 'released' || record.vm === undefined || this.#released.size >= RELEASED_MAX) return
    this.#released.set(`${record.vm} ${instance}`, { vm: record.vm, at: now })
  }

  #endAllAt(host: string, now: number): void {
    for (const { runs } of this.vms.values()) {
      for (const run of runs) if (run.host === host && run.to === null) run.to = now
    }
  }

  #failover(record: TraceRecord, now: number): void {
    const { from, to, attested } = bodyOf(record) as { from: string; to: string; attested: boolean }
    if (record.vm === undefined) return
    this.failovers.push({ vm: record.vm, from, to, attested, at: now })
    // It is no migration's pause any more: what follows is a boot.
    for (const [key, { vm }] of this.#released) if (vm === record.vm) this.#released.delete(key)
  }
}

function bodyOf(record: TraceRecord): { readonly [name: string]: unknown } {
  const { body } = record
  return typeof body === 'object' && body !== null && !Array.isArray(body) ? (body as { [name: string]: unknown }) : {}
}
