// IO1, whole disks: requests of many sectors that overlap, fail, get lost; each sector must get the verdict that the
// search of linearizability.ts gives it. And the crash mode for raw backends.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createMonitors } from './all-monitors.ts'
import { BlockHistory } from './block-history.ts'
import { isLinearizable, type Model, REFUSED } from './linearizability.ts'
import { TraceBuilder } from './trace-builder.ts'

const trace = () => new TraceBuilder()
const rejects = (t: TraceBuilder) => t.judge('IO1').length > 0

describe('IO1: one request after the other', () => {
  test('accepts reads of what was written, zeroes elsewhere', () => {
    const t = trace()
      .io('host-a', 'read', 0, [0, 0])
      .io('host-a', 'write', 510, [11, 12, 13, 14])
      .io('host-a', 'read', 509, [0, 11, 12, 13, 14, 0])
      .io('host-b', 'zero', 511, 1)
      .io('host-b', 'read', 510, [11, 0, 13])
    expect(t.judge('IO1')).toEqual([])
  })
  test('accepts either value after a trim, until the next write', () => {
    const t = trace().io('host-a', 'write', 0, [1, 2]).io('host-a', 'trim', 0, 2).io('host-a', 'read', 0, [0, 2])
    t.io('host-a', 'read', 0, [1, 2]).io('host-a', 'write', 0, [3, 4]).io('host-a', 'read', 0, [3, 4])
    expect(t.judge('IO1')).toEqual([])
  })
  test('the same disk name is judged across hosts, other disks apart', () => {
    const t = trace().io('host-a', 'write', 0, [1]).io('host-a', 'read', 0, [0], 'disk2').io('host-b', 'read', 0, [1])
    expect(t.judge('IO1')).toEqual([])
  })
  test.each([
    ['a lost write', trace().io('host-a', 'write', 0, [1]).io('host-a', 'read', 0, [0])],
    ['a stale read', trace().io('host-a', 'write', 0, [1]).io('host-a', 'write', 0, [2]).io('host-b', 'read', 0, [1])],
    ['an invented value', trace().io('host-a', 'read', 7, [9])],
    [
      'a zeroing that did not happen',
      trace().io('host-a', 'write', 0, [1]).io('host-a', 'zero', 0, 1).io('host-a', 'read', 0, [1]),
    ],
    ['an extent that was not zeroed', trace().io('host-a', 'write', 0, [1]).io('host-a', 'read', 0, [1, 77])],
    [
      'a third value after a trim',
      trace().io('host-a', 'write', 0, [1]).io('host-a', 'trim', 0, 1).io('host-a', 'read', 0, [2]),
    ],
    [
      'zero again after a trim was overwritten',
      trace()
        .io('host-a', 'write', 0, [1])
        .io('host-a', 'trim', 0, 1)
        .io('host-a', 'write', 0, [2])
        .io('host-a', 'read', 0, [0]),
    ],
  ])('finds %s', (_name, t) => {
    const [first] = t.judge('IO1')
    expect(first?.disk).toBe('disk1')
    expect(first?.message).toMatch(/^disk1: a read of sector \d+ returned/)
    expect(first?.records.map(each => each.kind)).toEqual(['disk.invoke', 'disk.ok'])
  })
})

