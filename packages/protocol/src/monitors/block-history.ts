// Judges the history of one disk while it is used, sector by sector (rule IO1; linearizability is compositional, so each
// sector may be judged alone, and a request of many sectors is not atomic). Fast where nothing is concurrent: then a
// sector is a number in a page, compared on a read and replaced on a write. Only sectors that requests share while one
// of them writes, or whose state is uncertain after a request of unknown outcome, get a RegisterJudge, until they have
// settled again.
//
// Exactness. A request completes alone on a sector if no other that conflicts with it was pending there at any time
// between its invocation and completion; then every linearization has it after all earlier ones and before all later
// ones, and comparing is exact. All others go through the judge, in the order of their events. A judge must know what a
// read returns when it is invoked, so a sector's events wait behind a read that is still pending; reads that fail or
// get lost are left out.
//
// Crash mode (`volatileWrites`): for a raw backend that may lose what was not flushed. At its crash each written sector
// falls back to any value that write-log.ts allows, and requests in flight are of unknown outcome from then on.
//
// Bounds: requests pending (more: the oldest counts as lost), events waiting in a sector (more: its oldest read is not
// judged there), sectors under a judge (more: they are given up). What was given up is counted, never hidden.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { malformed } from './monitor.ts'
import { RegisterJudge } from './register-judge.ts'
import { WriteLog } from './write-log.ts'

export const SECTOR_BYTES = 512

const MAX_PENDING = 4096
const MAX_WAITING_EVENTS = 1024
const MAX_JUDGED_SECTORS = 100_000
const PAGE_SECTORS = 512

export interface BlockHistoryOptions {
  /** Crash mode, for raw backends. */
  readonly volatileWrites?: boolean
}

export interface BlockRequest {
  readonly op: 'read' | 'write' | 'trim'
  readonly first: number
  readonly count: number
  /** A write's checksums, one a sector; null: zeroes. */
  readonly values: readonly number[] | null
  readonly fua: boolean
  readonly host: string
  readonly record: TraceRecord
}

/** A sector whose history no order of requests explains. */
export interface SectorFault {
  readonly sector: number
  readonly message: string
  /** The invocation and the completion of the request with which it came to light. */
  readonly records: readonly TraceRecord[]
}

interface Pending extends BlockRequest {
  readonly invoked: number
  /** A read's result once it has come; a write's contents. */
  result: readonly number[] | null
  completed: 'no' | 'ok' | 'dropped'
}

interface WaitingEvent {
  readonly kind: 'invoke' | 'ok' | 'fail' | 'lost'
  readonly request: Pending
  readonly at: number
  readonly record: TraceRecord
}

interface JudgedSector {
  readonly judge: RegisterJudge
  waiting: WaitingEvent[]
  /** Reads left out because they kept too much waiting. */
  skipped: Set<Pending> | null
  broken: boolean
}

/** Extents are 4 MiB, or more by a power of two. */
const SECTORS_OF_EXTENT = (4 * MIB) / SECTOR_BYTES

function crossesExtents({ first, count }: BlockRequest): boolean {
  return Math.floor(first / SECTORS_OF_EXTENT) !== Math.floor((first + count - 1) / SECTORS_OF_EXTENT)
}

export class BlockHistory {
  readonly #pages = new Map<number, Float64Array>()
  readonly #judged = new Map<number, JudgedSector>()
  readonly #pending = new Map<string, Pending>()
  readonly #flushes = new Map<string, number>()
  readonly #log: WriteLog | null
  readonly #faults: SectorFault[] = []
  #events = 0
  #readsSkipped = 0
  #sectorsRefused = 0

  constructor(options: BlockHistoryOptions = {}) {
    this.#log = options.volatileWrites === true ? new WriteLog() : null
  }

