// Records are stamped, counted and filtered by level.

import { expect, test } from 'vitest'
import type { Clock, TraceLevel, TraceRecord } from './environment.ts'
import { compareHlc } from './hlc.ts'
import { createTraceSink } from './trace-sink.ts'

const clock: Clock = { now: () => 5, wall: () => 1000 }

function recorded(level: TraceLevel) {
  const records: TraceRecord[] = []
  return {
    records,
    sink: createTraceSink('host-a/agent', clock, { level, write: record => void records.push(record) }),
  }
}

test('records are counted from 1, with growing stamps and the ids they were given', () => {
  const { records, sink } = recorded('io')
  expect(sink.emit({ level: 'io', kind: 'guest.step', vm: 'v1', body: { n: 1 } })).toEqual({
    process: 'host-a/agent',
    seq: 1,
  })
  const cause = { process: 'coordinator', seq: 7 }
  sink.emit({ level: 'decision', kind: 'vm.run', cause })
  expect(records.map(r => [r.seq, r.kind, r.at, r.process])).toEqual([
    [1, 'guest.step', 5, 'host-a/agent'],
    [2, 'vm.run', 5, 'host-a/agent'],
  ])
  expect(records[0]).toMatchObject({ vm: 'v1', body: { n: 1 } })
  expect(records[1]?.cause).toEqual(cause)
  expect(compareHlc(records[1]!.hlc, records[0]!.hlc)).toBeGreaterThan(0)
})

test('what is finer than the level is not written, and its cause stands in for it', () => {
  const { records, sink } = recorded('decision')
  expect([sink.on('decision'), sink.on('message'), sink.on('io')]).toEqual([true, false, false])
  const cause = sink.emit({ level: 'decision', kind: 'vm.run' })
  expect(sink.emit({ level: 'io', kind: 'guest.step', cause })).toEqual(cause)
  sink.input('sequencer', 1)
  expect(records.length).toBe(1)
})

test('within a cause, what has none of its own has that one, and afterwards none', () => {
  const { records, sink } = recorded('message')
  const cause = { process: 'coordinator', seq: 7 }
  const own = { process: 'host-b/agent', seq: 1 }
  sink.within(cause, () => {
    sink.emit({ level: 'decision', kind: 'vm.run' })
    sink.within(undefined, () => sink.emit({ level: 'decision', kind: 'vm.halt' }))
    sink.emit({ level: 'decision', kind: 'vm.run', cause: own })
    expect(sink.emit({ level: 'io', kind: 'guest.step' })).toEqual(cause)
  })
  expect(() => sink.within(cause, () => expect.unreachable())).toThrow()
  sink.emit({ level: 'decision', kind: 'vm.run' })
  expect(records.map(record => record.cause)).toEqual([cause, undefined, own, undefined])
})

test('a record made after a message was observed is stamped later than the message', () => {
  const { records, sink } = recorded('message')
  sink.observe({ wallMs: 2000, counter: 4 })
  expect(compareHlc(sink.stamp(), { wallMs: 2000, counter: 4 })).toBeGreaterThan(0)
  sink.input('sequencer', { a: 1 })
  sink.output('sequencer', () => null)
  sink.output('sequencer', () => 'b')
  sink.snapshot('sequencer', [])
  expect(records.map(r => [r.kind, r.body])).toEqual([
    ['core.input', { core: 'sequencer', value: { a: 1 } }],
    ['core.output', { core: 'sequencer', value: 'b' }],
    ['core.snapshot', { core: 'sequencer', value: [] }],
  ])
  expect(records[0]!.hlc.wallMs).toBe(2000)
})

test('without a writer nothing is recorded', () => {
  const sink = createTraceSink('p', clock, null)
  expect(sink.on('decision')).toBe(false)
  expect(sink.emit({ level: 'decision', kind: 'vm.run' })).toEqual({ process: 'p', seq: 0 })
})