describe('IO1: clones', () => {
  const cloned = (t: TraceBuilder, disk: string, source: string, holder: string | null = 'host-a') =>
    t.add('disk.cloned', { volume: 'csv1', disk }, { source, snapshot: true, holder })
  const base = () => trace().io('host-a', 'write', 0, [1, 2], 'd').io('host-a', 'write', 1, [3], 'd')
  const begun = (t: TraceBuilder, host: string) =>
    t.add(
      'disk.invoke',
      { disk: 'd', vm: 'vm-1', host },
      { op: 'write', request: 'w', offset: 0, length: 512, sectors: [9] },
    )

  test('begins as its source is, and goes its own way', () => {
    const t = cloned(base(), 's', 'd').io('host-b', 'read', 0, [1, 3, 0], 's')
    t.io('host-a', 'write', 0, [5], 'd').io('host-b', 'read', 0, [1], 's').io('host-a', 'read', 0, [5], 'd')
    expect(t.judge('IO1')).toEqual([])
  })
  test('rejects what was written later, what was overwritten before, and what was never there', () => {
    const later = cloned(base(), 's', 'd').io('host-a', 'write', 0, [5], 'd').io('host-b', 'read', 0, [5], 's')
    expect(rejects(later)).toBe(true)
    expect(rejects(cloned(base(), 's', 'd').io('host-b', 'read', 1, [2], 's'))).toBe(true)
    expect(rejects(cloned(base(), 's', 'd').io('host-b', 'read', 2, [7], 's'))).toBe(true)
  })
  test('one whose owner died before its record is told by the next owner; one that is known stays as it began', () => {
    const recovered = (t: TraceBuilder) =>
      t.add('extent.recovered', { volume: 'csv1' }, { extents: [], parents: [['s', 'd']] })
    expect(recovered(base()).io('host-b', 'read', 0, [1, 3, 0], 's').judge('IO1')).toEqual([])
    expect(rejects(recovered(base()).io('host-b', 'read', 1, [2], 's'))).toBe(true)
    const known = () => recovered(cloned(base(), 's', 'd').io('host-a', 'write', 0, [5], 'd'))
    expect(known().io('host-b', 'read', 0, [1], 's').judge('IO1')).toEqual([])
    expect(rejects(known().io('host-b', 'read', 0, [5], 's'))).toBe(true)
  })
  test('one that its deposed owner tells of late began when the next owner found it', () => {
    const told = (t: TraceBuilder, process: string, disk = 's') =>
      t.add('disk.cloned', { volume: 'csv1', disk }, { source: 'd', snapshot: true, holder: 'host-a' }, process)
    const recovered = (t: TraceBuilder, process: string) =>
      t.add('extent.recovered', { volume: 'csv1' }, { extents: [], parents: [['s', 'd']] }, process)
    const found = () => recovered(base(), 'host-b/agent').io('host-a', 'write', 0, [5], 'd')
    const late = () => told(found(), 'host-c/agent')
    expect(late().io('host-b', 'read', 0, [1], 's').judge('IO1')).toEqual([])
    expect(rejects(late().io('host-b', 'read', 0, [5], 's'))).toBe(true)
    // The owner itself, and the owner of another volume of that name.
    expect(rejects(told(found(), 'host-b/agent', 't').io('host-b', 'read', 0, [1], 't'))).toBe(true)
    const again = found().add('volume.deleted', { volume: 'csv1' })
    expect(rejects(told(again, 'host-c/agent', 't').io('host-b', 'read', 0, [1], 't'))).toBe(true)
  })
  test('a write under way at its holder is not in it; one of a host that has lost the disk may be', () => {
    const read = (t: TraceBuilder) => cloned(t, 's', 'd').io('host-b', 'read', 0, [9], 's')
    expect(rejects(read(begun(base(), 'host-a')))).toBe(true)
    expect(rejects(read(begun(base(), 'host-c')))).toBe(false)
  })
  test('of a write over two extents, which may wait for room for one of them, either may be in it', () => {
    const last = 8191
    const torn = (seen: readonly number[]) => {
      const t = base()
      t.invoke('host-a', 'write', last, [7, 8], 'd')
      return cloned(t, 's', 'd').io('host-b', 'read', last, seen, 's')
    }
    expect(
      [
        [7, 8],
        [7, 0],
        [0, 0],
      ].map(seen => rejects(torn(seen))),
    ).toEqual([false, false, false])
    expect(rejects(torn([9, 0]))).toBe(true)
  })
})

