// New records of all processes as they are written, within about a second of it, in the order in which they happened as far as
// that can be known so soon: what is read is held for one more look, as others' may come in meanwhile.

import { basename } from 'node:path'
import { segmentNumber } from '@stellwerk/protocol/trace/file-writer.ts'
import { compareRecords } from '@stellwerk/protocol/trace/reader.ts'
import type { TailOptions } from '@stellwerk/protocol/trace/tail.ts'
import { TraceTail } from '@stellwerk/protocol/trace/tail.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import type { TraceSource, TraceStream } from './source.ts'

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
  const tails = new Map<string, Tail>()
  const take = (from: TraceSource) => {
    for (const stream of from.streamsOf(names)) {
      const key = `${stream.directory} ${stream.process}`
      if (!tails.has(key)) tails.set(key, tailOf(from, stream, reading))
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

type Tail = Pick<TraceTail, 'poll'>

/** From the first of its segments on. Those that copying has given other names are nobody's to write to: they are read once. */
function tailOf(source: TraceSource, stream: TraceStream, reading: TailOptions): Tail {
  const { directory, segments } = stream
  if (segments.every(path => segmentNumber(basename(path)) !== null)) {
    return new TraceTail(source.files, directory, reading, segments[0])
  }
  let isRead = false
  return {
    async *poll() {
      if (isRead) return
      isRead = true
      yield* source.batchesOf(stream, reading)
    },
  }
}

/** What has come to any of them, in order; not many more than the last `most`. */
async function look(tails: ReadonlyMap<string, Tail>, most: number): Promise<TraceRecord[]> {
  const found: TraceRecord[] = []
  for (const tail of tails.values()) {
    let own: TraceRecord[] = []
    for await (const batch of tail.poll()) {
      for (const record of batch) own.push(record)
      if (own.length > 2 * most) own = own.slice(-most)
    }
    // One by one: as arguments of one call a busy hour has too many.
    for (const record of own) found.push(record)
  }
  return found.sort(compareRecords)
}
