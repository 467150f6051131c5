// The decisions of a mirror as transcripts: what comes in, what is to be done.

import { describe, expect, it } from 'vitest'
import { type Generation, type LegRole, storedGeneration } from './generation.ts'
import { MirrorCore, type MirrorEffect } from './mirror-core.ts'

const CONFIG = { legDeadlineMs: 1_000, retryMs: 100 }
const generation = (number: number, a: LegRole, b: LegRole): Generation => ({ number, legs: { a, b } })
const told = (effects: readonly MirrorEffect[]): string[] =>
  effects.map(effect => {
    switch (effect.kind) {
      case 'open':
      case 'report':
        return `${effect.kind} ${effect.leg}@${effect.generation}`
      case 'switched':
        return `switched ${effect.generation.number}`
      default:
        return `${effect.kind} ${effect.leg}`
    }
  })

function opened(first: Generation): MirrorCore {
  const core = new MirrorCore(CONFIG, first)
  core.start(0)
  for (const leg of ['a', 'b']) {
    if (first.legs[leg] !== 'stale') core.step({ kind: 'opened', leg, generation: first.number }, 0)
  }
  return core
}

describe('a mirror', () => {
  it('serves when all legs that it writes to are open, and opens no stale one', () => {
    const core = new MirrorCore(CONFIG, generation(5, 'in-sync', 'in-sync'))
    expect(told(core.start(0))).toEqual(['open a@5', 'open b@5'])
    expect(told(core.step({ kind: 'opened', leg: 'a', generation: 5 }, 0))).toEqual([])
    expect(told(core.step({ kind: 'opened', leg: 'b', generation: 5 }, 0))).toEqual(['switched 5'])
    const stale = new MirrorCore(CONFIG, generation(6, 'stale', 'in-sync'))
    expect(told(stale.start(0))).toEqual(['open b@6'])
  })

  it('follows a higher generation, never a lower one', () => {
    const core = opened(generation(5, 'in-sync', 'in-sync'))
    expect(told(core.step({ kind: 'follow', generation: generation(4, 'stale', 'in-sync') }, 1))).toEqual([])
    expect(told(core.step({ kind: 'follow', generation: generation(6, 'in-sync', 'stale') }, 1))).toEqual([
      'close b',
      'open a@6',
    ])
    expect(core.switching).toBe(true)
    expect(told(core.step({ kind: 'opened', leg: 'a', generation: 6 }, 2))).toEqual(['switched 6'])
  })

  it('tries again where the storage has not been raised yet, and follows one that is ahead', () => {
    const core = opened(generation(5, 'in-sync', 'in-sync'))
    core.step({ kind: 'follow', generation: generation(6, 'in-sync', 'stale') }, 0)
    const behind = generation(5, 'in-sync', 'in-sync')
    core.step({ kind: 'lost', leg: 'a', generation: 6, why: 'refused', stored: behind }, 10)
    expect(told(core.step({ kind: 'tick' }, 50))).toEqual([])
    expect(told(core.step({ kind: 'tick' }, 120))).toEqual(['open a@6'])
    const ahead = generation(8, 'in-sync', 'syncing')
    expect(told(core.step({ kind: 'lost', leg: 'a', generation: 6, why: 'refused', stored: ahead }, 130))).toEqual([
      'open a@8',
      'open b@8',
    ])
  })

  it('reports a lost leg after its deadline, only while another in-sync leg serves', () => {
    const core = opened(generation(5, 'in-sync', 'in-sync'))
    core.step({ kind: 'lost', leg: 'b', generation: 5, why: 'gone', stored: null }, 0)
    expect(told(core.step({ kind: 'tick' }, 999))).toEqual(['open b@5'])
    expect(told(core.step({ kind: 'tick' }, 1_000))).toEqual(['report b@5'])
    expect(told(core.step({ kind: 'tick' }, 1_050))).toEqual([])
    core.step({ kind: 'lost', leg: 'a', generation: 5, why: 'gone too', stored: null }, 1_060)
    expect(told(core.step({ kind: 'tick' }, 1_200)).filter(line => line.startsWith('report'))).toEqual([])
  })

  it('does not report the only in-sync leg, however long it is away', () => {
    const core = opened(generation(5, 'in-sync', 'syncing'))
    core.step({ kind: 'lost', leg: 'a', generation: 5, why: 'gone', stored: null }, 0)
    const later = told(core.step({ kind: 'tick' }, 60_000))
    expect(later).toEqual(['open a@5'])
  })

  it('reports a leg that makes trouble at once, and forgives it in the next generation', () => {
    const core = opened(generation(5, 'in-sync', 'in-sync'))
    expect(told(core.step({ kind: 'trouble', leg: 'b', why: 'EIO' }, 5))).toEqual(['report b@5'])
    core.step({ kind: 'follow', generation: generation(6, 'in-sync', 'syncing') }, 10)
    core.step({ kind: 'opened', leg: 'a', generation: 6 }, 10)
    core.step({ kind: 'opened', leg: 'b', generation: 6 }, 10)
    expect(told(core.step({ kind: 'tick' }, 5_000))).toEqual([])
  })
})

describe('what a storage says of its generation', () => {
  it('is read out of its refusal, wherever that is quoted', () => {
    const text = 'the storage refuses this host: generation-refused 7 {"leg-0":"in-sync","leg-1":"stale"}; try it there'
    expect(storedGeneration(text)).toEqual({ number: 7, legs: { 'leg-0': 'in-sync', 'leg-1': 'stale' } })
    expect(storedGeneration('generation-refused 0 {}')).toEqual({ number: 0, legs: {} })
  })

  it('is nothing where it was cut short, or speaks of roles that there are not', () => {
    expect(storedGeneration('generation-refused 7 {"leg-0":"in-')).toBeNull()
    expect(storedGeneration('generation-refused 7 {"leg-0":"odd"}')).toBeNull()
    expect(storedGeneration('epoch-refused')).toBeNull()
  })
})