describe('IO1: overlapping, failed and unknown requests', () => {
  const concurrent = (seen: readonly number[]) => {
    const t = trace()
    const a = t.invoke('host-a', 'write', 0, [1, 1])
    const b = t.invoke('host-b', 'write', 1, [2, 2])
    t.ok(a, 'host-a').ok(b, 'host-b')
    return t.io('host-a', 'read', 0, seen)
  }
  test('two overlapping writes: any of both in the shared sector, none elsewhere', () => {
    expect(
      [
        [1, 1, 2],
        [1, 2, 2],
      ].map(seen => rejects(concurrent(seen))),
    ).toEqual([false, false])
    expect(
      [
        [1, 0, 2],
        [2, 2, 2],
        [1, 1, 1],
        [1, 1, 0],
      ].map(seen => rejects(concurrent(seen))),
    ).toEqual([true, true, true, true])
  })
  test('a read during a write sees the old or the new value, and never the old one after the new', () => {
    const during = (first: number, second: number) => {
      const t = trace()
      const write = t.invoke('host-a', 'write', 0, [1])
      t.io('host-b', 'read', 0, [first]).io('host-b', 'read', 0, [second])
      return t.ok(write, 'host-a')
    }
    expect([during(0, 0), during(0, 1), during(1, 1), during(1, 0), during(2, 1)].map(rejects)).toEqual([
      false,
      false,
      false,
      true,
      true,
    ])
  })
  test('a read that is pending while writes complete is judged when it returns', () => {
    const slow = (seen: number) => {
      const t = trace()
      const read = t.invoke('host-b', 'read', 0, 1)
      t.io('host-a', 'write', 0, [1]).io('host-a', 'write', 0, [2])
      t.ok(read, 'host-b', [seen])
      return t.io('host-a', 'read', 0, [2])
    }
    expect([0, 1, 2, 3].map(seen => rejects(slow(seen)))).toEqual([false, false, false, true])
  })
  test('a failed write has no effect', () => {
    const failed = (seen: number) => {
      const t = trace().io('host-a', 'write', 0, [1])
      const write = t.invoke('host-a', 'write', 0, [2])
      return t.end('disk.fail', write, 'host-a').io('host-a', 'read', 0, [seen])
    }
    expect([1, 2].map(seen => rejects(failed(seen)))).toEqual([false, true])
  })
  test('a write of unknown outcome may come at any later time, once', () => {
    const unknown = (...seen: readonly number[]) => {
      const t = trace().io('host-a', 'write', 0, [1])
      const write = t.invoke('host-a', 'write', 0, [2])
      t.end('disk.info', write, 'host-a')
      for (const value of seen) t.io('host-a', 'read', 0, [value])
      return t
    }
    expect([unknown(1, 1), unknown(1, 2), unknown(2, 2)].map(rejects)).toEqual([false, false, false])
    expect([unknown(2, 1), unknown(3)].map(rejects)).toEqual([true, true])
    expect(rejects(unknown(1).io('host-a', 'write', 0, [3]).io('host-a', 'read', 0, [2]))).toBe(false)
    expect(rejects(unknown(2).io('host-a', 'write', 0, [3]).io('host-a', 'read', 0, [2]))).toBe(true)
  })
  test('an unknown write that surely came makes its sector an ordinary one again', () => {
    const disk = new BlockHistory()
    const [record] = trace().add('disk.invoke', { host: 'host-a', disk: 'disk1' }).records
    const request = { first: 0, count: 1, fua: false, host: 'host-a', record: record! }
    disk.invoke('1', { ...request, op: 'write', values: [5] })
    disk.info('1', record!)
    expect(disk.contested).toBe(1)
    disk.invoke('2', { ...request, op: 'read', values: null })
    disk.ok('2', [5], record!)
    disk.invoke('3', { ...request, op: 'write', values: [6] })
    disk.ok('3', null, record!)
    expect(disk.contested).toBe(0)
    expect(disk.takeFaults()).toEqual([])
  })
  test('what a dead host had in flight is of unknown outcome', () => {
    const died = (seen: number) => {
      const t = trace().io('host-a', 'write', 0, [1])
      t.invoke('host-a', 'write', 0, [2])
      t.invoke('host-a', 'read', 0, 1)
      return t.dead('host-a').io('host-b', 'read', 0, [seen]).io('host-b', 'write', 0, [3]).io('host-b', 'read', 0, [3])
    }
    expect([1, 2, 3].map(seen => rejects(died(seen)))).toEqual([false, false, true])
  })
  test('a request that never completes is judged by what others saw of it', () => {
    const pending = (seen: number) => {
      const t = trace()
      t.invoke('host-a', 'write', 0, [2])
      return t.io('host-b', 'read', 0, [seen])
    }
    expect([0, 2, 1].map(seen => rejects(pending(seen)))).toEqual([false, false, true])
  })
  test('a read that hangs while thousands of writes go by is left out and counted, the rest is judged', () => {
    const t = trace()
    const read = t.invoke('host-b', 'read', 0, 1)
    for (let value = 1; value <= 3000; value++) t.io('host-a', 'write', 0, [value])
    t.io('host-a', 'read', 0, [2999])
    t.ok(read, 'host-b', [12345])
    const monitors = createMonitors({ rules: ['IO1'] })
    for (const record of t.records) monitors.observe(record)
    expect(monitors.finish().map(each => each.message)).toEqual([
      'disk1: a read of sector 0 returned bb7 where it held bb8',
    ])
    expect(monitors.givenUp).toBe(1)
  })
})

