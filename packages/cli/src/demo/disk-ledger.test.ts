// What is read of a guest's disk from outside: entries that are whole and in order, and what is wrong with others.

import { encodeEntry, LOG_START, ledgerTag, unitOffset, unitsOf } from '@stellwerk/agent/guests/ledger-format.ts'
import { expect, test } from 'vitest'
import { readLedger } from './disk-ledger.ts'

const UNIT = 512

function placeOf(entry: number): [from: number, to: number] {
  const from = LOG_START + unitOffset(entry) * UNIT
  return [from, from + unitsOf(entry) * UNIT]
}

/** A disk with so many entries of this VM. */
function disk(entries: number, vm = 'web'): Buffer {
  const log = Buffer.alloc(64 * 1024)
  let crc = 0
  for (let entry = 1; entry <= entries; entry++) {
    crc = encodeEntry(log.subarray(...placeOf(entry)), entry, ledgerTag(vm), crc, UNIT)
  }
  return log
}

test('a whole ledger is read to its last entry', () => {
  expect(readLedger(disk(0), 'web')).toEqual({ entries: 0, misplaced: [] })
  expect(readLedger(disk(40), 'web')).toEqual({ entries: 40, misplaced: [] })
})

test('a ledger that fills the disk ends there', () => {
  const full = disk(9)
  expect(readLedger(full.subarray(0, placeOf(9)[1]), 'web')).toEqual({ entries: 9, misplaced: [] })
})

test('one bit rotten in the middle ends it there, and shows what stands behind', () => {
  const log = disk(12)
  log[placeOf(7)[0] + 100]! ^= 1
  expect(readLedger(log, 'web')).toEqual({ entries: 6, misplaced: [8, 9, 10, 11, 12] })
})

test('an entry that was lost, and others written behind it, is seen', () => {
  const log = disk(12)
  log.fill(0, ...placeOf(7))
  expect(readLedger(log, 'web')).toEqual({ entries: 6, misplaced: [8, 9, 10, 11, 12] })
})

test('a torn entry at the end is no damage; a second copy of an entry is', () => {
  const log = disk(10)
  log.fill(0, placeOf(10)[0] + 256, placeOf(10)[1])
  expect(readLedger(log, 'web')).toEqual({ entries: 9, misplaced: [] })
  log.copy(log, placeOf(20)[0], ...placeOf(4))
  expect(readLedger(log, 'web')).toEqual({ entries: 9, misplaced: [4] })
})

test('another guest’s disk is none of this one’s', () => {
  expect(readLedger(disk(5, 'other'), 'web')).toEqual({ entries: 0, misplaced: [] })
})
