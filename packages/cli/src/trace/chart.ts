// A sequence chart: who told whom what, what each then did, and how long each phase took against its budget. Built from the
// records that belong to it; how it looks is chart-text.ts and chart-mermaid.ts.

import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { Runs } from './show-causes.ts'
import type { TraceSource } from './source.ts'

export interface Chart {
  readonly kind: 'migration' | 'outage'
  readonly id: string
  readonly title: string
  /** How it ended, in a sentence. */
  readonly outcome: string
  /** Wall time of the first and the last step, ms since 1970. */
  readonly startMs: number
  readonly endMs: number
  readonly participants: readonly string[]
  readonly phases: readonly Phase[]
  readonly steps: readonly Step[]
  /** There was more than a chart has room for. */
  readonly isCut: boolean
}

export interface Phase {
  readonly name: string
  readonly fromMs: number
  /** Null: the trace ends before. */
  readonly toMs: number | null
  /** Null: there is none, or the trace does not tell. */
  readonly budgetMs: number | null
  /** The record that it begins with, where one does. */
  readonly from?: { readonly process: string; readonly seq: number }
  /** It is all of the others together. */
  readonly isWhole?: true
}

interface StepBase {
  readonly atMs: number
  readonly what: string
  /** The record that says so. */
  readonly process: string
  readonly seq: number
}

export type Step = MessageStep | EventStep

export interface MessageStep extends StepBase {
  readonly kind: 'message'
  readonly from: string
  readonly to: string
  readonly isReply: boolean
  /** Null: it was not received, or its receiver took that along when it died. */
  readonly receivedMs: number | null
  /** The code of a reply that failed. */
  readonly error: string | null
  /** It was said so often, the last time at `untilMs`. */
  readonly times: number
  readonly untilMs: number
}

export interface EventStep extends StepBase {
  readonly kind: 'event'
  readonly at: string
}

export const STEPS_MAX = 2_000
/** What is said more often between the same two is told once, with how often. */
const REPEATS_MAX = 3

/** Messages that go on all the time: whatever they follow from, they tell nothing of it. */
export const CHATTER = ['cluster.', 'storage.probe', 'network.', 'redirect.', 'volume.put-cluster-copy']

/** Whose column an actor or a process has: its host's, but a guardian is one of its own. */
export function participantOf(address: string): string {
  const [first = address, second] = address.split('/')
  return second === 'guardian' ? `${first}/guardian` : first
}

type Open = { -readonly [K in keyof MessageStep]: MessageStep[K] }

/** Takes the records that belong to a chart, in the merged order. */
export class ChartBuilder {
  readonly #steps: Step[] = []
  readonly #sent = new Map<string, Open>()
  readonly #describe: (record: TraceRecord) => string
  isCut = false

  constructor(describe: (record: TraceRecord) => string) {
    this.#describe = describe
  }

  /** `id` and `cause`: as Runs has them. */
  take(record: TraceRecord, id: string | null, cause: string | null): void {
    if (record.kind === 'message.received') this.#received(record, cause)
    else if (this.#steps.length >= STEPS_MAX) this.isCut = true
    else if (record.kind === 'message.sent') this.#add(messageOf(record, record.process, null), id)
    else this.#steps.push(this.#event(record))
  }

  /** In order, repetitions drawn together. */
  steps(): Step[] {
    const said = new Map<string, Open[]>()
    const keyOf = (step: MessageStep) => `${step.from}\0${step.to}\0${step.what}\0${step.isReply}\0${step.error}`
    for (const step of this.#steps) {
      if (step.kind !== 'message') continue
      const key = keyOf(step)
      said.set(key, [...(said.get(key) ?? []), step as Open])
    }
    const gone = new Set<Step>()
    for (const [first, ...others] of said.values()) {
      if (first === undefined || others.length < REPEATS_MAX) continue
      first.times = others.length + 1
      first.untilMs = others.at(-1)?.atMs ?? first.atMs
      for (const other of others) gone.add(other)
    }
    return this.#steps.filter(step => !gone.has(step))
  }

  #add(step: Open, id: string | null): void {
    this.#steps.push(step)
    if (id !== null) this.#sent.set(id, step)
  }