// --- against the search ----------------------------------------------------------------------------------------------

interface Drawn {
  readonly op: 'read' | 'write' | 'zero' | 'trim'
  readonly first: number
  readonly count: number
  readonly start: number
  readonly length: number
  readonly outcome: 'ok' | 'disk.fail' | 'disk.info' | 'pending'
  readonly spots: readonly number[]
}

const SECTORS = 4

const anyRequests = fc.array(
  fc.record({
    op: fc.constantFrom<Drawn['op']>('read', 'read', 'read', 'write', 'write', 'write', 'zero', 'trim'),
    first: fc.integer({ min: 0, max: SECTORS - 1 }),
    count: fc.integer({ min: 1, max: SECTORS }),
    start: fc.integer({ min: 0, max: 40 }),
    length: fc.integer({ min: 1, max: 12 }),
    outcome: fc.constantFrom<Drawn['outcome']>('ok', 'ok', 'ok', 'ok', 'ok', 'disk.fail', 'disk.info', 'pending'),
    spots: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: SECTORS, maxLength: SECTORS }),
  }),
  { minLength: 1, maxLength: 14 },
)

/** Serves each sector of each request at a random instant within it, on real registers. */
function serve(drawn: readonly Drawn[]): {
  readonly values: readonly (readonly number[])[]
  readonly times: readonly (readonly [number, number])[]
} {
  const times = drawn.map(
    (each, index) => [each.start + index / 100, each.start + each.length + index / 100 + 0.005] as const,
  )
  const values = drawn.map((each, index) => {
    const count = Math.min(each.count, SECTORS - each.first)
    return Array.from({ length: count }, (_unused, at) => (each.op === 'write' ? 1 + (index % 7) * 10 + at : 0))
  })
  const effects = drawn.flatMap((each, index) =>
    values[index]!.map((_value, sector) => {
      const [from, to] = times[index]!
      const reach = each.outcome === 'disk.info' || each.outcome === 'pending' ? 10 : 1
      return { index, sector, at: from + (to - from) * reach * each.spots[sector]! }
    }),
  )
  effects.sort((a, b) => a.at - b.at)
  const disk = new Array<number>(SECTORS).fill(0)
  for (const { index, sector } of effects) {
    const each = drawn[index]!
    if (each.outcome === 'disk.fail') continue
    const at = each.first + sector
    if (each.op === 'read') values[index]![sector] = disk[at]!
    else if (each.op !== 'trim' || index % 2 === 0) disk[at] = values[index]![sector]!
  }
  return { values, times }
}

