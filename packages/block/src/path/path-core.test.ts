// The decisions of a multipath set, step by step; no clock but the test's.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PathInput } from './path-state.ts'
import { describeEffect, Harness } from './testing/core-harness.ts'

describe('path core', () => {
  it('connects all paths at the start and uses the best of them', () => {
    const harness = new Harness([0, 0, 10])
    expect(harness.step({ kind: 'start' })).toEqual(['connect 0@1', 'connect 1@1', 'connect 2@1'])
    expect(harness.core.choose([0, 0, 0])).toBe(null)
    harness.connected(2)
    expect([harness.core.candidates, harness.core.usable]).toEqual([[2], 'up'])
    harness.connected(0)
    harness.connected(1)
    expect(harness.core.candidates).toEqual([0, 1])
    expect(harness.states()).toEqual(['up', 'up', 'up'])
  })

  it('takes the shortest queue, and goes round among equals', () => {
    const { core } = new Harness([0, 0]).connectAll()
    expect(core.choose([3, 1])).toBe(1)
    expect(core.choose([0, 1])).toBe(0)
    expect(new Set([core.choose([2, 2]), core.choose([2, 2])])).toEqual(new Set([0, 1]))
  })

  it('keeps to the first path under the fixed policy', () => {
    const harness = new Harness([0, 0], { policy: 'fixed' }).connectAll()
    expect(harness.core.choose([9, 0])).toBe(0)
    harness.lost(0, false)
    expect(harness.core.choose([0, 0])).toBe(1)
  })

  it('dials a path lost without open writes again, in the same session', () => {
    const harness = new Harness([0, 0]).connectAll()
    expect(harness.lost(0, false)).toEqual(['connect 0@1', 'path-state 0'])
    expect(harness.core.candidates).toEqual([1])
  })

  it('IO3: raises the session when writes of unknown outcome are lost, and retires every connection of the old one', () => {
    const harness = new Harness([0, 0]).connectAll()
    expect(harness.lost(0, true)).toEqual(['raise-session', 'path-state 0'])
    expect(harness.core.candidates).toEqual([])
    expect(harness.core.nextLookAt).toBe(null)
    expect(harness.step({ kind: 'session-raised', session: 2 })).toEqual([
      'retire 1',
      'connect 1@2',
      'connect 0@2',
      'path-state 0',
      'path-state 1',
    ])
    expect(harness.core.candidates).toEqual([])
    expect(harness.connected(1)).toEqual(['cut-retired', 'path-state 1'])
    expect(harness.core.candidates).toEqual([1])
  })

  it('IO3: gives up an attempt to connect in the old session', () => {
    const harness = new Harness([0, 0])
    harness.step({ kind: 'start' })
    harness.connected(0)
    harness.lost(0, true)
    const effects = harness.step({ kind: 'session-raised', session: 5 })
    expect(effects.slice(0, 3)).toEqual(['cancel-connect 1', 'connect 1@5', 'connect 0@5'])
    expect(
      harness.step({ kind: 'connect-failed', path: 1, session: 1, message: 'late', fatal: 'session-superseded' }),
    ).toEqual([])
    expect(() => harness.connected(1, 1)).toThrow()
  })

  it('does not raise twice for what a retired connection loses', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.lost(0, true)
    harness.step({ kind: 'session-raised', session: 2 })
    expect(harness.lost(1, true, 1)).toEqual([])
    harness.connected(0)
    expect(harness.core.candidates).toEqual([0])
  })

  it('backs off, bounded, while a path cannot be connected, and starts anew after a good probe', () => {
    const harness = new Harness([0])
    harness.step({ kind: 'start' })
    const waits: number[] = []
    for (let attempt = 0; attempt < 8; attempt += 1) {
      harness.step({ kind: 'connect-failed', path: 0, session: 1, message: 'refused', fatal: null })
      waits.push(harness.core.nextLookAt! - harness.now)
      harness.now = harness.core.nextLookAt!
      expect(harness.step({ kind: 'tick', probe: false, oldest: [null] })).toContain('connect 0@1')
    }
    expect(waits).toEqual([100, 200, 400, 800, 1000, 1000, 1000, 1000])
    harness.connected(0)
    harness.good(0)
    expect(harness.lost(0, false)).toContain('connect 0@1')
  })

  it('does not spin on a path that connects and breaks at once', () => {
    const harness = new Harness([0]).connectAll()
    let connects = 0
    for (let count = 0; count < 20; count += 1) {
      const again = harness.lost(0, false)
      if (again.includes('connect 0@1')) {
        connects += 1
        harness.connected(0)
      } else break
    }
    expect(connects).toBeLessThanOrEqual(2)
    expect(harness.core.nextLookAt).toBeGreaterThan(harness.now)
  })

  it('fails back after enough good probes, and uses a path on trial if there is no other', () => {
    const harness = new Harness([0, 10]).connectAll()
    harness.lost(0, false)
    expect(harness.core.candidates).toEqual([1])
    harness.connected(0)
    expect([harness.states(), harness.core.candidates]).toEqual([['probing', 'up'], [1]])
    harness.good(0)
    expect(harness.core.candidates).toEqual([1])
    harness.good(0)
    expect([harness.states(), harness.core.candidates]).toEqual([['up', 'up'], [0]])
    harness.lost(0, false)
    harness.connected(0)
    harness.lost(1, false)
    expect(harness.core.candidates).toEqual([0])
  })

  it('fails a path whose request is past its deadline only if its probes fail too', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.now = 2000
    expect(harness.tick(0, null)).not.toContain('cut 0')
    expect(harness.states()).toEqual(['slow', 'up'])
    harness.bad(0)
    harness.good(1)
    expect(harness.core.candidates).toEqual([1])
    expect(harness.tick(0, null)).toContain('cut 0')
  })

  it('fails a path after enough bad probes though nothing waits on it', () => {
    const harness = new Harness([0, 0]).connectAll()
    const ticks: string[][] = []
    for (let count = 0; count < 3; count += 1) {
      harness.tick(null, null)
      harness.bad(0)
      harness.good(1)
      ticks.push(
        harness.core.step({ kind: 'tick', probe: false, oldest: [null, null] }, harness.now).map(describeEffect),
      )
    }
    expect(ticks.map(effects => effects.includes('cut 0'))).toEqual([false, false, true])
  })

  it('counts a probe without an answer as bad', () => {
    const harness = new Harness([0]).connectAll()
    expect(harness.tick(null)).toEqual(['probe 0'])
    expect(harness.tick(null)).toEqual(['path-state 0'])
    expect(harness.states()).toEqual(['slow'])
    harness.good(0)
    expect(harness.states()).toEqual(['up'])
    expect(harness.tick(null)).toEqual(['probe 0'])
  })

  it('never fails the only usable path: it is slow', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.lost(1, false)
    harness.now = 10_000
    for (let count = 0; count < 10; count += 1) {
      harness.bad(0)
      harness.good(1)
      expect(harness.tick(0, null)).not.toContain('cut 0')
    }
    harness.good(1)
    expect([harness.core.usable, harness.core.choose([5, 0])]).toEqual(['slow', 0])
    harness.connected(1)
    expect(harness.core.candidates).toEqual([1])
    expect(harness.tick(0, null)).toContain('cut 0')
  })

  it('does not fail all paths when the probes of all fail', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.now = 10_000
    for (let count = 0; count < 10; count += 1) {
      harness.bad(0)
      harness.bad(1)
      expect(harness.tick(0, 0).filter(effect => effect.startsWith('cut'))).toEqual([])
    }
  })

  it('drops a connection that swallowed requests while its probes failed and recovered', () => {
    const harness = new Harness([0]).connectAll()
    harness.bad(0)
    harness.now = 5000
    harness.good(0)
    expect(harness.tick(0)).not.toContain('cut 0')
    harness.good(0)
    expect(harness.tick(0)).toContain('cut 0')
  })

  it('gives up an attempt to connect when nobody answers probes', () => {
    const harness = new Harness([0])
    harness.step({ kind: 'start' })
    harness.bad(0)
    harness.bad(0)
    expect(harness.bad(0)).toContain('cancel-connect 0')
    expect(harness.states()).toEqual(['failed'])
    expect(harness.core.nextLookAt).not.toBe(null)
  })

  it('dies of a refusal for good, and does nothing from then on', () => {
    const harness = new Harness([0, 0]).connectAll()
    harness.lost(0, false)
    const effects = harness.step({
      kind: 'connect-failed',
      path: 0,
      session: 1,
      message: 'fenced',
      fatal: 'epoch-refused',
    })
    expect(effects.slice(0, 3)).toEqual(['refused 0', 'cut 1', 'cut-retired'])
    expect([harness.core.candidates, harness.core.nextLookAt]).toEqual([[], null])
    expect(harness.lost(1, true)).toEqual([])
    expect(harness.tick(null, null)).toEqual([])
  })

  it('IO3: under any events, requests go only to connections of the current session, and never while it is raised', () => {
    const event = fc.record({
      kind: fc.constantFrom('lost', 'lost-unknown', 'connect', 'fail', 'good', 'bad', 'tick', 'overdue'),
      path: fc.nat(2),
    })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), fc.boolean(), (events, standby) => {
        const harness = new Harness([0, 0, 5], {}, standby ? 5 : Number.POSITIVE_INFINITY)
        const dialling = new Map<number, number>()
        const standing = new Map<number, number>()
        const retired = new Set<number>()
        let highest = 1
        const feed = (input: PathInput): void => {
          const inputs = [input]
          for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
            for (const effect of harness.core.step(next, harness.now)) {
              if (effect.kind === 'connect') {
                expect([effect.session, dialling.has(effect.path)]).toEqual([highest, false])
                dialling.set(effect.path, effect.session)
              } else if (effect.kind === 'cancel-connect') dialling.delete(effect.path)
              else if (effect.kind === 'retire') {
                retired.add(standing.get(effect.path)!)
                standing.delete(effect.path)
              } else if (effect.kind === 'cut-retired') retired.clear()
              else if (effect.kind === 'cut') {
                const session = standing.get(effect.path)
                if (session === undefined) continue
                standing.delete(effect.path)
                inputs.push({ kind: 'lost', path: effect.path, session, unknown: true, reason: 'cut' })
              } else if (effect.kind === 'raise-session') {
                highest += 1
                inputs.push({ kind: 'session-raised', session: highest })
              }
            }
          }
          for (const path of harness.core.candidates) expect(standing.get(path)).toBe(highest)
          if (harness.core.candidates.length > 0) expect(retired.size).toBe(0)
        }
        feed({ kind: 'start' })
        for (const { kind, path } of events) {
          harness.now += 37
          const session = standing.get(path)
          const wanted = dialling.get(path)
          if ((kind === 'lost' || kind === 'lost-unknown') && session !== undefined) {
            standing.delete(path)
            feed({ kind: 'lost', path, session, unknown: kind === 'lost-unknown', reason: 'reset' })
          } else if (kind === 'connect' && wanted !== undefined) {
            dialling.delete(path)
            standing.set(path, wanted)
            feed({ kind: 'connected', path, session: wanted })
          } else if (kind === 'fail' && wanted !== undefined) {
            dialling.delete(path)
            feed({ kind: 'connect-failed', path, session: wanted, message: 'refused', fatal: null })
          } else if (kind === 'good') feed({ kind: 'probe-good', path, latencyMs: 1 })
          else if (kind === 'bad') feed({ kind: 'probe-bad', path, why: 'none' })
          else if (kind === 'tick' || kind === 'overdue') {
            const at = kind === 'overdue' ? harness.now - 5000 : null
            feed({ kind: 'tick', probe: true, oldest: [at, at, at] })
          }
        }
      }),
      { numRuns: 300 },
    )
  })
})