  #received(record: TraceRecord, cause: string | null): void {
    const sent = cause === null ? undefined : this.#sent.get(cause)
    if (sent !== undefined) {
      sent.receivedMs = record.hlc.wallMs
      sent.to = participantOf(record.process)
      return
    }
    if (this.#steps.length >= STEPS_MAX) {
      this.isCut = true
      return
    }
    // Its sender died before that was on its disk.
    const from = (record.body as { readonly from?: string }).from ?? record.cause?.process ?? '?'
    this.#add({ ...messageOf(record, from, record.hlc.wallMs), to: participantOf(record.process) }, null)
  }

  #event(record: TraceRecord): EventStep {
    const { process, seq, host, hlc } = record
    // What the simulator knows of a host stands with that host.
    const at = process === 'simulator' && host !== undefined ? host : participantOf(process)
    return { kind: 'event', atMs: hlc.wallMs, at, what: this.#describe(record), process, seq }
  }
}

function messageOf(record: TraceRecord, from: string, receivedMs: number | null): Open {
  const body = record.body as { kind: string; to: string; re?: number; code?: string }
  const { process, seq, hlc } = record
  return {
    ...{ kind: 'message', atMs: hlc.wallMs, what: body.kind, process, seq, from: participantOf(from) },
    ...{ to: participantOf(body.to), isReply: body.re !== undefined, receivedMs, error: body.code ?? null },
    ...{ times: 1, untilMs: hlc.wallMs },
  }
}

/** Before which step, by its index, each phase begins; after the last: where nothing more is told. */
export function phasesByStep({ phases, steps }: Chart): Map<number, Phase[]> {
  const begun = new Map<number, Phase[]>()
  for (const phase of phases.filter(({ isWhole }) => !isWhole).sort((a, b) => a.fromMs - b.fromMs)) {
    const { from, fromMs } = phase
    const own = steps.findIndex(step => step.process === from?.process && step.seq === from.seq)
    const later = own >= 0 ? own : steps.findIndex(step => step.atMs >= fromMs)
    const at = later >= 0 ? later : steps.length
    begun.set(at, [...(begun.get(at) ?? []), phase])
  }
  return begun
}

/** Which columns there are: those given, as far as they take part, then all others by name. */
export function participantsOf(steps: readonly Step[], first: readonly string[]): string[] {
  const all = new Set(steps.flatMap(step => (step.kind === 'message' ? [step.from, step.to] : [step.at])))
  const others = [...all].filter(name => !first.includes(name)).sort()
  return [...first.filter(name => all.has(name)), ...others]
}

/** An event in few words: what was chosen and why, or the kind with what its body says in plain values. */
export function eventText(record: TraceRecord, leaveOut: readonly string[] = []): string {
  const { kind, vm, volume, body } = record
  const fields = typeof body === 'object' && body !== null && !Array.isArray(body) ? body : {}
  const { chose, why, subject } = fields as { readonly [key: string]: Json }
  if (kind.startsWith('decision.') && typeof chose === 'string') {
    const about = typeof subject === 'string' && !leaveOut.includes(subject) ? `${subject}: ` : ''
    return `${kind.slice('decision.'.length)}: ${about}${chose}${typeof why === 'string' ? ` (${why})` : ''}`
  }
  const about = [vm, volume].filter(name => name !== undefined && !leaveOut.includes(name))
  const says = Object.entries(fields)
    .filter(([key, value]) => !UNSAID.has(key) && (typeof value === 'string' || typeof value === 'number'))
    .map(([key, value]) => `${key} ${value}`)
  return [kind, ...about, ...(says.length === 0 ? [] : [`(${says.join(', ')})`])].join(' ')
}

/** Of no interest in a line. */
const UNSAID = new Set(['instance', 'checksum', 'term', 'subject', 'source', 'target', 'from', 'to'])

/** Records of a time, each with its id and that of its cause, and whether it belongs; what a member led to is asked about too. */
export async function gather(
  source: TraceSource,
  options: TraceReadOptions,
  builder: ChartBuilder,
  belongs: (record: TraceRecord, byMember: boolean) => boolean,
): Promise<TraceRecord[]> {
  const runs = new Runs()
  const members = new Set<string>()
  const records: TraceRecord[] = []
  for await (const record of source.records(options)) {
    const id = runs.observe(record)
    const cause = record.cause === undefined ? null : runs.resolve(record.cause)
    if (!belongs(record, cause !== null && members.has(cause))) continue
    if (id !== null) members.add(id)
    if (!builder.isCut) records.push(record)
    builder.take(record, id, cause)
  }
  return records
}