function toTrace(
  drawn: readonly Drawn[],
  values: readonly (readonly number[])[],
  times: readonly (readonly [number, number])[],
): TraceBuilder {
  const t = trace()
  const requests: number[] = []
  const events = drawn.flatMap((each, index) => [
    {
      at: times[index]![0],
      run: () =>
        (requests[index] = t.invoke(
          'host-a',
          each.op,
          each.first,
          each.op === 'write' ? values[index]! : values[index]!.length,
        )),
    },
    {
      at: times[index]![1],
      run: () => {
        if (each.outcome === 'ok') t.ok(requests[index]!, 'host-a', each.op === 'read' ? values[index]! : null)
        else if (each.outcome !== 'pending') t.end(each.outcome, requests[index]!, 'host-a')
      },
    },
  ])
  events.sort((a, b) => a.at - b.at)
  for (const { run } of events) run()
  return t
}

const sectorModel: Model<number, { op: string; value: number }> = {
  initial: 0,
  apply(state, { op, value }) {
    if (op === 'read') return state >> 1 === value || ((state & 1) === 1 && value === 0) ? state : REFUSED
    return op === 'trim' ? state | 1 : value * 2
  },
  isRead: ({ op }) => op === 'read',
}

function bySearch(
  drawn: readonly Drawn[],
  values: readonly (readonly number[])[],
  times: readonly (readonly [number, number])[],
): boolean {
  for (let sector = 0; sector < SECTORS; sector++) {
    const operations = drawn.flatMap((each, index) => {
      const value = values[index]![sector - each.first]
      if (value === undefined || each.outcome === 'disk.fail') return []
      const [invoked, returned] = times[index]!
      return [{ call: { op: each.op, value }, invoked, returned: each.outcome === 'ok' ? returned : null }]
    })
    if (!isLinearizable(operations, sectorModel)) return false
  }
  return true
}

describe('IO1: random disks', () => {
  test('histories of a real disk are accepted', () => {
    fc.assert(
      fc.property(anyRequests, drawn => {
        const { values, times } = serve(drawn)
        expect(bySearch(drawn, values, times)).toBe(true)
        expect(toTrace(drawn, values, times).judge('IO1')).toEqual([])
      }),
      { numRuns: 3_000, seed: 21 },
    )
  })
  test('a changed read gets the verdict of the search, whatever it is', () => {
    const verdicts = { accepted: 0, rejected: 0 }
    fc.assert(
      fc.property(anyRequests, fc.nat(), fc.nat(66), (drawn, pick, value) => {
        const { values, times } = serve(drawn)
        const reads = drawn.flatMap((each, index) => (each.op === 'read' && each.outcome === 'ok' ? [index] : []))
        const victim = reads[pick % Math.max(1, reads.length)]
        if (victim === undefined) return
        const changed = values.map((each, index) =>
          index === victim ? each.map((old, at) => (at === pick % each.length ? value : old)) : each,
        )
        const verdict = bySearch(drawn, changed, times)
        verdicts[verdict ? 'accepted' : 'rejected']++
        expect(rejects(toTrace(drawn, changed, times))).toBe(!verdict)
      }),
      { numRuns: 4_000, seed: 22 },
    )
    expect(verdicts.accepted).toBeGreaterThan(100)
    expect(verdicts.rejected).toBeGreaterThan(1_000)
  })
})

// --- raw backends ----------------------------------------------------------------------------------------------------

