import { expect, test } from 'vitest'
import { RecentMap } from './recent-map.ts'

test('keeps the newest, forgets the oldest, and what an old entry is set to is new', () => {
  const map = new RecentMap<number, string>(3)
  for (const key of [1, 2, 3, 4]) map.set(key, `v${key}`)
  map.set(2, 'again')
  expect(map.values()).toEqual(['v3', 'v4', 'again'])
  map.delete(4)
  for (const key of [5, 6, 7]) map.set(key, `v${key}`)
  expect([1, 3, 4].map(key => map.get(key))).toEqual([undefined, undefined, undefined])
  expect(map.values()).toEqual(['v5', 'v6', 'v7'])
})
