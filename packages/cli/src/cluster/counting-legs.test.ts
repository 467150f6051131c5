import { expect, test } from 'vitest'
import { countingLegs } from './counting-legs.ts'

type Role = 'in-sync' | 'syncing' | 'stale'
const leg = (storage: string, name: string | null, generation: number, a?: Role, b?: Role) => ({
  ...{ storage, leg: name },
  marks: { generation, legs: a === undefined || b === undefined ? {} : { 'leg-0': a, 'leg-1': b } },
})
const said = (...found: ReturnType<typeof leg>[]) => {
  const { counting, missing } = countingLegs(found)
  return [counting.map(({ storage }) => storage).join(), missing.join()]
}

test('a volume of one leg, which has no generations', () => {
  expect(said(leg('san-a', 'leg-0', 0))).toEqual(['san-a', ''])
})

test('both legs, where both are in sync; one, where the other was left behind', () => {
  const [a, b] = [leg('san-a', 'leg-0', 5, 'in-sync', 'in-sync'), leg('san-b', 'leg-1', 5, 'in-sync', 'in-sync')]
  expect(said(a, b)).toEqual(['san-a,san-b', ''])
  expect(said(leg('san-a', 'leg-0', 6, 'in-sync', 'stale'), b)).toEqual(['san-a', ''])
})

test('a leg that was left behind is not the volume, nor is one of two that are in sync', () => {
  expect(said(leg('san-b', 'leg-1', 5, 'in-sync', 'in-sync'))).toEqual(['san-b', 'leg-0'])
  expect(said(leg('san-b', 'leg-1', 5, 'in-sync', 'stale'))).toEqual(['', 'leg-0'])
})

test('one that is in sync and was never told so is not missed, and not read', () => {
  const told = leg('san-a', 'leg-0', 6, 'in-sync', 'in-sync')
  expect(said(told, leg('san-b', 'leg-1', 5, 'in-sync', 'syncing'))).toEqual(['san-a', ''])
})

test('a generation that only the storage of the leg that catches up was told: the one in sync before is the volume', () => {
  const syncing = leg('san-b', 'leg-1', 6, 'in-sync', 'syncing')
  expect(said(leg('san-a', 'leg-0', 5, 'in-sync', 'stale'), syncing)).toEqual(['san-a', ''])
})

test('one whose superblock cannot be read may be the one that is missed', () => {
  const told = leg('san-a', 'leg-0', 5, 'in-sync', 'in-sync')
  expect(said(told, leg('san-b', null, 5, 'in-sync', 'in-sync'))).toEqual(['san-a,san-b', ''])
})
