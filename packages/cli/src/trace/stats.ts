// What a trace says of the messages: how many and how large by kind and by link, how long requests took, and how evenly
// heartbeats came. Bytes and arrivals are the receiver's word; a latency is the asker's, by its own clock.

import '@stellwerk/protocol/messages/all.ts'
import { registry } from '@stellwerk/protocol/messages/family.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { Histogram } from './histogram.ts'
import { RecentMap } from './recent-map.ts'

export interface KindStats {
  readonly kind: string
  sent: number
  received: number
  bytes: number
  replies: number
  failed: number
  /** Request to reply, ms. */
  readonly latency: Histogram
}

export interface LinkStats {
  readonly from: string
  readonly to: string
  received: number
  bytes: number
}

export interface BeatStats {
  readonly kind: string
  readonly from: string
  readonly to: string
  /** Between two arrivals, ms. */
  readonly interval: Histogram
  /** By how much the time between two arrivals was not that between their departures, ms. */
  readonly jitter: Histogram
}

interface Body {
  readonly kind: string
  readonly from: string
  readonly to: string
  readonly seq: number
  readonly re?: number
  readonly bytes?: number
  readonly code?: string
}

const BEATS = new Set(['cluster.beat', 'cluster.peer-beat'])
/** Requests and beats whose other end is waited for; the oldest are forgotten, and then not counted. */
const WAITING_MAX = 25_000
/** Beats further apart are of two runs, or of a host that was away. */
const TWO_RUNS_MS = 60_000

export class TraceStats {
  readonly #kinds = new Map<string, KindStats>()
  readonly #links = new Map<string, LinkStats>()
  readonly #beats = new Map<string, BeatStats>()
  readonly #asked = new RecentMap<string, number>(WAITING_MAX)
  readonly #departed = new RecentMap<string, number>(WAITING_MAX)
  readonly #lastBeat = new Map<string, { readonly sent: number | null; readonly received: number }>()
  records = 0
  fromMs = 0
  toMs = 0

  /** Of every message record, in the merged order. */
  observe(record: TraceRecord): void {
    if (record.kind !== 'message.sent' && record.kind !== 'message.received') return
    const body = record.body as unknown as Body
    if (this.records === 0) this.fromMs = record.hlc.wallMs
    this.toMs = record.hlc.wallMs
    this.records += 1
    if (record.kind === 'message.sent') this.#sent(record, body)
    else this.#received(record, body)
  }

  kinds(): KindStats[] {
    return [...this.#kinds.values()].sort((a, b) => b.bytes - a.bytes || (a.kind < b.kind ? -1 : 1))
  }

  links(): LinkStats[] {
    return [...this.#links.values()].sort((a, b) => b.bytes - a.bytes || (a.from + a.to < b.from + b.to ? -1 : 1))
  }

  beats(): BeatStats[] {
    const name = (beat: BeatStats) => `${beat.kind} ${beat.to} ${beat.from}`
    return [...this.#beats.values()].sort((a, b) => (name(a) < name(b) ? -1 : 1))
  }

  #sent(record: TraceRecord, body: Body): void {
    const { kind, from, to, seq, re } = body
    const stats = this.#kind(kind)
    if (re !== undefined) return
    stats.sent += 1
    // A kind of another version may be answered.
    if (registry.get(kind)?.reply !== null) this.#asked.set(`${record.process} ${from} ${to} ${kind} ${seq}`, record.at)
    if (BEATS.has(kind)) this.#departed.set(`${record.process}#${record.seq}`, record.at)
  }

  #received(record: TraceRecord, body: Body): void {
    const { kind, from, to, re, bytes = 0, code } = body
    const stats = this.#kind(kind)
    stats.bytes += bytes
    this.#link(record, from, bytes)
    if (re === undefined) {
      stats.received += 1
      if (BEATS.has(kind)) this.#beat(record, kind)
      return
    }
    stats.replies += 1
    if (code !== undefined) stats.failed += 1
    // The reply goes back the way the request came.
    const key = `${record.process} ${to} ${from} ${kind} ${re}`
    const askedAt = this.#asked.get(key)
    if (askedAt === undefined) return
    this.#asked.delete(key)
    if (record.at >= askedAt) stats.latency.add(record.at - askedAt)
  }

  #beat(record: TraceRecord, kind: string): void {
    const { cause, process: to, at: received } = record
    if (cause === undefined) return
    const key = `${kind} ${cause.process} ${to}`
    const departure = `${cause.process}#${cause.seq}`
    const sent = this.#departed.get(departure) ?? null
    this.#departed.delete(departure)
    const last = this.#lastBeat.get(key)
    this.#lastBeat.set(key, { sent, received })
    let stats = this.#beats.get(key)
    if (stats === undefined) {
      stats = { kind, from: cause.process, to, interval: new Histogram(), jitter: new Histogram() }
      this.#beats.set(key, stats)
    }
    if (last === undefined || received <= last.received || received - last.received > TWO_RUNS_MS) return
    stats.interval.add(received - last.received)
    if (sent === null || last.sent === null || sent <= last.sent) return
    stats.jitter.add(Math.abs(received - last.received - (sent - last.sent)))
  }

  #kind(kind: string): KindStats {
    let stats = this.#kinds.get(kind)
    if (stats === undefined) {
      stats = { kind, sent: 0, received: 0, bytes: 0, replies: 0, failed: 0, latency: new Histogram() }
      this.#kinds.set(kind, stats)
    }
    return stats
  }

  #link({ cause, process }: TraceRecord, sender: string, bytes: number): void {
    const from = cause?.process ?? sender
    const key = `${from} ${process}`
    const known = this.#links.get(key)
    if (known === undefined) this.#links.set(key, { from, to: process, received: 1, bytes })
    else {
      known.received += 1
      known.bytes += bytes
    }
  }
}
