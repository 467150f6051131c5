// For tests of monitors: writes traces by hand, one record a line, and runs one rule or all of them over them.

import type { Json, TraceEvent, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { createMonitors, type MonitorOptions } from './all-monitors.ts'
import type { RuleId, Violation } from './monitor.ts'

type Body = { readonly [key: string]: Json }
type Ids = Pick<TraceEvent, 'host' | 'vm' | 'volume' | 'disk' | 'migration'>

/** `at` is ms; `process` defaults to the host's agent. */
export class TraceBuilder {
  readonly records: TraceRecord[] = []
  at = 0
  #request = 0

  /** Lets time pass. */
  wait(ms: number): this {
    this.at += ms
    return this
  }

  add(kind: string, ids: Ids, body: Body = {}, process?: string): this {
    this.records.push({
      hlc: { wallMs: Math.floor(this.at), counter: this.records.length },
      at: this.at,
      process: process ?? (ids.host === undefined ? 'coordinator' : `${ids.host}/agent`),
      seq: this.records.length + 1,
      level: 'io',
      kind,
      ...ids,
      body,
    })
    return this
  }

  run(vm: string, host: string, epoch: number, how = 'start', more: Body = {}): this {
    return this.add('vm.run', { vm, host }, { epoch, instance: `${vm}@${host}`, how, ...more })
  }

  halt(vm: string, host: string, epoch: number, how = 'frozen'): this {
    return this.add('vm.halt', { vm, host }, { epoch, instance: `${vm}@${host}`, how })
  }

  step(vm: string, host: string, epoch: number, instance = `${vm}@${host}`): this {
    return this.add('guest.step', { vm, host }, { epoch, instance })
  }

  acknowledged(vm: string, host: string, ...entries: readonly number[]): this {
    for (const entry of entries) this.add('guest.acknowledged', { vm, host }, { entry }, 'observer')
    return this
  }

  answered(vm: string, ...lines: readonly number[]): this {
    for (const line of lines) this.add('terminal.answered', { vm }, { line }, 'terminal')
    return this
  }

  recovered(vm: string, host: string, entry: number, intact = true): this {
    return this.add('guest.recovered', { vm, host }, { entry, intact }, 'observer')
  }

  released(vm: string, host: string, migration: string, epoch: number, checksum = 7): this {
    return this.add('machine.released', { vm, host, migration }, { epoch, instance: `${vm}@${host}`, checksum })
  }

  loaded(vm: string, host: string, migration: string, checksum = 7): this {
    return this.add('machine.loaded', { vm, host, migration }, { checksum })
  }

  resumed(vm: string, host: string, migration: string, epoch: number, checksum = 7): this {
    return this.add('machine.resumed', { vm, host, migration }, { epoch, instance: `${vm}@${host}`, checksum })
  }

  decided(
    what: 'committed' | 'aborted',
    vm: string,
    migration: string,
    epoch: number,
    source: string,
    target: string,
  ): this {
    return this.add(`migration.${what}`, { vm, migration }, { epoch, source, target })
  }

  dead(host: string, process = `${host}/agent`): this {
    return this.add('process.dead', { host }, { process, incarnation: 1 }, 'simulator')
  }

  lease(host: string, epoch: number, leaseMs = 3000): this {
    return this.add('lease.granted', { host }, { epoch, leaseMs }, 'coordinator')
  }

  probed(storage: string, host: string, epoch: number): this {
    return this.add('storage.probed', { host }, { storage, epoch }, storage)
  }

  fenced(storage: string, host: string, epoch: number): this {
    return this.add('storage.fenced', { host }, { storage, epoch, term: 1 }, storage)
  }

  failover(vm: string, from: string, fromEpoch: number, more: Body = {}): this {
    const body = { from, fromEpoch, to: 'host-b', epoch: 2, attested: false, legs: ['san-a'], waitMs: 3060, ...more }
    return this.add('failover.start', { vm }, body)
  }

  /** A write that took effect on csv1 at san-a. */
  applied(host: string, more: Body = {}, storage = 'san-a', volume = 'csv1'): this {
    const body = { epoch: 1, session: [1, 1], owner: null, generation: 1, offset: 0, length: 4096, ...more }
    return this.add('storage.applied', { host, volume }, body, storage)
  }

  /** A request that completes before anything else happens. */
  io(host: string, op: string, sector: number, sectors: readonly number[] | number, disk = 'disk1'): this {
    const request = this.invoke(host, op, sector, sectors, disk)
    return this.ok(request, host, op === 'read' && typeof sectors !== 'number' ? sectors : null, disk)
  }

  /** Gives the request's id. `sectors`: a write's contents or a read's expected result, or their number. */
  invoke(
    host: string,
    op: string,
    sector: number,
    sectors: readonly number[] | number,
    disk = 'disk1',
    more: Body = {},
  ): number {
    const request = ++this.#request
    const length = 512 * (typeof sectors === 'number' ? sectors : sectors.length)
    const contents = op === 'write' && typeof sectors !== 'number' ? { sectors } : {}
    this.add(
      'disk.invoke',
      { host, disk, vm: 'web-1' },
      { op, request, offset: 512 * sector, length, ...contents, ...more },
    )
    return request
  }

  ok(request: number, host: string, sectors: readonly number[] | null = null, disk = 'disk1'): this {
    return this.add('disk.ok', { host, disk, vm: 'web-1' }, sectors === null ? { request } : { request, sectors })
  }

  end(kind: 'disk.fail' | 'disk.info', request: number, host: string, disk = 'disk1'): this {
    return this.add(kind, { host, disk, vm: 'web-1' }, { request })
  }

  /** What the rule's monitor says of the trace. */
  judge(rule: RuleId, options: MonitorOptions = {}): readonly Violation[] {
    const monitors = createMonitors({ ...options, rules: [rule] })
    for (const record of this.records) monitors.observe(record)
    return monitors.finish(this.at)
  }
}
