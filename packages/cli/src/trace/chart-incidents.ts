// Which migrations and outages a trace has. An outage is a host that was gone (dead, cut off, paused) until it was fenced and its
// VMs ran again, or until it was heard again; its id is HOST@EPOCH, after the epoch that ended, with .N for the N-th time in one
// epoch that it was heard again unfenced. A VM's failover in it is VM@EPOCH, after its new placement.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { RecentMap } from './recent-map.ts'
import type { TraceSource } from './source.ts'

export interface MigrationSpan {
  readonly id: string
  vm: string
  source: string
  target: string
  startMs: number
  endMs: number
  state: string
}

export interface Failover {
  readonly id: string
  readonly vm: string
  readonly to: string
  readonly placedMs: number
  readonly attested: boolean
  readonly waitMs: number
  /** When it ran again; null: it has not, in this trace. */
  runMs: number | null
}

export interface Outage {
  readonly id: string
  readonly host: string
  readonly epoch: number
  /** The first sign of it. */
  readonly startMs: number
  readonly sign: string
  /** The last lease before: until then it was surely there. */
  readonly heardMs: number | null
  /** Null: it was not fenced. */
  fenceMs: number | null
  why: string
  readonly vms: readonly string[]
  fencedMs: number | null
  readonly failovers: Failover[]
  /** Heard again, or admitted anew. */
  backMs: number | null
}

/** Of each kind, the newest are kept. */
const INCIDENTS_MAX = 10_000

export async function migrationsIn(source: TraceSource, options: TraceReadOptions): Promise<MigrationSpan[]> {
  const found = new RecentMap<string, MigrationSpan>(INCIDENTS_MAX)
  const filter = { kinds: ['migration.*'], levels: ['decision'] as const }
  for await (const record of source.records({ ...options, filter })) {
    const { migration: id, vm = '?', hlc, kind } = record
    if (id === undefined) continue
    const { source: from = '?', target: to = '?' } = record.body as { source?: string; target?: string }
    const state = kind.slice('migration.'.length)
    const known = found.get(id)
    if (known === undefined) {
      const span = { id, vm, source: from, target: to, startMs: hlc.wallMs, endMs: hlc.wallMs, state }
      found.set(id, span)
    } else Object.assign(known, { endMs: hlc.wallMs, state })
  }
  return found.values()
}

const KINDS = [
  ...['host.*', 'lease.*', 'failover.start', 'vm.run', 'process.dead', 'process.crashed'],
  ...['decision.fence', 'decision.fenced', 'decision.admit'],
]

export async function outagesIn(source: TraceSource, options: TraceReadOptions): Promise<Outage[]> {
  const finder = new OutageFinder()
  for await (const record of source.records({ ...options, filter: { kinds: KINDS } })) finder.observe(record)
  return finder.finish()
}

/** What the bodies of those records have, each some of it. */
interface Body {
  readonly process: string
  readonly verdict: string
  readonly silentMs: number
  readonly epoch: number
  readonly subject: string
  readonly saw: { readonly epoch: number; readonly vms: readonly string[] }
  readonly why: string
  readonly from: string
  readonly fromEpoch: number
  readonly to: string
  readonly attested: boolean
  readonly waitMs: number
}

interface Seen {
  epoch: number
  heardMs: number | null
  /** A sign that it is gone, not yet followed by a fence or by word of it. */
  sign: { readonly atMs: number; readonly what: string } | null
  unfenced: number
  /** The last outage of it. */
  outage: Outage | null
}

export class OutageFinder {
  readonly #hosts = new Map<string, Seen>()
  readonly #outages: Outage[] = []
  readonly #running = new Map<string, Failover>()

