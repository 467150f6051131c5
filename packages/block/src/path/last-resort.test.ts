// Standby, disabled and slow paths: which one is used when not all are as they should be.

import { describe, expect, it } from 'vitest'
import type { PathConfig } from './path-state.ts'
import { CONFIG, Harness } from './testing/core-harness.ts'

/** Two direct paths, the third is a standby one. */
const withStandby = (config: Partial<PathConfig> = {}): Harness => new Harness([0, 0, 10], config, 10)

/** The direct paths were lost, the standby one serves, and the first direct one is connected again. */
function onStandby(): Harness {
  const harness = withStandby()
  harness.step({ kind: 'start' })
  harness.connected(0)
  harness.connected(1)
  harness.lost(0, false)
  harness.lost(1, false)
  harness.bad(0)
  harness.bad(1)
  harness.connected(2)
  harness.connected(0)
  return harness
}

describe('a standby path (RIO1, RIO2)', () => {
  it('is not connected while another gives hope', () => {
    const harness = withStandby()
    expect(harness.step({ kind: 'start' })).toEqual(['connect 0@1', 'connect 1@1'])
    harness.connected(0)
    harness.connected(1)
    expect(harness.states()).toEqual(['up', 'up', 'standby'])
    harness.now += 10_000
    expect(harness.step({ kind: 'tick', probe: false, oldest: [null, null, null] })).toEqual([])
  })

  it('is connected when the first reconnect of the others takes too long, and looked at in time', () => {
    const harness = withStandby()
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.connected(1)
    expect(harness.lost(0, false)).toEqual(['probe 0', 'connect 0@1', 'path-state 0'])
    expect(harness.lost(1, false)).toEqual(['probe 1', 'connect 1@1', 'path-state 1'])
    expect(harness.core.nextLookAt).toBe(50)
    harness.now = 50
    expect(harness.step({ kind: 'tick', probe: false, oldest: [] })).toEqual(['connect 2@1', 'path-state 2'])
    harness.connected(2)
    expect([harness.core.candidates, harness.core.usable]).toEqual([[2], 'up'])
  })

  it('is connected at once when nobody answers, and not while the server only drains', () => {
    const harness = withStandby()
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.connected(1)
    harness.lost(0, false)
    harness.lost(1, false)
    harness.bad(0)
    // The other's server answers its probe: it will open the export when it has drained.
    harness.good(1)
    harness.now = 5_000
    expect(harness.step({ kind: 'tick', probe: false, oldest: [] })).toEqual([])
    expect(harness.bad(1)).toEqual(['connect 2@1', 'path-state 2'])
  })

  it('is left for a direct path only when that is trusted, and at once only when nothing is in flight on it', () => {
    const harness = onStandby()
    expect(harness.core.candidates).toEqual([2])
    harness.good(0)
    expect(harness.core.candidates).toEqual([2])
    harness.good(0)
    expect(harness.core.candidates).toEqual([0])
    expect(harness.tick(null, null, 5)).not.toContain('cut 2')
    harness.good(0)
    expect(harness.tick(null, null, null)).toContain('cut 2')
    expect(harness.states()[2]).toBe('standby')
  })

  it('is left in time though it never answers what is in flight on it, in a higher session (RIO1, IO3)', () => {
    const harness = onStandby()
    harness.good(0)
    harness.good(0)
    expect(harness.core.candidates).toEqual([0])
    harness.good(2)
    harness.now = 1_000
    expect(harness.step({ kind: 'tick', probe: false, oldest: [null, null, 0] })).not.toContain('cut 2')
    harness.now = 1_001
    expect(harness.step({ kind: 'tick', probe: false, oldest: [null, null, 0] })).toContain('cut 2')
    expect(harness.lost(2, true)).toContain('raise-session')
  })

  it('takes over from black holes, which are cut at the deadline, and are not trusted at their first answer', () => {
    const harness = withStandby()
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.connected(1)
    harness.tick(0, null, null)
    expect(harness.tick(0, null, null)).toContain('connect 2@1')
    // The very moment at which the request is past its deadline.
    expect(harness.core.nextLookAt).toBe(1001)
    harness.connected(2)
    expect(harness.core.candidates).toEqual([2])
    harness.now = 1001
    expect(harness.step({ kind: 'tick', probe: false, oldest: [0, null, null] })).toEqual(['cut 0'])
    expect(harness.lost(0, true)).toContain('raise-session')
    expect(harness.step({ kind: 'session-raised', session: 2 })).toContain('connect 2@2')
    harness.connected(2, 2)
    expect(harness.core.candidates).toEqual([2])
  })

  it('may itself time out: its next connection leads another way', () => {
    const harness = new Harness([10], {}, 10)
    expect(harness.step({ kind: 'start' })).toEqual(['connect 0@1', 'path-state 0'])
    harness.connected(0)
    harness.tick(0)
    harness.tick(0)
    harness.now = 1500
    expect(harness.step({ kind: 'tick', probe: false, oldest: [0] })).toContain('cut 0')
  })

  it('is cut when nothing on it is answered, though its probes are, with twice the patience each time (RIO1)', () => {
    const harness = new Harness([10], {}, 10)
    harness.step({ kind: 'start' })
    harness.connected(0)
    const cutAfter = (from: number): number => {
      for (harness.now = from; harness.now < 100_000; harness.now += CONFIG.probeIntervalMs) {
        harness.good(0)
        if (harness.step({ kind: 'tick', probe: false, oldest: [from] }).includes('cut 0')) break
      }
      harness.lost(0, false)
      harness.connected(0)
      return harness.now - from
    }
    const interval = CONFIG.probeIntervalMs
    expect(cutAfter(0)).toBe(CONFIG.requestDeadlineMs + interval)
    expect(cutAfter(2_000)).toBe(2 * CONFIG.requestDeadlineMs + interval)
    expect(cutAfter(5_000)).toBe(4 * CONFIG.requestDeadlineMs + interval)
    // An answer to any of them, and it is trusted as before.
    harness.now = 20_000
    harness.step({ kind: 'tick', probe: false, oldest: [20_000] })
    harness.step({ kind: 'tick', probe: false, oldest: [20_001] })
    expect(cutAfter(20_001)).toBe(CONFIG.requestDeadlineMs + interval)
  })

  it('is not cut for answers that are late, but come', () => {
    const harness = new Harness([10], {}, 10)
    harness.step({ kind: 'start' })
    harness.connected(0)
    for (let at = 0; at < 20_000; at += 500) {
      harness.now = at
      expect(harness.step({ kind: 'tick', probe: false, oldest: [Math.max(0, at - 900)] })).not.toContain('cut 0')
    }
  })
})

