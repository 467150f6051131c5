// Two traces compared, process by process: the first record in which they differ, with what stands before and after it.

import { isDeepStrictEqual } from 'node:util'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { TraceSource } from './source.ts'

export interface Difference {
  readonly process: string
  /** How many records are the same before it. */
  readonly same: number
  readonly before: readonly TraceRecord[]
  /** The first that differs, and some after it; empty: that trace ends here. */
  readonly a: readonly TraceRecord[]
  readonly b: readonly TraceRecord[]
  /** What differs, each as far down as it can be told: `at`, `body.saw.epoch`; none where one of the traces ends. */
  readonly fields: readonly string[]
}

export interface Comparison {
  /** In the order in which the traces part. */
  readonly differences: readonly Difference[]
  /** Records that are the same in both, of all processes. */
  readonly same: number
  /** Processes that only one of them has. */
  readonly onlyA: readonly string[]
  readonly onlyB: readonly string[]
}

export interface DiffOptions {
  readonly a: TraceReadOptions
  readonly b: TraceReadOptions
  /** Records before and after. */
  readonly context: number
  /** Clocks and numbers are not compared: for runs of which each has its own. */
  readonly ignoreTimes: boolean
  /** Of these processes only. */
  readonly names?: readonly string[]
}

const FIELDS = ['seq', 'level', 'kind', 'host', 'vm', 'volume', 'disk', 'migration', 'cause', 'body'] as const
const TIMES = ['hlc', 'at'] as const

export async function compare(a: TraceSource, b: TraceSource, options: DiffOptions): Promise<Comparison> {
  const wanted = (name: string) => options.names?.includes(name) ?? true
  const [namesA, namesB] = [a.names.filter(wanted), b.names.filter(wanted)]
  const differences: Difference[] = []
  let same = 0
  for (const process of namesA.filter(name => namesB.includes(name))) {
    const found = await compareProcess(a, b, process, options)
    same += found.same
    if (found.difference !== null) differences.push(found.difference)
  }
  return {
    differences: differences.sort((x, y) => whenOf(x) - whenOf(y)),
    same,
    onlyA: namesA.filter(name => !namesB.includes(name)),
    onlyB: namesB.filter(name => !namesA.includes(name)),
  }
}

function whenOf({ a, b }: Difference): number {
  const times = [a[0], b[0]].filter(record => record !== undefined).map(record => record.hlc.wallMs)
  return Math.min(...times)
}

async function compareProcess(a: TraceSource, b: TraceSource, process: string, options: DiffOptions) {
  const left = a.records(options.a, [process])
  const right = b.records(options.b, [process])
  const before: TraceRecord[] = []
  try {
    for (let same = 0; ; same++) {
      const x = await next(left)
      const y = await next(right)
      if (x === null && y === null) return { same, difference: null }
      const fields = x === null || y === null ? [] : fieldsOf(x, y, options.ignoreTimes)
      if (x !== null && y !== null && fields.length === 0) {
        before.push(x)
        if (before.length > options.context) before.shift()
        continue
      }
      const after = async (first: TraceRecord | null, rest: AsyncGenerator<TraceRecord>) =>
        first === null ? [] : [first, ...(await some(rest, options.context))]
      const difference = { process, same, before, a: await after(x, left), b: await after(y, right), fields }
      return { same, difference }
    }
  } finally {
    await left.return(undefined)
    await right.return(undefined)
  }
}

function fieldsOf(x: TraceRecord, y: TraceRecord, ignoreTimes: boolean): string[] {
  const names = ignoreTimes ? FIELDS.filter(field => field !== 'seq' && field !== 'cause') : [...TIMES, ...FIELDS]
  return names.filter(name => !isDeepStrictEqual(x[name], y[name])).map(name => pathOf(name, x[name], y[name]))
}

/** Down to the one place in which two values differ, or to where they differ in several. */
function pathOf(path: string, x: unknown, y: unknown): string {
  if (typeof x !== 'object' || typeof y !== 'object' || x === null || y === null) return path
  const keys = [...new Set([...Object.keys(x), ...Object.keys(y)])]
  const [a, b] = [x, y] as { readonly [key: string]: unknown }[]
  const differing = keys.filter(key => !isDeepStrictEqual(a?.[key], b?.[key]))
  const [only] = differing
  return differing.length === 1 && only !== undefined ? pathOf(`${path}.${only}`, a?.[only], b?.[only]) : path
}

async function next(records: AsyncGenerator<TraceRecord>): Promise<TraceRecord | null> {
  const { done, value } = await records.next()
  return done === true ? null : value
}

async function some(records: AsyncGenerator<TraceRecord>, count: number): Promise<TraceRecord[]> {
  const found: TraceRecord[] = []
  while (found.length < count) {
    const record = await next(records)
    if (record === null) break
    found.push(record)
  }
  return found
}
