// Connections that are black holes while the probes are answered, and those that only look like it.

import { describe, expect, it } from 'vitest'
import { CONFIG, Harness } from './testing/core-harness.ts'

const { requestDeadlineMs, probeIntervalMs } = CONFIG

/** Ticks until then, with all probes answered; gives what was done, but for probes and what is shown. */
function until(
  harness: Harness,
  end: number,
  oldest: readonly (number | null)[],
  answered: (now: number) => readonly (number | null)[],
): string[] {
  const done: string[] = []
  while (harness.now < end) {
    done.push(...harness.tickAnswered(oldest, answered(harness.now)))
    for (let path = 0; path < harness.paths; path += 1) harness.good(path)
  }
  return done.filter(each => !/^(probe|path-state)/.test(each))
}

describe('a black hole to all but probes (RIO1)', () => {
  it('is asked when a request is past its time, as its siblings are, and cut when only they answer', () => {
    const harness = new Harness([0, 0]).connectAll()
    expect(until(harness, requestDeadlineMs, [0, null], () => [null, null])).toEqual([])
    const asked = requestDeadlineMs + probeIntervalMs
    expect(until(harness, asked, [0, null], () => [null, null])).toEqual(['ask 0', 'ask 1'])
    const answers = until(harness, asked + requestDeadlineMs, [0, null], now => [null, now])
    expect(answers.filter(each => !each.startsWith('ask'))).toEqual([])
    expect(until(harness, asked + requestDeadlineMs + 1, [0, null], now => [null, now])).toContain('cut 0')
    expect(harness.lost(0, true)).toContain('raise-session')
    harness.step({ kind: 'session-raised', session: 2 })
    harness.connected(0)
    harness.connected(1)
    for (let probes = 0; probes < 5; probes += 1) harness.good(0)
    // It may be connected again, and probed well: its sibling has what there is.
    expect([harness.states(), harness.core.candidates]).toEqual([['slow', 'up'], [1]])
  })

  it('is none where its own read is answered: the request is with the disk', () => {
    const harness = new Harness([0, 0]).connectAll()
    const done = until(harness, 20 * requestDeadlineMs, [0, null], now => [now, now])
    expect(new Set(done)).toEqual(new Set(['ask 0', 'ask 1']))
  })

  it('is none where nobody answers, and none where the only other was answered before it was asked: it is the storage', () => {
    const harness = new Harness([0, 0]).connectAll()
    const done = until(harness, 20 * requestDeadlineMs, [0, 0], () => [null, requestDeadlineMs])
    expect(new Set(done)).toEqual(new Set(['ask 0', 'ask 1']))
  })

  it('is no concern of one whose probes fail: that is cut at the deadline', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.tick(0, null)
    harness.bad(0)
    expect(harness.tick(0, null)).not.toContain('ask 0')
  })

  it('on every direct path makes the standby one connect, which must answer before they are cut', () => {
    const harness = new Harness([0, 0, 10], {}, 10)
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.connected(1)
    const asked = requestDeadlineMs + probeIntervalMs
    const silence = until(harness, asked + requestDeadlineMs + probeIntervalMs, [0, 0, null], () => [null, null, null])
    expect(new Set(silence)).toEqual(new Set(['ask 0', 'ask 1', 'connect 2@1']))
    harness.connected(2)
    // It stays while nobody answers, and takes nothing.
    const still = until(harness, harness.now + 5 * probeIntervalMs, [0, 0, null], () => [null, null, null])
    expect([new Set(still), harness.core.candidates]).toEqual([new Set(['ask 0', 'ask 1', 'ask 2']), [0, 1]])
    expect(until(harness, harness.now + 1, [0, 0, null], now => [null, null, now])).toContain('cut 0')
    harness.lost(0, false)
    expect(
      harness.step({ kind: 'tick', probe: false, oldest: [null, 0, null], answered: [null, null, harness.now] }),
    ).toContain('cut 1')
    harness.lost(1, false)
    expect(harness.core.candidates).toEqual([2])
  })
})