describe('a disabled path', () => {
  it('gets nothing while there is another, a standby one included, and everything when it is the last', () => {
    const harness = withStandby()
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.connected(1)
    harness.step({ kind: 'disable', path: 0, disabled: true })
    expect([harness.core.candidates, harness.states()]).toEqual([[1], ['disabled', 'up', 'standby']])
    expect(harness.step({ kind: 'disable', path: 1, disabled: true })).toContain('connect 2@1')
    expect(harness.core.candidates).toEqual([0, 1])
    harness.connected(2)
    expect(harness.core.candidates).toEqual([2])
    harness.lost(2, false)
    expect(harness.core.candidates).toEqual([0, 1])
    harness.step({ kind: 'disable', path: 0, disabled: false })
    expect(harness.core.candidates).toEqual([0])
  })

  it('may be one of the paths of a fixed policy, which can be set while it is open', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.step({ kind: 'policy', policy: 'fixed' })
    expect([harness.core.choose([9, 0]), harness.core.choose([9, 0])]).toEqual([0, 0])
    harness.step({ kind: 'disable', path: 0, disabled: true })
    expect(harness.core.choose([0, 9])).toBe(1)
  })
})

describe('a path that answers but slowly', () => {
  const look = (harness: Harness, ...medians: (number | null)[]): string[] => {
    harness.now += CONFIG.probeIntervalMs
    harness.good(0)
    harness.good(1)
    return harness.step({ kind: 'tick', probe: true, oldest: [null, null], medians })
  }

  it('is demoted at ten times its sibling’s latency, twice in a row, above the floor', () => {
    const harness = new Harness([0, 0]).connectAll()
    look(harness, 19, 1)
    look(harness, 19, 1)
    expect(harness.states()).toEqual(['up', 'up'])
    look(harness, 30, 4)
    look(harness, 50, 4)
    look(harness, 30, 4)
    look(harness, 50, 4)
    expect(harness.core.candidates).toEqual([0, 1])
    look(harness, 50, 4)
    expect([harness.core.candidates, harness.states()]).toEqual([[1], ['slow', 'up']])
    expect(harness.core.facts(0).why).toBe('requests take 50 ms, on its siblings 4.0')
  })

  it('rests, is tried again, and rests twice as long if it is slow again', () => {
    const harness = new Harness([0, 0], { slowHoldMs: 1_000 }).connectAll()
    const rest = (): number => {
      const from = harness.now
      while (harness.core.candidates.length === 1) look(harness, null, 1)
      return harness.now - from
    }
    look(harness, 100, 1)
    look(harness, 100, 1)
    expect(rest()).toBe(1_000)
    look(harness, 100, 1)
    expect(rest()).toBe(2_000)
    // Well for long enough, it is as if it had never been slow.
    for (let i = 0; i < 90; i += 1) look(harness, 1, 1)
    look(harness, 100, 1)
    expect(harness.core.candidates.length).toBe(2)
    look(harness, 100, 1)
    expect(rest()).toBe(1_000)
  })

  it('is measured by what is known of a sibling of which there is no news, until that is connected anew', () => {
    const harness = new Harness([0, 0]).connectAll()
    look(harness, null, 1)
    look(harness, 100, null)
    look(harness, null, null)
    look(harness, 100, null)
    expect(harness.core.candidates).toEqual([1])
    const other = new Harness([0, 0]).connectAll()
    look(other, null, 1)
    other.lost(1, false)
    look(other, null, null)
    other.connected(1)
    look(other, 100, null)
    look(other, 100, null)
    expect(other.states()[0]).toBe('up')
  })

  it('is used all the same when it is the only one, and never measured against a path that carries nothing', () => {
    const harness = new Harness([0, 0]).connectAll()
    look(harness, 100, null)
    look(harness, 100, null)
    expect(harness.states()).toEqual(['up', 'up'])
    look(harness, 100, 1)
    look(harness, 100, 1)
    expect(harness.core.candidates).toEqual([1])
    harness.lost(1, false)
    expect(harness.core.candidates).toEqual([0])
  })

  it('is trusted at once when its sibling is gone: nothing is redirected while it rests', () => {
    const harness = new Harness([0, 0], { slowHoldMs: 300_000 }).connectAll()
    look(harness, 100, 1)
    look(harness, 100, 1)
    expect(harness.states()).toEqual(['slow', 'up'])
    harness.lost(1, false)
    harness.now += CONFIG.probeIntervalMs
    harness.good(0)
    harness.step({ kind: 'tick', probe: true, oldest: [null, null], medians: [100, null] })
    expect(harness.states()[0]).toBe('up')
    expect(harness.core.facts(0).why).toBe('slow, but nothing stands in for it')
  })
})
