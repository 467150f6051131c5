// New records of all processes as they are written, within about a second of it, in the order in which they happened as far as
// that can be known so soon: what is read is held for one more look, as others' may come in meanwhile.

import { compareRecords } from '@stellwerk/protocol/trace/reader.ts'
import type { TailOptions } from '@stellwerk/protocol/trace/tail.ts'
import { TraceTail } from '@stellwerk/protocol/trace/tail.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import type { TraceSource } from './source.ts'

const LOOK_EVERY_MS = 250
/** Looks between two looks for processes that are new. */
const REOPEN_EVERY = 8

export interface FollowOptions extends TailOptions {
  /** Of what is there already, the last so many come first. */
  readonly last: number
  readonly names?: readonly string[]
  /** Opens the source anew: a process may have begun its trace. */
  readonly reopen: () => Promise<TraceSource>
  readonly onRecord: (record: TraceRecord) => void
  /** Asked after each look. */
  readonly isOver: () => boolean
}

export async function follow(source: TraceSource, options: FollowOptions): Promise<void> {
  const { last, names, reopen, onRecord, isOver, ...reading } = options
  const timers = createTimers(createClock())
  const tails = new Map<string, TraceTail>()
  const take = (from: TraceSource) => {
    for (const { directory } of from.streamsOf(names)) {
      if (!tails.has(directory)) tails.set(directory, new TraceTail(from.files, directory, reading))
    }
  }
  take(source)
  let held = (await look(tails, last)).slice(-last)
  for (let looks = 1; ; looks++) {
    const bound = held.at(-1)
    const all = [...held, ...(await look(tails, Number.POSITIVE_INFINITY))].sort(compareRecords)
    // What has been held goes now, and with it what came since and lies before it.
    const ripe = bound === undefined ? 0 : all.findLastIndex(record => compareRecords(record, bound) <= 0) + 1
    for (const record of all.slice(0, ripe)) onRecord(record)
    held = all.slice(ripe)
    if (isOver()) return
    await new Promise<void>(resolve => timers.after(LOOK_EVERY_MS, resolve))
    if (looks % REOPEN_EVERY === 0) take(await reopen())
  }
}

/** What has come to any of them, in order; not many more than the last `most`. */
async function look(tails: ReadonlyMap<string, TraceTail>, most: number): Promise<TraceRecord[]> {
  const found: TraceRecord[] = []
  for (const tail of tails.values()) {
    let own: TraceRecord[] = []
    for await (const batch of tail.poll()) {
      own.push(...batch)
      if (own.length > 2 * most) own = own.slice(-most)
    }
    found.push(...own)
  }
  return found.sort(compareRecords)
}
