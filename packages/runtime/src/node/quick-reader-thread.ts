// The thread of quick-reader.ts: reads what the ring asks for, one after the other, as long as the page cache has it.

import { readSync } from 'node:fs'
import { ASKED, DONE, GIVEN_BACK, QUICK_READ_MAX_BYTES, RING_SLOTS, ringOn, TOLD } from './quick-ring.ts'
import { thisWorkerThread } from './worker-thread.ts'

/** A read that took longer was not in the page cache: what stands behind it must not wait for this one thread. */
const SLOW_READ_MS = 1

const thread = thisWorkerThread()
const { counters, fds, lengths, results, offsets, data } = ringOn(thread.data as SharedArrayBuffer)

/** How long the last read took. */
let elapsedMs = 0
let done = 0
for (;;) {
  const asked = Atomics.load(counters, ASKED)
  if (asked === done) {
    Atomics.wait(counters, ASKED, done)
    continue
  }
  let slow = false
  while (done !== asked) {
    const slot = done & (RING_SLOTS - 1)
    results[slot] = slow ? GIVEN_BACK : read(slot)
    slow ||= elapsedMs > SLOW_READ_MS
    done = (done + 1) | 0
    Atomics.store(counters, DONE, done)
    if (Atomics.exchange(counters, TOLD, 1) === 0) thread.post(null)
  }
}

function read(slot: number): number {
  const startedAt = performance.now()
  try {
    return readSync(fds[slot]!, data, slot * QUICK_READ_MAX_BYTES, lengths[slot]!, offsets[slot]!)
  } catch {
    // The thread pool reads it again, and it is its error that is told.
    return GIVEN_BACK
  } finally {
    elapsedMs = performance.now() - startedAt
  }
}