  /** What was not judged for want of room: zero in any run that means something. */
  get givenUp(): number {
    let sectors = this.#sectorsRefused + this.#readsSkipped
    for (const { judge, broken } of this.#judged.values()) if (judge.givenUp && !broken) sectors++
    return sectors
  }

  /** Sectors that need a judge now. */
  get contested(): number {
    return this.#judged.size
  }

  /** Faults found since the last call. */
  takeFaults(): readonly SectorFault[] {
    return this.#faults.length === 0 ? NONE : this.#faults.splice(0)
  }

  /**
   * Another disk that holds what this one surely holds now, or may. What is under way from `holder` does not count: it is
   * held back until the other disk is made. But one over several extents may have done its part in one of them, and wait
   * for room for the other: of such a write each sector may be in it or not. What is under way from elsewhere, from a host that has lost the disk and does
   * not know it yet, may have landed.
   */
  fork(holder: string | null): BlockHistory {
    const fork = new BlockHistory()
    for (const [index, page] of this.#pages) fork.#pages.set(index, page.slice())
    const may = new Map<number, Set<number>>()
    for (const [sector, { judge, waiting, broken }] of this.#judged) {
      if (broken || judge.givenUp) {
        fork.#judged.set(sector, ANYTHING)
        continue
      }
      const values = new Set(judge.candidates)
      may.set(sector, values)
      // Events that wait behind a read have not come to the judge yet.
      for (const { request } of waiting) {
        if (request.completed !== 'no') addValue(values, request, sector)
      }
    }
    for (const request of this.#pending.values()) {
      if (request.op === 'read' || (request.host === holder && !crossesExtents(request))) continue
      for (let sector = request.first; sector < request.first + request.count; sector++) {
        if (fork.#judged.has(sector)) continue
        let values = may.get(sector)
        if (values === undefined) {
          values = new Set([this.#get(sector)])
          may.set(sector, values)
        }
        addValue(values, request, sector)
      }
    }
    for (const [sector, values] of may) {
      const [only] = values
      if (values.size === 1) fork.#set(sector, only!)
      else fork.#judge(sector, new RegisterJudge([...values]))
    }
    return fork
  }

  invokeFlush(key: string): void {
    if (this.#log === null) return
    this.#flushes.set(key, ++this.#events)
  }

  invoke(key: string, asked: BlockRequest): void {
    const now = ++this.#events
    this.#makeRoom(key)
    const request: Pending = { ...asked, invoked: now, result: asked.values, completed: 'no' }
    const end = request.first + request.count
    for (const other of this.#pending.values()) {
      if (request.op === 'read' && other.op === 'read') continue
      const from = Math.max(request.first, other.first)
      const to = Math.min(end, other.first + other.count)
      for (let sector = from; sector < to; sector++) if (!this.#judged.has(sector)) this.#contest(sector)
    }
    this.#pending.set(key, request)
    if (this.#judged.size > 0) this.#tell('invoke', request, now, request.record)
  }

  /** `values`: what a read returned, one checksum a sector. */
  ok(key: string, values: readonly number[] | null, record: TraceRecord): void {
    const now = ++this.#events
    const flush = this.#flushes.get(key)
    if (flush !== undefined) {
      this.#flushes.delete(key)
      this.#log?.flushed(flush)
      return
    }
    const request = this.#take(key)
    if (request === null) return
    request.completed = 'ok'
    if (request.op === 'read') {
      if (values?.length !== request.count) throw malformed(record, '`sectors`: one checksum for each sector read')
      request.result = values
    }
    if (this.#log !== null && request.op !== 'read') this.#logWrite(request, now)
    if (this.#judged.size === 0) this.#settleAlone(request, request.first, request.first + request.count, record)
    else {
      for (let sector = request.first; sector < request.first + request.count; sector++) {
        const judged = this.#judged.get(sector)
        if (judged === undefined) this.#settleAlone(request, sector, sector + 1, record)
        else this.#push(sector, judged, { kind: 'ok', request, at: now, record })
      }
    }
  }

  /** The request surely took no effect. */
  fail(key: string, record: TraceRecord): void {
    const now = ++this.#events
    this.#flushes.delete(key)
    const request = this.#take(key)
    if (request === null) return
    request.completed = 'dropped'
    this.#tell('fail', request, now, record)
  }

  /** Nobody will ever know: it may take effect at any later time or never. */
  info(key: string, record: TraceRecord): void {
    this.#flushes.delete(key)
    const request = this.#take(key)
    if (request !== null) this.#lose(request, record)
  }

  /** The host is gone with all that it had in flight. */
  loseHost(host: string, record: TraceRecord): void {
    for (const [key, request] of this.#pending) if (request.host === host) this.info(key, record)
  }

  /** The raw backend crashed: what was not stable may be gone. */
  crash(record: TraceRecord): void {
    for (const key of [...this.#pending.keys(), ...this.#flushes.keys()]) this.info(key, record)
    const log = this.#log
    if (log === null) return
    const now = ++this.#events
    for (const sector of log.sectors) {
      const { values, trimmed, unknown } = log.crash(sector)
      if (this.#judged.get(sector)?.judge.givenUp === true) continue
      this.#judged.delete(sector)
      if (values === null) {
        this.#refuse(sector)
        continue
      }
      const [only] = values
      if (values.length === 1 && unknown.length === 0 && (!trimmed || only === 0)) {
        this.#set(sector, only!)
        continue
      }
      const judged = this.#judge(sector, new RegisterJudge(values, trimmed))
      for (const each of unknown) {
        judged.judge.invoke(each, each.trim ? 'trim' : 'write', each.value, now)
        judged.judge.lose(each)
      }
    }
  }

  /** The trace is over: what is pending will not complete. */
  finish(record: TraceRecord | null): void {
    for (const [key, request] of this.#pending) this.info(key, record ?? request.record)
  }

  // --- alone on a sector -----------------------------------------------------------------------------------------------

  #settleAlone(request: Pending, first: number, end: number, record: TraceRecord): void {
    const { op, result } = request
    const shift = request.first
    for (let sector = first; sector < end; ) {
      const page = this.#pages.get(Math.floor(sector / PAGE_SECTORS))
      let slot = sector % PAGE_SECTORS
      const stop = Math.min(end, sector - slot + PAGE_SECTORS)
      for (; sector < stop; sector++, slot++) {
        const held = page === undefined ? 0 : page[slot]!
        const value = result === null ? 0 : result[sector - shift]!
        if (held === value) continue
        if (op === 'write') {
          if (page !== undefined) page[slot] = value
          else {
            this.#set(sector, value)
            sector++
            break // The page is there now: fetch it.
          }
        } else if (op === 'trim') this.#judge(sector, new RegisterJudge([held], true))
        else {
          this.#set(sector, value) // Told once; from here on it holds what was read.
          this.#fault(sector, request, record, [held])
        }
      }
    }
  }

  #set(sector: number, value: number): void {
    const index = Math.floor(sector / PAGE_SECTORS)
    let page = this.#pages.get(index)
    if (page === undefined) {
      page = new Float64Array(PAGE_SECTORS)
      this.#pages.set(index, page)
    }
    page[sector % PAGE_SECTORS] = value
  }

  #get(sector: number): number {
    return this.#pages.get(Math.floor(sector / PAGE_SECTORS))?.[sector % PAGE_SECTORS] ?? 0
  }

  // --- under a judge ---------------------------------------------------------------------------------------------------

  /** Puts a sector under a judge, with everything that is pending there. */
  #contest(sector: number): void {
    const judged = this.#judge(sector, new RegisterJudge([this.#get(sector)]))
    for (const request of this.#pending.values()) {
      if (sector < request.first || sector >= request.first + request.count) continue
      this.#push(sector, judged, { kind: 'invoke', request, at: request.invoked, record: request.record })
    }
  }

  #judge(sector: number, judge: RegisterJudge): JudgedSector {
    if (this.#judged.size >= MAX_JUDGED_SECTORS) return this.#refuse(sector)
    const judged: JudgedSector = { judge, waiting: [], skipped: null, broken: false }
    this.#judged.set(sector, judged)
    return judged
  }

  /** Accepts anything there from now on, and for ever: an unknown write may come at any time. */
  #refuse(sector: number): JudgedSector {
    this.#sectorsRefused++
    this.#judged.set(sector, ANYTHING)
    return ANYTHING
  }

  #tell(kind: WaitingEvent['kind'], request: Pending, at: number, record: TraceRecord): void {
    for (let sector = request.first; sector < request.first + request.count; sector++) {
      const judged = this.#judged.get(sector)
      if (judged !== undefined) this.#push(sector, judged, { kind, request, at, record })
    }
  }

  #lose(request: Pending, record: TraceRecord): void {
    const now = ++this.#events
    request.completed = 'dropped'
    for (let sector = request.first; sector < request.first + request.count; sector++) {
      let judged = this.#judged.get(sector)
      if (judged === undefined && request.op !== 'read') {
        // A zero-write or trim of what is zero already has nothing to be uncertain about.
        if (this.#get(sector) === 0 && (request.result === null || request.result[sector - request.first] === 0))
          continue
        judged = this.#judge(sector, new RegisterJudge([this.#get(sector)]))
        this.#push(sector, judged, { kind: 'invoke', request, at: request.invoked, record: request.record })
      }
      if (judged !== undefined) this.#push(sector, judged, { kind: 'lost', request, at: now, record })
      if (request.op !== 'read') this.#logSector(sector, request, Number.POSITIVE_INFINITY)
    }
  }

  #push(sector: number, judged: JudgedSector, event: WaitingEvent): void {
    if (judged.judge.givenUp) return
    judged.waiting.push(event)
    let index = 0
    for (; index < judged.waiting.length; index++) {
      const head = judged.waiting[index]!
      const { request } = head
      if (request.op === 'read') {
        if (head.kind === 'invoke' && request.completed === 'no') {
          if (judged.waiting.length - index <= MAX_WAITING_EVENTS) break
          judged.skipped ??= new Set()
          judged.skipped.add(request)
          this.#readsSkipped++
        }
        if (request.completed !== 'ok') continue
        if (judged.skipped?.has(request) === true) {
          if (head.kind === 'ok') judged.skipped.delete(request)
          continue
        }
      }
      if (!this.#judgeEvent(sector, judged, head)) break
    }
    judged.waiting = judged.judge.givenUp ? [] : judged.waiting.slice(index)
    if (judged.waiting.length > 0) return
    const settled = judged.judge.settled()
    if (settled === null || (judged.skipped?.size ?? 0) > 0) return
    this.#set(sector, settled)
    this.#judged.delete(sector)
  }

  #judgeEvent(sector: number, judged: JudgedSector, event: WaitingEvent): boolean {
    const { judge } = judged
    const { request, kind, at } = event
    const value = request.result === null ? 0 : request.result[sector - request.first]!
    if (kind === 'invoke') judge.invoke(request, request.op, value, at)
    else if (kind === 'lost') judge.lose(request)
    else {
      const possible = judge.possible
      if (kind === 'ok' ? judge.complete(request, at) : judge.fail(request)) return true
      judged.broken = true
      this.#fault(sector, request, event.record, possible)
      return false
    }
    return true
  }

  // --- the rest --------------------------------------------------------------------------------------------------------

  #fault(sector: number, request: Pending, record: TraceRecord, possible: readonly number[]): void {
    const value = request.result === null ? 0 : request.result[sector - request.first]!
    const held = possible.map(each => each.toString(16)).join(' or ')
    const message =
      request.op === 'read'
        ? `a read of sector ${sector} returned ${value.toString(16)} where it held ${held}`
        : `a ${request.op} of sector ${sector} ended in a way that contradicts what was read (it held ${held})`
    this.#faults.push({ sector, message, records: [request.record, record] })
  }

  #take(key: string): Pending | null {
    const request = this.#pending.get(key)
    if (request === undefined) return null
    this.#pending.delete(key)
    return request
  }

  #makeRoom(key: string): void {
    const same = this.#pending.get(key)
    if (same !== undefined) this.info(key, same.record) // The id is used anew: the old one will not complete.
    if (this.#pending.size < MAX_PENDING) return
    for (const [oldest, request] of this.#pending) {
      this.info(oldest, request.record)
      return
    }
  }

  #logWrite(request: Pending, completed: number): void {
    for (let sector = request.first; sector < request.first + request.count; sector++) {
      this.#logSector(sector, request, completed)
    }
  }

  #logSector(sector: number, request: Pending, completed: number): void {
    const { fua, invoked, op, result } = request
    const value = result === null ? 0 : result[sector - request.first]!
    this.#log?.add(sector, { value, invoked, completed, fua, trim: op === 'trim' }, () => {
      const judged = this.#judged.get(sector)
      return judged === undefined ? [this.#get(sector)] : [...judged.judge.possible]
    })
  }
}

function addValue(values: Set<number>, request: Pending, sector: number): void {
  if (request.op === 'trim') values.add(0)
  else if (request.op === 'write') values.add(request.result === null ? 0 : request.result[sector - request.first]!)
}

const NONE: readonly SectorFault[] = []

/** The state of all sectors that are not judged any more. */
const ANYTHING: JudgedSector = { judge: RegisterJudge.anything(), waiting: [], skipped: null, broken: true }
