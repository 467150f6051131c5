// Since when a leg is behind: by the map, by what was seen, or not known.

import type { ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'
import { expect, it } from 'vitest'
import { LegBook } from './leg-book.ts'

type Role = 'in-sync' | 'syncing' | 'stale'

function volume(generation: number, b: Role, lastInSync: number | null = null): ClusterMapVolume {
  const leg = { lun: 'csv1', lastInSync: null }
  return {
    name: 'csv1',
    id: 'v1',
    sizeBytes: 1,
    generation,
    owner: null,
    format: false,
    legs: [
      { ...leg, leg: 'leg-0', storage: 'san-a', index: 0, role: 'in-sync' },
      { ...leg, leg: 'leg-1', storage: 'san-b', index: 1, role: b, lastInSync },
    ],
  } as ClusterMapVolume
}

const roles = (number: number, b: Role) => ({ number, legs: { 'leg-0': 'in-sync', 'leg-1': b } as const })
const since = (book: LegBook, number: number, b: Role): unknown => book.saw(roles(number, b)).legs[1]?.lastInSync

it('a leg that was in sync in one generation and is stale in the next was last in sync in the former', () => {
  const book = new LegBook(volume(4, 'in-sync'))
  expect(since(book, 5, 'stale')).toBe(4)
  expect(since(book, 6, 'syncing')).toBe(4)
})

it('the map knows better of its own generation', () => {
  const book = new LegBook(volume(4, 'in-sync'))
  book.follow(volume(9, 'stale', 7))
  expect(since(book, 9, 'stale')).toBe(7)
})

it('where generations were missed it is not known until the map tells', () => {
  const book = new LegBook(volume(4, 'in-sync'))
  expect(since(book, 7, 'stale')).toBe('unknown')
  book.follow(volume(7, 'stale', 6))
  expect(since(book, 7, 'stale')).toBe(6)
})

it('a leg the map has not told of is on no storage', () => {
  const book = new LegBook(volume(4, 'in-sync'))
  expect(book.find('leg-2')).toBeNull()
  expect(book.find('leg-1')?.storage).toBe('san-b')
})
