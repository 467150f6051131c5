// What a core was fed gives the same decisions again; where it does not, the first that differs is named.

import { canaries } from '@stellwerk/runtime/canary.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { Bench } from '../core/testing.ts'
import { SNAPSHOT_FORMAT, snapshotOf, stateOf } from '../snapshot.ts'
import { firstDifference, fromPlain, toPlain } from './plain.ts'
import { CoordinatorReplay, type CoreRecord, type ReplayDifference } from './replay.ts'

afterEach(() => canaries.clear())

/** As from a file: nothing is shared with what recorded it. */
const copied = (records: readonly CoreRecord[]): CoreRecord[] => JSON.parse(JSON.stringify(records))

function replayed(records: readonly CoreRecord[]): { replay: CoordinatorReplay; found: ReplayDifference | null } {
  const replay = new CoordinatorReplay()
  for (const record of copied(records)) {
    const found = replay.take(record)
    if (found !== null) return { replay, found }
  }
  replay.finish()
  return { replay, found: null }
}

/** A host falls silent and its VM starts elsewhere. */
function failover(): Bench {
  const bench = Bench.cluster()
  bench.hosts.get(bench.placement('web')?.host ?? '')!.beating = false
  bench.round(30)
  return bench
}

describe('a recorded coordinator', () => {
  it('decides the same again, over a restart and snapshots in between', () => {
    const bench = Bench.cluster()
    bench.recorded.push({ kind: 'snapshot', value: snapshotOf(bench.state), at: 'a new segment' })
    bench.round(3)
    bench.restart()
    bench.round(3)
    const { replay, found } = replayed(bench.recorded)
    expect(found).toBe(null)
    expect(replay.counts).toMatchObject({ runs: 2, snapshots: 3, skipped: 0 })
    expect(replay.counts.inputs).toBeGreaterThan(40)
    expect(replay.counts.decided).toBeGreaterThan(20)
  })

  it('with a bug in the core, names the first input that is answered otherwise, and what was expected', () => {
    const { recorded } = failover()
    expect(replayed(recorded).found).toBe(null)
    canaries.add('fence-missing-leg')
    const { found } = replayed(recorded)
    expect(found?.fed).toMatchObject({ kind: 'tick' })
    expect(found?.path).toMatch(/^changes\/\d+\/value\/fence\/needed\/0$/)
    expect(found).toMatchObject({ expected: 'san-a', got: undefined })
  })

  it('is not believed where what was on record has been changed', () => {
    const { recorded } = failover()
    const at = recorded.findIndex(
      ({ kind, value }) => kind === 'output' && JSON.stringify(value).includes('"decision.fence"'),
    )
    const changed = recorded.map((record, i) =>
      i === at ? { ...record, value: JSON.parse(JSON.stringify(record.value).replace('"vm', '"wm')) } : record,
    )
    expect(replayed(recorded).found).toBe(null)
    expect(changed[at]).not.toEqual(recorded[at])
    expect(replayed(changed).found?.at).toBe(recorded[at - 1]?.at)
  })

  it('names what is not as the next snapshot says', () => {
    const bench = Bench.cluster()
    const { state } = snapshotOf(bench.state) as { state: { [key: string]: Json } }
    bench.recorded.push({
      kind: 'snapshot',
      value: { format: SNAPSHOT_FORMAT, state: { ...state, decisionSeq: 1 } },
      at: 'here',
    })
    expect(replayed(bench.recorded).found).toMatchObject({ at: 'here', fed: null, path: 'decisionSeq', expected: 1 })
  })

  it('says nothing of what follows a gap, until the next snapshot', () => {
    const bench = Bench.cluster()
    const half = bench.recorded.length >> 1
    const snapshot: CoreRecord = { kind: 'snapshot', value: snapshotOf(bench.state), at: 'later' }
    const replay = new CoordinatorReplay()
    for (const record of copied(bench.recorded.slice(0, half))) expect(replay.take(record)).toBe(null)
    replay.lose()
    for (const record of copied([...bench.recorded.slice(half + 1), snapshot])) expect(replay.take(record)).toBe(null)
    expect(replay.counts.skipped).toBeGreaterThan(0)
    const before = replay.counts.inputs
    bench.recorded.length = 0
    bench.round(2)
    for (const record of copied(bench.recorded)) expect(replay.take(record)).toBe(null)
    expect(replay.counts.inputs).toBeGreaterThan(before)
  })

  it('of another version is refused in one line', () => {
    const replay = new CoordinatorReplay()
    expect(() => replay.take({ kind: 'snapshot', value: { cluster: {}, hosts: {} }, at: '' })).toThrow(/earlier format/)
  })
})

describe('a state as JSON', () => {
  it('is the same state again', () => {
    const { state } = failover()
    expect(stateOf(JSON.parse(JSON.stringify(snapshotOf(state))))).toEqual(state)
  })

  it('keeps maps, sets, and numbers without a word in JSON', () => {
    const leaf = fc.oneof(fc.string(), fc.boolean(), fc.constant(null), fc.double({ noNaN: false }), fc.integer())
    const value = fc.letrec(tie => ({
      any: fc.oneof(
        { depthSize: 'small' },
        leaf,
        fc.array(tie('any'), { maxLength: 4 }),
        fc.dictionary(fc.oneof(fc.string(), fc.constant('$')), tie('any'), { maxKeys: 4, noNullPrototype: true }),
        fc.array(fc.tuple(fc.string(), tie('any')), { maxLength: 4 }).map(entries => new Map(entries)),
        fc.array(fc.string(), { maxLength: 4 }).map(each => new Set(each)),
      ),
    })).any
    fc.assert(
      fc.property(value, each => {
        // JSON has one zero.
        const plain = toPlain(each)
        const again = fromPlain(JSON.parse(JSON.stringify(plain)))
        expect(firstDifference(toPlain(again), plain)).toBe(null)
      }),
      { numRuns: 300 },
    )
  })
})
