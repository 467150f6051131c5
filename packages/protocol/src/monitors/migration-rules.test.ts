// MIG1, MIG2, MIG3: good traces are accepted, each way to break the rule is found.

import { describe, expect, test } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

/** web-1 runs on host-a at epoch 1 and has been released towards host-b, where it is loaded. */
const switching = () =>
  new TraceBuilder()
    .run('web-1', 'host-a', 1)
    .step('web-1', 'host-a', 1)
    .halt('web-1', 'host-a', 1, 'released')
    .released('web-1', 'host-a', 'm1', 1)
    .loaded('web-1', 'host-b', 'm1')

const committed = () => switching().decided('committed', 'web-1', 'm1', 2, 'host-a', 'host-b')
const aborted = () => switching().decided('aborted', 'web-1', 'm1', 2, 'host-a', 'host-b')
const arrived = () => committed().run('web-1', 'host-b', 2, 'arrive').step('web-1', 'host-b', 2)
const resumed = () =>
  aborted().resumed('web-1', 'host-a', 'm1', 1).run('web-1', 'host-a', 1, 'resume').step('web-1', 'host-a', 1)

describe.each(['MIG1', 'MIG2', 'MIG3'] as const)('%s', rule => {
  test('accepts a migration that commits', () => {
    expect(arrived().judge(rule)).toEqual([])
  })
  test('accepts a migration that aborts and resumes, then another that commits', () => {
    const t = resumed()
      .halt('web-1', 'host-a', 1, 'released')
      .released('web-1', 'host-a', 'm2', 1, 9)
      .loaded('web-1', 'host-b', 'm2', 9)
      .decided('committed', 'web-1', 'm2', 3, 'host-a', 'host-b')
      .run('web-1', 'host-b', 3, 'arrive')
      .step('web-1', 'host-b', 3)
    expect(t.judge(rule)).toEqual([])
  })
  test('accepts an abort before the release, after which the source just runs on', () => {
    const t = new TraceBuilder()
      .run('web-1', 'host-a', 1)
      .decided('aborted', 'web-1', 'm1', 2, 'host-a', 'host-b')
      .step('web-1', 'host-a', 1)
    expect(t.judge(rule)).toEqual([])
  })
  test('accepts a failover elsewhere while the migration is undecided', () => {
    const t = switching()
      .dead('host-a')
      .failover('web-1', 'host-a', 1)
      .run('web-1', 'host-b', 3)
      .step('web-1', 'host-b', 3)
    expect(t.judge(rule)).toEqual([])
  })
})

describe('MIG1', () => {
  test.each([
    [
      'a target that runs before the commit',
      switching().run('web-1', 'host-b', 2, 'arrive'),
      /no commit has made durable/,
    ],
    [
      'a target that runs at another epoch than was committed',
      committed().run('web-1', 'host-b', 3, 'arrive'),
      /epoch 3, which no commit/,
    ],
    [
      'an arrival at another host than was committed',
      committed().run('web-1', 'host-c', 2, 'arrive'),
      /arrived at host-c .* committed to host-b/,
    ],
    ['a step at the target while the migration is undecided', switching().step('web-1', 'host-b', 2), /undecided/],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('MIG1')
    expect(first?.message).toMatch(message)
    expect(first?.vm).toBe('web-1')
  })
})

describe('MIG2', () => {
  const faultsEnded = (t: TraceBuilder) => t.add('faults.ended', {}, { withinMs: 1000, vms: [] })

  test.each([
    [
      'a source that resumes after its release without an abort',
      switching().resumed('web-1', 'host-a', 'm1', 1),
      /without a durable abort/,
    ],
    [
      'a source that is run after its release without an abort',
      switching().run('web-1', 'host-a', 1, 'thaw'),
      /without a durable abort/,
    ],
    [
      'a source that executes after its release without an abort',
      switching().step('web-1', 'host-a', 1),
      /without a durable abort/,
    ],
    [
      'a source that resumes after the commit',
      committed().run('web-1', 'host-a', 1, 'resume'),
      /although the migration was committed/,
    ],
    [
      'a source that resumes with another state',
      aborted().resumed('web-1', 'host-a', 'm1', 1, 8),
      /another state than it had released/,
    ],
    [
      'a target that runs at the burnt epoch',
      aborted().run('web-1', 'host-b', 2, 'arrive'),
      /epoch 2, which an abort has burnt/,
    ],
    [
      'a target that executes at the burnt epoch',
      aborted().step('web-1', 'host-b', 2),
      /epoch 2, which an abort has burnt/,
    ],
    [
      'a source that was frozen in between and resumes without an abort',
      switching().halt('web-1', 'host-a', 1, 'frozen').run('web-1', 'host-a', 1, 'thaw'),
      /without a durable abort/,
    ],
    [
      'an abort after the commit',
      committed().decided('aborted', 'web-1', 'm1', 2, 'host-a', 'host-b'),
      /aborted after its commit/,
    ],
    [
      'a commit after the abort',
      aborted().decided('committed', 'web-1', 'm1', 2, 'host-a', 'host-b'),
      /committed after its abort/,
    ],
    ['a source that never runs again', faultsEnded(aborted()).wait(40_000), /host-a has not run it again/],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('MIG2')
    expect(first?.message).toMatch(message)
  })

  test.each([
    ['died', faultsEnded(aborted().dead('host-a')).wait(40_000)],
    ['was killed', faultsEnded(aborted().halt('web-1', 'host-a', 1, 'killed')).wait(40_000)],
    ['was replaced by a failover', faultsEnded(aborted().failover('web-1', 'host-a', 1)).wait(40_000)],
    ['still has time', faultsEnded(aborted()).wait(1000)],
  ])('a source need not run again that %s', (_name, t) => {
    expect(t.judge('MIG2')).toEqual([])
  })
})

describe('MIG3', () => {
  const moved = (released: number | null, loaded: number | null) => {
    const t = new TraceBuilder().run('web-1', 'host-a', 1)
    if (released !== null) t.released('web-1', 'host-a', 'm1', 1, released)
    if (loaded !== null) t.loaded('web-1', 'host-b', 'm1', loaded)
    return t.decided('committed', 'web-1', 'm1', 2, 'host-a', 'host-b').run('web-1', 'host-b', 2, 'arrive')
  }
  test.each([
    ['another state than was released', moved(7, 8), /another state than host-a/],
    ['a target that had not loaded all of it', moved(7, null), /had loaded all of it/],
    ['a guest that was never released', moved(null, 7), /its source released it/],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('MIG3')
    expect(first?.message).toMatch(message)
  })
  test('a target that loaded something else and never ran it has broken nothing', () => {
    const t = new TraceBuilder().released('web-1', 'host-a', 'm1', 1, 7).loaded('web-1', 'host-b', 'm1', 8)
    expect(t.decided('aborted', 'web-1', 'm1', 2, 'host-a', 'host-b').judge('MIG3')).toEqual([])
  })
})
