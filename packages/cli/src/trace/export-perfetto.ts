// A trace as the JSON that the Perfetto UI and chrome://tracing open: one track each for every host, VM, volume, migration, fault
// and process. Slices are begun and ended in the order of time; messages that arrived are arrows between processes.

import { hostOfGuests } from '@stellwerk/protocol/monitors/monitor.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { type Exported, type ExportedMessage, envelopeOf } from './export-messages.ts'

/** Groups of tracks, from top to bottom: processes, in the format's words. */
const GROUPS = ['faults', 'hosts', 'VMs', 'VMs by host', 'volumes', 'migrations', 'processes'] as const
type Group = (typeof GROUPS)[number]

/** A message is shown as so short a slice at both ends, for its arrow to begin and end in. */
const MESSAGE_US = 1
/** Bodies are cut: the trace itself has them whole. */
const ARG_CHARS_MAX = 1_000

interface Track {
  readonly pid: number
  readonly tid: number
  /** Names of the slices that are open, the outermost first. */
  readonly open: string[]
}

interface Later {
  readonly us: number
  readonly event: object
}

export class PerfettoWriter {
  readonly #out: (text: string) => void
  readonly #tracks = new Map<string, Track>()
  readonly #groups = new Set<Group>()
  /** Ends of arrows, soonest first: they lie ahead of what is told now. */
  readonly #later: Later[] = []
  /** VM → the instance that executes, and where. */
  readonly #running = new Map<string, { readonly host: string; readonly instance: string }>()
  #events = 0
  #flows = 0
  #now = Number.NEGATIVE_INFINITY
  #start: number | null = null

  constructor(out: (text: string) => void) {
    this.#out = out
    out('{"displayTimeUnit":"ms","traceEvents":[')
  }

  /** `timeOf`: on one timeline for all, in ms. */
  take(exported: Exported, timeOf: (record: TraceRecord) => number): void {
    if (exported.what === 'message') {
      this.#message(exported, timeOf)
      return
    }
    const { record } = exported
    this.#moveTo(this.#us(timeOf(record)))
    this.#record(record)
  }

  end(): void {
    this.#moveTo(Number.POSITIVE_INFINITY)
    for (const track of this.#tracks.values()) while (track.open.length > 0) this.#close(track)
    this.#out('\n]}\n')
  }

  // --- what is shown where ---------------------------------------------------------------------------------------------------

  #record(record: TraceRecord): void {
    const { kind, host, vm, volume, migration } = record
    const body = bodyOf(record)
    switch (kind) {
      case 'fault.begun':
      case 'fault.ended':
        this.#fault(record, body)
        break
      case 'host.verdict':
        this.#state('hosts', host, body['verdict'] === 'up' ? null : String(body['verdict']), record)
        break
      case 'host.crashed':
        this.#state('hosts', host, 'crashed', record)
        break
      case 'host.admitted':
      case 'host.powered-on':
        this.#state('hosts', host, null, record)
        break
      case 'decision.fence':
        this.#state('hosts', textOf(body['subject']), 'fencing', record)
        break
      case 'decision.fenced':
        this.#state('hosts', textOf(body['subject']), 'fenced', record)
        break
      case 'vm.run':
        this.#run(record, body)
        break
      case 'vm.halt':
        if (vm !== undefined && this.#running.get(vm)?.instance === body['instance']) this.#halt(vm, record)
        break
      case 'process.dead':
        this.#died(record)
        break
      case 'volume.owned':
        this.#state('volumes', volume, `owned by ${host}`, record)
        break
      case 'migration.requested':
        if (migration !== undefined) {
          const track = this.#track('migrations', migration)
          while (track.open.length > 0) this.#close(track)
          this.#open(track, `${vm}: ${body['source']} → ${body['target']}`, record)
          this.#open(track, 'prepare', record)
        }
        break
      case 'migration.precopy':
      case 'migration.switching':
      case 'migration.committed':
        this.#phase(migration, PHASES[kind], record)
        break
      case 'migration.aborted':
      case 'migration.done':
        this.#migrationEnds(migration)
        break
    }
    this.#instants(record, body)
  }

  #fault(record: TraceRecord, body: Body): void {
    const { fault, lastsMs, ...about } = body
    const where = Object.values(about).filter(each => typeof each === 'string')
    const name = textOf(fault) ?? 'fault'
    this.#state('faults', [name, ...where].join(' '), record.kind === 'fault.begun' ? name : null, record)
  }