describe('IO1: a raw backend that crashes', () => {
  const options = { io1: { volatileWrites: true } }
  const flush = (t: TraceBuilder) => {
    const request = t.invoke('host-a', 'flush', 0, 0)
    return t.ok(request, 'host-a')
  }
  const crash = (t: TraceBuilder) => t.add('disk.crash', { disk: 'disk1' }, {}, 'simulator')
  const fua = (t: TraceBuilder, sector: number, values: readonly number[]) => {
    const request = t.invoke('host-a', 'write', sector, values, 'disk1', { fua: true })
    return t.ok(request, 'host-a')
  }
  const verdicts = (make: () => TraceBuilder, candidates: readonly number[]) =>
    candidates.map(value => make().io('host-a', 'read', 0, [value]).judge('IO1', options).length === 0)

  test('unflushed writes may be gone, one by one', () => {
    const make = () => crash(trace().io('host-a', 'write', 0, [1]).io('host-a', 'write', 0, [2]))
    expect(verdicts(make, [0, 1, 2, 3])).toEqual([true, true, true, false])
  })
  test('flushed writes stay, later ones may be gone', () => {
    const make = () =>
      crash(flush(trace().io('host-a', 'write', 0, [1]).io('host-a', 'write', 0, [2])).io('host-a', 'write', 0, [3]))
    expect(verdicts(make, [0, 1, 2, 3])).toEqual([false, false, true, true])
  })
  test('a write with FUA stays', () => {
    expect(verdicts(() => crash(fua(trace().io('host-a', 'write', 0, [1]), 0, [2])), [0, 1, 2])).toEqual([
      false,
      false,
      true,
    ])
  })
  test('a flush does not cover what completed after it was invoked, nor does one that never completed', () => {
    const late = () => {
      const t = trace()
      const request = t.invoke('host-a', 'flush', 0, 0)
      return crash(t.io('host-a', 'write', 0, [1]).ok(request, 'host-a'))
    }
    expect(verdicts(late, [0, 1])).toEqual([true, true])
    const pending = () => {
      const t = trace().io('host-a', 'write', 0, [1])
      t.invoke('host-a', 'flush', 0, 0)
      return crash(t)
    }
    expect(verdicts(pending, [0, 1])).toEqual([true, true])
  })
  test('a read before the crash does not pin an unflushed value, one after it does', () => {
    const make = () =>
      crash(trace().io('host-a', 'write', 0, [1]).io('host-a', 'read', 0, [1])).io('host-a', 'read', 0, [0])
    expect(verdicts(make, [0, 1])).toEqual([true, false])
  })
  test('a write of unknown outcome may still come after the crash', () => {
    const make = () => {
      const t = fua(trace(), 0, [1])
      t.invoke('host-a', 'write', 0, [2])
      return crash(t).io('host-a', 'read', 0, [1])
    }
    expect(verdicts(make, [1, 2, 0])).toEqual([true, true, false])
  })
  test('concurrent stable writes: whichever came last may be there', () => {
    const make = () => {
      const t = trace()
      const a = t.invoke('host-a', 'write', 0, [1])
      const b = t.invoke('host-b', 'write', 0, [2])
      return crash(flush(t.ok(a, 'host-a').ok(b, 'host-b')))
    }
    expect(verdicts(make, [0, 1, 2])).toEqual([false, true, true])
  })
  test('hundreds of writes between flushes: still only what was written, and only since the flush', () => {
    const make = () => {
      const t = trace()
      for (let value = 1; value <= 300; value++) t.io('host-a', 'write', 0, [value])
      flush(t)
      for (let value = 301; value <= 600; value++) t.io('host-a', 'write', 0, [value])
      return crash(t)
    }
    expect(verdicts(make, [299, 300, 301, 450, 600, 601])).toEqual([false, true, true, true, true, false])
  })
  test('without the crash mode a crash excuses nothing', () => {
    const t = crash(trace().io('host-a', 'write', 0, [1])).io('host-a', 'read', 0, [0])
    expect(t.judge('IO1').length).toBe(1)
  })
})
