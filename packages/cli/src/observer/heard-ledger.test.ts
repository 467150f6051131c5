// What the observer makes of the lines it hears.

import { expect, test } from 'vitest'
import { HeardLedger } from './heard-ledger.ts'

function hears(...lines: readonly (readonly [line: string, host: string, at: number])[]): HeardLedger {
  const ledger = new HeardLedger('web')
  for (const [line, host, at] of lines) ledger.take(line, host, at)
  return ledger
}

test('entries in order are heard once each, with nothing missed or doubled', () => {
  const ledger = hears(['boot', 'a', 0], ['recovered 0 intact', 'a', 1], ['ack 1', 'a', 2], ['ack 2', 'a', 3])
  expect([ledger.heard, ledger.highest, ledger.missed, ledger.duplicated]).toEqual([2, 2, 0, 0])
  expect(ledger.boots).toEqual([{ host: 'a', at: 1, entries: 0, intact: true }])
})

test('an entry heard twice is a double, one passed over is missed until it comes', () => {
  const ledger = hears(['ack 1', 'a', 1], ['ack 4', 'b', 2], ['ack 3', 'a', 3], ['ack 3', 'a', 4], ['ack 4', 'b', 5])
  expect([ledger.heard, ledger.highest, ledger.missed, ledger.duplicated]).toEqual([3, 4, 1, 2])
})

test('the pause of a move is from the last entry heard there to the first heard here', () => {
  const ledger = hears(
    ['ack 1', 'a', 10],
    ['ack 2', 'a', 20],
    ['ack 3', 'b', 57],
    ['ack 4', 'b', 60],
    ['ack 5', 'c', 99],
  )
  expect(ledger.handovers.map(({ from, to }) => [from.host, to.host, to.at - from.at])).toEqual([
    ['a', 'b', 37],
    ['b', 'c', 39],
  ])
})

test('damage that a guest finds is kept in its words; a disk that is away for a while is none', () => {
  const lines = [
    'disk error write entry',
    'memory damaged page 3',
    'recovered 7 damaged entry 8 is missing, 9 is there',
  ]
  const ledger = hears(...lines.map((line, at) => [line, 'a', at] as const))
  expect(ledger.complaints).toEqual(lines.slice(1))
  expect(ledger.boots.map(({ entries, intact }) => [entries, intact])).toEqual([[7, false]])
})