  observe(record: TraceRecord): void {
    const { kind, hlc, host } = record
    const body = (record.body ?? {}) as unknown as Body
    switch (kind) {
      case 'process.dead':
      case 'process.crashed':
        // Of a host's processes the agent is the one whose end is an outage, and the machine itself.
        if (host !== undefined && (body.process === `${host}/agent` || body.process === host)) {
          this.#sign(host, hlc.wallMs, `${body.process} died`)
        }
        break
      case 'host.crashed':
        if (host !== undefined) this.#sign(host, hlc.wallMs, 'the host crashed')
        break
      case 'host.verdict':
        if (host !== undefined) this.#sign(host, hlc.wallMs, `${body.verdict} after ${body.silentMs} ms of silence`)
        break
      case 'lease.granted':
        if (host !== undefined) this.#heard(host, body.epoch, hlc.wallMs)
        break
      case 'host.admitted':
        if (host !== undefined) this.#admitted(host, body.epoch, hlc.wallMs)
        break
      case 'decision.fence':
        this.#fence(body.subject, body.saw, body.why, hlc.wallMs)
        break
      case 'decision.fenced': {
        const outage = this.#of(body.subject).outage
        if (outage !== null) outage.fencedMs ??= hlc.wallMs
        break
      }
      case 'failover.start':
        this.#failover(record.vm ?? '?', body, hlc.wallMs)
        break
      case 'vm.run':
        this.#ran(record.vm ?? '?', host, body.epoch, hlc.wallMs)
        break
    }
  }

  finish(): Outage[] {
    return this.#outages
  }

  #of(host: string): Seen {
    let seen = this.#hosts.get(host)
    if (seen === undefined) {
      seen = { epoch: 0, heardMs: null, sign: null, unfenced: 0, outage: null }
      this.#hosts.set(host, seen)
    }
    return seen
  }

  #sign(host: string, atMs: number, what: string): void {
    const seen = this.#of(host)
    // What is fenced already may well die, too.
    if (seen.outage !== null && seen.outage.backMs === null) return
    seen.sign ??= { atMs, what }
  }

  #heard(host: string, epoch: number, atMs: number): void {
    const seen = this.#of(host)
    if (seen.epoch !== epoch) seen.unfenced = 0
    if (seen.sign !== null) {
      seen.unfenced += 1
      const id = `${host}@${epoch}.${seen.unfenced}`
      this.#begin(seen, host, { id, epoch, vms: [], why: 'it was heard again', fenceMs: null, atMs }, atMs)
    }
    seen.epoch = epoch
    seen.heardMs = atMs
  }

  #admitted(host: string, epoch: number, atMs: number): void {
    const seen = this.#of(host)
    seen.epoch = epoch
    seen.unfenced = 0
    seen.sign = null
    if (seen.outage !== null) seen.outage.backMs ??= atMs
  }

  #fence(host: string, saw: Body['saw'], why: string, atMs: number): void {
    const { epoch, vms } = saw
    this.#begin(this.#of(host), host, { id: `${host}@${epoch}`, epoch, vms, why, fenceMs: atMs, atMs }, null)
  }

  #begin(
    seen: Seen,
    host: string,
    of: Pick<Outage, 'id' | 'epoch' | 'vms' | 'why' | 'fenceMs'> & { readonly atMs: number },
    backMs: number | null,
  ): void {
    const { id, epoch, vms, why, fenceMs, atMs } = of
    const startMs = seen.sign?.atMs ?? atMs
    const first = { startMs, sign: seen.sign?.what ?? why, heardMs: seen.heardMs }
    const outage: Outage = { id, host, epoch, ...first, fenceMs, why, vms, fencedMs: null, failovers: [], backMs }
    seen.outage = outage
    seen.sign = null
    this.#outages.push(outage)
    if (this.#outages.length > INCIDENTS_MAX) this.#outages.shift()
  }

  #failover(vm: string, body: Body, placedMs: number): void {
    const { from, fromEpoch, to, epoch, attested, waitMs } = body
    const outage = this.#outages.findLast(
      each => each.host === from && each.epoch === fromEpoch && each.fenceMs !== null,
    )
    if (outage === undefined) return
    const failover: Failover = { id: `${vm}@${epoch}`, vm, to, placedMs, attested, waitMs, runMs: null }
    outage.failovers.push(failover)
    this.#running.set(`${vm}@${epoch}`, failover)
  }

  #ran(vm: string, host: string | undefined, epoch: number, atMs: number): void {
    const failover = this.#running.get(`${vm}@${epoch}`)
    if (failover?.to !== host) return
    this.#running.delete(`${vm}@${epoch}`)
    if (failover !== undefined) failover.runMs = atMs
  }
}

/** From the first sign until all that was lost ran again (or the host was heard again); null: not in this trace. */
export function endOf(outage: Outage): number | null {
  if (outage.fenceMs === null) return outage.backMs
  const runs = outage.failovers.map(({ runMs }) => runMs)
  if (runs.includes(null)) return null
  // VMs that need not run again have no failover.
  return Math.max(outage.fencedMs ?? outage.fenceMs, ...runs.filter(runMs => runMs !== null))
}
