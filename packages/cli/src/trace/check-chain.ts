// What led to a violation: from each record of its proof back along causes, across processes, to where they meet. A record
// that names no cause is taken to follow from the last decision or message of its process about the same thing.
//
// Reads the trace twice, in little memory: first only who was caused by whom, then the records that are wanted.

import type { Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'

export interface ChainLink {
  readonly record: TraceRecord
  /** It is part of the proof; the others say how it came to that. */
  readonly proof: boolean
}

export interface ToExplain {
  readonly violation: Violation
  /** At which it was found; null: at the end. */
  readonly closing: TraceRecord | null
}

/** Steps back from what broke the rule, and from the rest of the proof, where they don't meet before. */
const STEPS_MAX = 12
const STEPS_OF_OTHERS = 6

const COORDINATOR = 'coordinator'
const NONE = -1

/** For each violation its chain, in the order of the records. */
export async function chainsOf(
  read: () => AsyncIterable<TraceRecord>,
  violations: readonly ToExplain[],
): Promise<(readonly ChainLink[])[]> {
  if (violations.length === 0) return []
  const causes = new Causes()
  const proofs = new Map<ToExplain, readonly number[]>()
  const waiting = new Set(violations)
  for await (const record of read()) {
    causes.add(record)
    for (const each of waiting) {
      if (each.closing === null || !isSame(each.closing, record)) continue
      waiting.delete(each)
      proofs.set(each, causes.find(each.violation))
    }
  }
  for (const each of waiting) proofs.set(each, causes.find(each.violation))
  const wanted = violations.map(each => chainOf(causes, proofs.get(each) ?? []))
  const records = await recordsAt(read, new Set(wanted.flatMap(chain => [...chain])))
  return violations.map((each, i) => {
    const proof = new Set(proofs.get(each))
    return [...(wanted[i] ?? [])]
      .sort((a, b) => a - b)
      .flatMap(at => {
        const record = records.get(at)
        return record === undefined ? [] : [{ record, proof: proof.has(at) }]
      })
  })
}

function isSame(a: TraceRecord, b: TraceRecord): boolean {
  return a.seq === b.seq && a.process === b.process && a.hlc.counter === b.hlc.counter && a.hlc.wallMs === b.hlc.wallMs
}

/** Records by their place in the trace; each run of a process counts its own from one, so the latest of a number counts. */
class Causes {
  readonly #parents: number[] = []
  /** Whether it is a decision: a good place to end a chain. */
  readonly #decisions: boolean[] = []
  readonly #processes = new Map<string, number[]>()
  /** `process subject` → the last decision or message of it about that. */
  readonly #abouts = new Map<string, number>()

  add(record: TraceRecord): void {
    const at = this.#parents.length
    this.#parents.push(this.#parentOf(record))
    this.#decisions.push(record.level === 'decision')
    if (record.seq > 0) this.#of(record.process)[record.seq] = at
    // What time alone makes the coordinator decide follows from what it had decided, not from the talk in between.
    if (record.level === 'io' || (record.level === 'message' && record.process === COORDINATOR)) return
    for (const about of aboutsOf(record)) this.#abouts.set(about, at)
  }

  find(violation: Violation): number[] {
    return violation.records.flatMap(({ process, seq }) => {
      const at = this.#processes.get(process)?.[seq]
      return at === undefined ? [] : [at]
    })
  }

  parent(at: number): number {
    return this.#parents[at] ?? NONE
  }

  isDecision(at: number): boolean {
    return this.#decisions[at] === true
  }

  #parentOf(record: TraceRecord): number {
    const { cause } = record
    if (cause !== undefined) {
      const at = this.#processes.get(cause.process)?.[cause.seq]
      if (at !== undefined) return at
    }
    let latest = NONE
    for (const about of aboutsOf(record)) latest = Math.max(latest, this.#abouts.get(about) ?? NONE)
    return latest
  }

  #of(process: string): number[] {
    let seqs = this.#processes.get(process)
    if (seqs === undefined) {
      seqs = []
      this.#processes.set(process, seqs)
    }
    return seqs
  }
}

/** What a body calls what it is about, where the ids don't. */
const NAMES = ['subject', 'from', 'host'] as const

/** What the record is about, to its process. An agent's own host is no subject: all that it records is about that. */
function aboutsOf({ process, migration, vm, disk, volume, host, body }: TraceRecord): string[] {
  const own = host !== undefined && process.startsWith(`${host}/`)
  const abouts: string[] = []
  if (migration !== undefined) abouts.push(`${process} ${migration}`)
  if (vm !== undefined) abouts.push(`${process} ${vm}`)
  if (disk !== undefined) abouts.push(`${process} ${disk}`)
  // A volume's records are many and of all hosts: only what is of this host on it counts.
  if (volume !== undefined) abouts.push(`${process} ${volume} ${host ?? ''}`)
  else if (host !== undefined && !own) abouts.push(`${process} ${host}`)
  if (process !== COORDINATOR || typeof body !== 'object' || body === null) return abouts
  const { saw } = body as { readonly saw?: unknown }
  for (const part of [body, saw]) {
    if (typeof part !== 'object' || part === null) continue
    for (const name of NAMES) {
      const value = (part as { readonly [name: string]: unknown })[name]
      if (typeof value === 'string') abouts.push(`${process} ${value}`)
    }
  }
  return abouts
}

function chainOf(causes: Causes, proof: readonly number[]): ReadonlySet<number> {
  const last = proof.at(-1)
  if (last === undefined) return new Set()
  const others = proof.slice(0, -1)
  const paths = proof.map(at => pathOf(causes, at))
  const meeting = meetingOf(paths)
  const chain = new Set<number>()
  if (meeting !== NONE) {
    for (const path of paths) for (const at of path.slice(0, path.indexOf(meeting) + 1)) chain.add(at)
    // And what that came from, while there is room.
    for (const at of pathOf(causes, meeting)) if (chain.size < STEPS_MAX) chain.add(at)
    return chain
  }
  for (const at of (paths.at(-1) ?? []).slice(0, STEPS_MAX)) chain.add(at)
  for (const [i] of others.entries()) {
    for (const at of (paths[i] ?? []).slice(0, STEPS_OF_OTHERS)) {
      chain.add(at)
      if (at !== others[i] && causes.isDecision(at)) break
    }
  }
  return chain
}

/** From the record back. */
function pathOf(causes: Causes, from: number): number[] {
  const path: number[] = []
  for (let at = from; at !== NONE && path.length < 4 * STEPS_MAX; at = causes.parent(at)) path.push(at)
  return path
}

/** The latest record that all of them lead back to, not too far off. */
function meetingOf(paths: readonly (readonly number[])[]): number {
  const [first, ...others] = paths
  if (first === undefined || others.length === 0) return NONE
  for (const at of first.slice(0, 2 * STEPS_MAX)) {
    if (others.every(path => path.slice(0, 2 * STEPS_MAX).includes(at))) return at
  }
  return NONE
}

async function recordsAt(
  read: () => AsyncIterable<TraceRecord>,
  wanted: ReadonlySet<number>,
): Promise<Map<number, TraceRecord>> {
  const records = new Map<number, TraceRecord>()
  let at = 0
  for await (const record of read()) {
    if (wanted.has(at)) records.set(at, record)
    at += 1
    if (records.size === wanted.size) break
  }
  return records
}
