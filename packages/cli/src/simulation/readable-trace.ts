// One seed's run for people: decisions, faults and orders in the order in which they happened, with true times; what the
// guests acknowledged is drawn together.

import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'

/** Said by others in more words, or too often. */
const QUIET = new Set(['storage.session', 'storage.admitted', 'fault.began'])
const BODY_CHARS_MAX = 160

interface Heard {
  first: number
  last: number
  readonly host: string
}

export class ReadableTrace {
  readonly #print: (line: string) => void
  readonly #heard = new Map<string, Heard>()

  constructor(print: (line: string) => void) {
    this.#print = print
  }

  observe(record: TraceRecord): void {
    const { vm } = record
    if (record.kind === 'guest.acknowledged' && vm !== undefined) {
      this.#hear(record, vm)
      return
    }
    if (record.level !== 'decision' || QUIET.has(record.kind)) return
    // What a guest said before something happened to it, or to the world, stands before it.
    if (vm !== undefined) this.#tell(vm, record.at)
    else if (record.kind.startsWith('fault') || record.kind.startsWith('process.')) this.finish(record.at)
    this.#print(line(record))
  }

  finish(at: number): void {
    for (const vm of [...this.#heard.keys()]) this.#tell(vm, at)
  }

  #hear(record: TraceRecord, vm: string): void {
    const entry = (record.body as { entry: number }).entry
    const host = record.host ?? ''
    const heard = this.#heard.get(vm)
    if (heard !== undefined && heard.host === host && entry === heard.last + 1) {
      heard.last = entry
      return
    }
    this.#tell(vm, record.at)
    this.#heard.set(vm, { first: entry, last: entry, host })
  }

  #tell(vm: string, at: number): void {
    const heard = this.#heard.get(vm)
    if (heard === undefined) return
    this.#heard.delete(vm)
    const { first, last, host } = heard
    const entries = first === last ? `entry ${first}` : `entries ${first}–${last}`
    this.#print(`${time(at)}  ${host.padEnd(18)} ${vm} has acknowledged ${entries}`)
  }
}

function time(at: number): string {
  return (at / 1000).toFixed(4).padStart(10)
}

function line(record: TraceRecord): string {
  const { at, process, kind, host, vm, volume, disk, migration, body } = record
  const about = [vm, volume, disk, migration, process.startsWith(`${host}/`) || process === host ? undefined : host]
  const words = about.filter(each => each !== undefined).join(' ')
  return `${time(at)}  ${process.padEnd(18)} ${kind}${words === '' ? '' : ` ${words}`}${plain(body)}`
}

function plain(body: Json | undefined): string {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return ''
  const { subject, chose, why } = body as { readonly [key: string]: Json }
  // Of a decision, what else it saw and rejected is in its record.
  if (chose !== undefined && why !== undefined) return ` ${subject}: ${chose} (${why})`
  const text = Object.entries(body)
    .map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
  if (text === '') return ''
  return `: ${text.length <= BODY_CHARS_MAX ? text : `${text.slice(0, BODY_CHARS_MAX)} …`}`
}