  #run(record: TraceRecord, body: Body): void {
    const { vm, host } = record
    if (vm === undefined || host === undefined) return
    this.#halt(vm, record)
    this.#running.set(vm, { host, instance: String(body['instance']) })
    this.#state('VMs', vm, `on ${host}`, record)
    this.#state('VMs by host', `${host}: ${vm}`, vm, record)
  }

  #halt(vm: string, record: TraceRecord): void {
    const ran = this.#running.get(vm)
    if (ran === undefined) return
    this.#running.delete(vm)
    this.#state('VMs', vm, null, record)
    this.#state('VMs by host', `${ran.host}: ${vm}`, null, record)
  }

  #died(record: TraceRecord): void {
    const host = hostOfGuests(record)
    if (host === null) return
    for (const [vm, ran] of this.#running) if (ran.host === host) this.#halt(vm, record)
  }

  #phase(migration: string | undefined, name: string, record: TraceRecord): void {
    if (migration === undefined) return
    const track = this.#track('migrations', migration)
    // Its beginning may lie before the trace's.
    if (track.open.length === 0) this.#open(track, migration, record)
    if (track.open.length > 1) this.#close(track)
    this.#open(track, name, record)
  }

  #migrationEnds(migration: string | undefined): void {
    if (migration === undefined) return
    const track = this.#track('migrations', migration)
    while (track.open.length > 0) this.#close(track)
  }

  /** Decisions are marks on the tracks of all that they are about; what else is on record is one on its process's. */
  #instants(record: TraceRecord, body: Body): void {
    const { host, vm, volume, migration, process, level, kind } = record
    if (level === 'decision') {
      const subject = textOf(body['subject'])
      const tracks: [Group, string | undefined][] = [
        ['migrations', migration],
        ['VMs', vm],
        ['volumes', volume],
        ['hosts', vm === undefined && volume === undefined && migration === undefined ? host : undefined],
      ]
      // Decisions name what they are about in their body: a track of that name is there if it is one of these.
      for (const group of ['VMs', 'hosts', 'volumes'] as const) {
        if (subject !== undefined && this.#tracks.has(keyOf(group, subject))) tracks.push([group, subject])
      }
      for (const [group, name] of tracks) if (name !== undefined) this.#instant(this.#track(group, name), kind, record)
    }
    this.#instant(this.#track('processes', process), kind, record)
  }

  #message(message: ExportedMessage, timeOf: (record: TraceRecord) => number): void {
    const { sent, received, isRepeat } = message
    const first = sent ?? received!
    const us = this.#us(timeOf(first))
    this.#moveTo(us)
    const { kind, to } = envelopeOf(first)
    const args = {
      ...argsOf(first),
      ...(sent !== null && received === null ? { lost: true } : {}),
      ...(isRepeat ? { again: true } : {}),
      to,
    }
    const here = this.#track('processes', first.process)
    this.#emit({ ph: 'X', name: kind, cat: 'message', dur: MESSAGE_US, ...this.#place(here, this.#now), args })
    if (sent === null || received === null) return
    const id = ++this.#flows
    const arrow = { cat: 'message', name: kind, id }
    this.#emit({ ph: 's', ...arrow, ...this.#place(here, this.#now) })
    const there = this.#track('processes', received.process)
    // Clocks of several machines may have it arrive before it left.
    const arrival = Math.max(this.#now, this.#us(timeOf(received)))
    const at = this.#place(there, arrival)
    this.#schedule(arrival, { ph: 'X', name: kind, cat: 'message', dur: MESSAGE_US, ...at, args: argsOf(received) })
    this.#schedule(arrival, { ph: 'f', bp: 'e', ...arrow, ...at })
  }

  // --- tracks and events -----------------------------------------------------------------------------------------------------

  /** The one slice of a track that shows what something is: the former one ends. Null: nothing to show. */
  #state(group: Group, name: string | undefined, state: string | null, record: TraceRecord): void {
    if (name === undefined) return
    const track = this.#track(group, name)
    while (track.open.length > 0) this.#close(track)
    if (state !== null) this.#open(track, state, record)
  }

  #open(track: Track, name: string, record: TraceRecord): void {
    track.open.push(name)
    this.#emit({ ph: 'B', name, cat: record.kind, ...this.#place(track, this.#now), args: argsOf(record) })
  }

  #close(track: Track): void {
    const name = track.open.pop()
    this.#emit({ ph: 'E', name, ...this.#place(track, this.#now) })
  }

  #instant(track: Track, name: string, record: TraceRecord): void {
    this.#emit({ ph: 'i', s: 't', name, cat: record.level, ...this.#place(track, this.#now), args: argsOf(record) })
  }

  #place({ pid, tid }: Track, us: number): { readonly pid: number; readonly tid: number; readonly ts: number } {
    return { pid, tid, ts: us }
  }

  #track(group: Group, name: string): Track {
    const known = this.#tracks.get(keyOf(group, name))
    if (known !== undefined) return known
    const pid = GROUPS.indexOf(group) + 1
    const track: Track = { pid, tid: this.#tracks.size + 1, open: [] }
    this.#tracks.set(keyOf(group, name), track)
    if (!this.#groups.has(group)) {
      this.#groups.add(group)
      this.#emit({ ph: 'M', name: 'process_name', pid, args: { name: group } })
      this.#emit({ ph: 'M', name: 'process_sort_index', pid, args: { sort_index: pid } })
    }
    this.#emit({ ph: 'M', name: 'thread_name', pid, tid: track.tid, args: { name } })
    return track
  }

  #us(ms: number): number {
    this.#start ??= ms
    return Math.round((ms - this.#start) * 1000)
  }

  /** Time never goes back; what lies before the new instant is told first. */
  #moveTo(us: number): void {
    while (this.#later.length > 0 && this.#later[0]!.us <= us) {
      const { us: at, event } = this.#later.shift()!
      if (at > this.#now) this.#now = at
      this.#emit({ ...event, ts: this.#now })
    }
    if (us > this.#now && us !== Number.POSITIVE_INFINITY) this.#now = us
  }

  #schedule(us: number, event: object): void {
    let at = this.#later.length
    while (at > 0 && this.#later[at - 1]!.us > us) at -= 1
    this.#later.splice(at, 0, { us, event })
  }

  #emit(event: object): void {
    this.#out(`${this.#events++ === 0 ? '' : ','}\n${JSON.stringify(event)}`)
  }
}

const PHASES = {
  'migration.precopy': 'pre-copy',
  'migration.switching': 'switch-over',
  'migration.committed': 'finish',
} as const

type Body = { readonly [key: string]: Json | undefined }

const keyOf = (group: Group, name: string): string => `${group}/${name}`
const textOf = (value: Json | undefined): string | undefined => (typeof value === 'string' ? value : undefined)

function bodyOf({ body }: TraceRecord): Body {
  return typeof body === 'object' && body !== null && !Array.isArray(body) ? (body as Body) : {}
}

function argsOf({ process, seq, cause, host, vm, volume, migration, body }: TraceRecord): object {
  const text = body === undefined ? '' : JSON.stringify(body)
  return {
    record: `${process} #${seq}`,
    ...(cause === undefined ? {} : { cause: `${cause.process} #${cause.seq}` }),
    ...(host === undefined ? {} : { host }),
    ...(vm === undefined ? {} : { vm }),
    ...(volume === undefined ? {} : { volume }),
    ...(migration === undefined ? {} : { migration }),
    ...(text === '' ? {} : { body: text.length <= ARG_CHARS_MAX ? body : `${text.slice(0, ARG_CHARS_MAX)} …` }),
  }
}
