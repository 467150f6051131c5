// CSV1, CSV2, CSV3, IO2, IO3, MIR1: good traces are accepted, each way to break the rule is found.

import { describe, expect, test } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

const trace = () => new TraceBuilder()
const csv1 = { volume: 'csv1' }
const owner = (t: TraceBuilder, epoch: number, storage = 'san-a') =>
  t.add('storage.owner', csv1, { owner: epoch }, storage)
const session = (t: TraceBuilder, host: string, incarnation: number, number: number) =>
  t.add('storage.session', { ...csv1, host }, { session: [incarnation, number] }, 'san-a')
const generation = (t: TraceBuilder, value: number | string) =>
  t.add('storage.generation', csv1, { generation: value }, 'san-a')
const admitted = (t: TraceBuilder, host: string, epoch: number) =>
  t.add('storage.admitted', { host }, { storage: 'san-a', epoch }, 'san-a')
const granted = (t: TraceBuilder, extent: number, disk: string, more = {}, host = 'host-a') =>
  t.add('extent.granted', { ...csv1, disk, host }, { extent, zero: true, ...more })
const freed = (t: TraceBuilder, extent: number, disk: string, host = 'host-a') =>
  t.add('extent.freed', { ...csv1, disk, host }, { extent })

describe('CSV1', () => {
  test.each([
    [
      'owners one after the other',
      owner(owner(trace(), 1).applied('host-a', { owner: 1 }), 2).applied('host-b', { owner: 2 }),
    ],
    ['host writes of anybody', owner(trace(), 2).applied('host-a').applied('host-b')],
    [
      'the former owner on another storage',
      trace().applied('host-b', { owner: 2 }).applied('host-a', { owner: 1 }, 'san-b'),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('CSV1')).toEqual([])
  })
  test.each([
    [
      'a deposed owner after the new one was announced',
      owner(trace().applied('host-a', { owner: 1 }), 2).applied('host-a', { owner: 1 }),
      /as owner 1 took effect after owner 2/,
    ],
    [
      'a deposed owner after the new one has written',
      trace().applied('host-b', { owner: 2 }).applied('host-a', { owner: 1 }),
      /as owner 1 took effect after owner 2/,
    ],
    [
      'two hosts with the same owner epoch',
      owner(trace(), 2).applied('host-a', { owner: 2 }).applied('host-b', { owner: 2 }),
      /host-a and host-b both write as owner 2/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('CSV1')
    expect(first?.message).toMatch(message)
    expect(first?.volume).toBe('csv1')
  })
})

describe('CSV2', () => {
  const MiB = 1024 * 1024
  const options = {
    csv2: { extentAt: (_volume: string, offset: number) => (offset < MiB ? null : Math.floor(offset / MiB) - 1) },
  }

  test.each([
    [
      'grant, free, grant to another',
      granted(freed(granted(trace(), 5, 'd1', { offset: 0 }), 5, 'd1'), 5, 'd2', { offset: 0 }),
    ],
    ['several extents of a disk', granted(granted(trace(), 1, 'd1', { offset: 0 }), 2, 'd1', { offset: MiB })],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('CSV2')).toEqual([])
  })
  test.each([
    ['an extent granted to two disks', granted(granted(trace(), 5, 'd1'), 5, 'd2'), /granted to d2 while d1 has it/],
    [
      'an extent granted twice to one disk',
      granted(granted(trace(), 5, 'd1'), 5, 'd1'),
      /granted to d1 while d1 has it/,
    ],
    ['a free of what nobody has', freed(trace(), 5, 'd1'), /which nobody has/],
    ['a second free', freed(freed(granted(trace(), 5, 'd1'), 5, 'd1'), 5, 'd1'), /which nobody has/],
    ['a free for another disk', freed(granted(trace(), 5, 'd1'), 5, 'd2'), /freed for d2, but d1 has it/],
    [
      'two extents for one place of a disk',
      granted(granted(trace(), 5, 'd1', { offset: 0 }), 6, 'd1', { offset: 0 }),
      /where extent 5 is/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('CSV2')
    expect(first?.message).toMatch(message)
  })

  const recovered = (
    t: TraceBuilder,
    extents: readonly (readonly [number, string, number] | readonly [number, string, number, number])[],
    host = 'host-b',
    parents: readonly (readonly [string, string])[] = [],
  ) => t.add('extent.recovered', csv1, { extents, parents }, `${host}/agent`)
  const died = () => granted(trace(), 5, 'd1', { offset: 0 }).dead('host-a')

  test.each([
    ['a free whose grant fell into the gap a dying owner left', freed(died(), 6, 'd1')],
    ['a grant whose free fell into that gap', granted(died(), 5, 'd2', { offset: 0 })],
    ['a new owner that found the same', freed(recovered(died(), [[5, 'd1', 0]]), 5, 'd1', 'host-b')],
    [
      'a free that its deposed owner tells of late, when the extent is another’s',
      freed(
        freed(
          granted(recovered(granted(trace(), 5, 'd1', { offset: 0 }), []), 5, 'd2', { offset: 0 }, 'host-b'),
          5,
          'd1',
        ),
        ...([5, 'd2', 'host-b'] as const),
      ),
    ],
    [
      'a new owner that found more',
      freed(
        recovered(died(), [
          [5, 'd1', 0],
          [6, 'd2', 0],
        ]),
        6,
        'd2',
        'host-b',
      ),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('CSV2')).toEqual([])
  })
  test.each([
    [
      'an extent that a new owner found with another disk',
      recovered(died(), [[5, 'd2', 0]]),
      /found extent 5 with d2, but d1 has it/,
    ],
    [
      'an extent that a new owner found with two disks',
      recovered(died(), [
        [5, 'd1', 0],
        [5, 'd2', 0],
      ]),
      /found extent 5 with d2, but d1 has it/,
    ],
    [
      'a new owner that grants what it had found granted',
      granted(recovered(died(), [[5, 'd1', 0]], 'host-a'), 5, 'd2'),
      /granted to d2 while d1 has it/,
    ],
    ['a new owner that grants twice', granted(granted(died(), 7, 'd1'), 7, 'd2'), /granted to d2 while d1 has it/],
    ['a new owner that frees twice', freed(freed(died(), 6, 'd1'), 6, 'd1'), /which nobody has/],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('CSV2')
    expect(first?.message).toMatch(message)
  })

  const cloned = (t: TraceBuilder, disk: string, source: string) =>
    t.add('disk.cloned', { ...csv1, disk, host: 'host-a' }, { source, snapshot: true, holder: null })
  const copied = (t: TraceBuilder, extent: number, disk: string, from: number, offset = 0) =>
    t.add('extent.copied', { ...csv1, disk, host: 'host-a' }, { extent, from, offset })
  const left = (t: TraceBuilder, extent: number, disk: string, count: number) =>
    t.add('extent.freed', { ...csv1, disk, host: 'host-a' }, { extent, left: count })
  const kept = [
    [6, 'd1', 0, 1],
    [5, 'c1', 0, 1],
  ] as const
  const shared = () => cloned(granted(trace(), 5, 'd1', { offset: 0 }), 's1', 'd1')

  test.each([
    ['a shared extent freed by both, one after the other', left(left(shared(), 5, 'd1', 1), 5, 's1', 0)],
    ['a copy, and the rest freed', left(left(copied(shared(), 6, 'd1', 5), 5, 's1', 0), 6, 'd1', 0)],
    [
      'the same found shared by a new owner',
      recovered(shared().dead('host-a'), [
        [5, 'd1', 0, 2],
        [5, 's1', 0, 2],
      ]),
    ],
    [
      'a clone made of what was deleted then, both in the gap',
      recovered(copied(shared(), 6, 'd1', 5), kept, 'host-a', [['c1', 'd1']]),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('CSV2')).toEqual([])
  })
  test.each([
    [
      'a free that counts nobody where a clone has it',
      left(shared(), 5, 'd1', 0),
      /counts 0 more that have it, there are 1/,
    ],
    ['a shared extent granted anew', granted(left(shared(), 5, 'd1', 1), 5, 'd2'), /granted to d2 while s1 has it/],
    [
      'a copy to an extent that somebody has',
      copied(granted(shared(), 6, 'd2'), 6, 'd1', 5),
      /granted to d1 while d2 has it/,
    ],
    ['a copy of what the disk has not', copied(shared(), 7, 'd3', 5), /copied for d3, which has it not/],
    [
      'the same of a disk that is no clone of it',
      recovered(copied(shared(), 6, 'd1', 5), kept, 'host-a'),
      /found extent 5 with c1, but s1 has it/,
    ],
    [
      'a new owner that finds two disks and one reference',
      recovered(shared().dead('host-a'), [
        [5, 'd1', 0, 1],
        [5, 's1', 0, 1],
      ]),
      /found extent 5 with s1, but d1 has it/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('CSV2')
    expect(first?.message).toMatch(message)
  })

  test('finds a write in place to what is shared, and accepts one to the copy, or once it is shared no more', () => {
    const at = (extent: number) => ({ offset: MiB * (extent + 1) })
    const using = () => shared().io('host-a', 'write', 0, [1], 'd1')
    const [first] = using().applied('host-a', at(5)).judge('CSV2', options)
    expect(first?.message).toMatch(/landed in extent 5, which d1 and s1 share/)
    expect(copied(using(), 6, 'd1', 5).applied('host-a', at(6)).judge('CSV2', options)).toEqual([])
    expect(left(using(), 5, 's1', 1).applied('host-a', at(5)).judge('CSV2', options)).toEqual([])
  })

  test('accepts a write held up on the way to a leg that was left behind, and still judges those to the others', () => {
    const behind = () =>
      shared()
        .io('host-a', 'write', 0, [1], 'd1')
        .add('storage.generation', { volume: 'csv1' }, { generation: 2 }, 'san-b')
    expect(
      behind()
        .applied('host-a', { offset: MiB * 6 })
        .judge('CSV2', options),
    ).toEqual([])
    const [first] = behind()
      .applied('host-a', { offset: MiB * 6, generation: 2 }, 'san-b')
      .judge('CSV2', options)
    expect(first?.message).toMatch(/landed in extent 5, which d1 and s1 share/)
  })

  const used = () => granted(trace(), 0, 'd1').io('host-a', 'write', 0, [1], 'd1')
  test('accepts writes of a host that uses the disk, and of metadata', () => {
    expect(used().applied('host-a', { offset: MiB }).applied('host-b', { offset: 0 }).judge('CSV2', options)).toEqual(
      [],
    )
  })
  test('finds a late write into an extent that was freed', () => {
    const [first] = freed(used(), 0, 'd1').applied('host-a', { offset: MiB }).judge('CSV2', options)
    expect(first?.message).toMatch(/landed in extent 0, which nobody has/)
  })
  test('finds a late write into an extent that another disk has got since', () => {
    const t = granted(freed(used(), 0, 'd1'), 0, 'd2').io('host-b', 'write', 0, [1], 'd2')
    const [first] = t.applied('host-b', { offset: MiB }).applied('host-a', { offset: MiB }).judge('CSV2', options)
    expect(first?.message).toMatch(/host-a, which never used d2, landed in its extent 0/)
  })
})

describe('CSV3', () => {
  test('accepts extents that hold zeroes or were not looked at', () => {
    expect(granted(granted(trace(), 1, 'd1'), 2, 'd1', { zero: null }).judge('CSV3')).toEqual([])
  })
  test('finds an extent with old data', () => {
    const [first] = granted(trace(), 1, 'd1', { zero: false }).judge('CSV3')
    expect(first?.message).toMatch(/extent 1 granted to d1 still holds old data/)
  })
})

describe('IO2', () => {
  const acknowledged = (t: TraceBuilder, offset: number, length: number) =>
    t.add('storage.acknowledged', { ...csv1, host: 'host-a' }, { offset, length }, 'san-a')
  const cycled = (t: TraceBuilder) => t.add('storage.power-cycled', {}, { storage: 'san-a' }, 'simulator')

  test('accepts writes that take effect, are acknowledged and survive', () => {
    const t = acknowledged(acknowledged(trace().applied('host-a'), 0, 4096), 0, 1 << 30)
    expect(cycled(t).judge('IO2')).toEqual([])
  })
  test('accepts two writes of one range, acknowledged in any order', () => {
    expect(
      acknowledged(acknowledged(trace().applied('host-a').applied('host-b'), 0, 4096), 0, 4096).judge('IO2'),
    ).toEqual([])
  })
  test.each([
    [
      'an acknowledgement before the write took effect',
      acknowledged(trace(), 4096, 4096),
      /no such write has taken effect/,
    ],
    [
      'more acknowledgements than writes',
      acknowledged(acknowledged(trace().applied('host-a', { offset: 4096 }), 4096, 4096), 4096, 4096),
      /no such write/,
    ],
    ['an acknowledgement of another range', acknowledged(trace().applied('host-a'), 4096, 4096), /no such write/],
    [
      'an acknowledgement on another leg than it was applied',
      acknowledged(trace().applied('host-a', { offset: 4096 }, 'san-b'), 4096, 4096),
      /no such write/,
    ],
    [
      'acknowledged bytes gone after a power cycle',
      cycled(acknowledged(trace().applied('host-a'), 0, 4096)).add(
        'storage.lost',
        csv1,
        { storage: 'san-a', offset: 0, length: 4096 },
        'simulator',
      ),
      /4096 acknowledged bytes at 0 did not survive/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('IO2')
    expect(first?.message).toMatch(message)
    expect(first?.volume).toBe('csv1')
  })
  test('writes without FUA pile up to a bound, then matching is given up rather than wrong', () => {
    const t = trace()
    for (let index = 0; index <= 5000; index++) t.applied('host-a', { offset: index * 4096 })
    expect(acknowledged(t, 0, 4096).judge('IO2')).toEqual([])
  })
})

describe('IO3', () => {
  test('accepts fence, admission at a higher epoch, rising sessions, owners and generations', () => {
    const t = admitted(trace(), 'host-a', 1).applied('host-a').fenced('san-a', 'host-a', 1).applied('host-b')
    admitted(t, 'host-a', 2).applied('host-a', { epoch: 2 })
    session(t, 'host-a', 2, 1).applied('host-a', { epoch: 2, session: [2, 1] })
    // Another machine of that name, which has started fewer agents.
    admitted(t.fenced('san-a', 'host-a', 2), 'host-a', 3)
    session(t, 'host-a', 1, 1).applied('host-a', { epoch: 3, session: [1, 1] })
    owner(t, 3).applied('host-b', { owner: 3 }).applied('host-b')
    generation(t, '2-abc').applied('host-b', { generation: '2-abc' })
    expect(t.judge('IO3')).toEqual([])
  })
  test.each([
    ['a write of a fenced epoch', trace().fenced('san-a', 'host-a', 1).applied('host-a'), /epoch 1, fenced up to 1/],
    [
      'a write of an epoch below the fenced one',
      trace().fenced('san-a', 'host-a', 4).applied('host-a', { epoch: 3 }),
      /epoch 3, fenced up to 4/,
    ],
    [
      'a late lower fence that would lower the mark',
      trace().fenced('san-a', 'host-a', 4).fenced('san-a', 'host-a', 2).applied('host-a', { epoch: 4 }),
      /fenced up to 4/,
    ],
    [
      'a write of an epoch that was never admitted',
      admitted(trace(), 'host-a', 1).applied('host-a', { epoch: 2 }),
      /epoch 2 where 1 is admitted/,
    ],
    [
      'a write of a lower session number',
      session(trace(), 'host-a', 1, 2).applied('host-a'),
      /session 1\.1 where 1\.2/,
    ],
    [
      'a write of a lower incarnation',
      session(trace(), 'host-a', 2, 1).applied('host-a', { session: [1, 9] }),
      /session 1\.9 where 2\.1/,
    ],
    [
      'a ghost write after a higher session has written',
      trace()
        .applied('host-a', { session: [1, 2] })
        .applied('host-a'),
      /session 1\.1 where 1\.2/,
    ],
    ['a write of a lower owner epoch', owner(trace(), 2).applied('host-a', { owner: 1 }), /owner epoch 1 where 2/],
    [
      'a write of an older generation',
      generation(trace(), 2).applied('host-a', { generation: 1 }),
      /generation 1 where 2/,
    ],
    [
      'a write of another branch of the generation',
      generation(trace(), '2-abc').applied('host-a', { generation: '2-xyz' }),
      /"2-xyz" where "2-abc"/,
    ],
  ])('finds %s', (_name, t, message) => {
    const [first] = t.judge('IO3')
    expect(first?.message).toMatch(message)
    expect(first?.host).toBe('host-a')
  })
  test('each storage process judges for itself', () => {
    expect(trace().fenced('san-b', 'host-a', 1).applied('host-a').judge('IO3')).toEqual([])
  })
})

describe('MIR1', () => {
  const compared = (...differing: number[]) => trace().add('mirror.compared', csv1, { generation: 3, differing }, 'sim')
  test('accepts legs that are equal', () => {
    expect(compared().judge('MIR1')).toEqual([])
  })
  test.each([
    ['legs that differ', compared(4096, 8192), /generation 3: its in-sync legs differ at 4096, 8192$/],
    [
      'a scrub that took the bad copy for the good one',
      compared().add('mirror.spoiled', csv1, { generation: 3, places: [512] }, 'sim'),
      /a scrub gave the good leg what the other had changed by itself, at 512$/,
    ],
  ])('finds %s', (_name, t, message) => {
    expect(t.judge('MIR1')[0]?.message).toMatch(message)
  })
})
