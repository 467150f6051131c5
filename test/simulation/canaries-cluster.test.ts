import { CANARIES } from 'stellwerk/simulation/canaries.ts'
import { expect, test } from 'vitest'
import { finds } from './planted-bugs.ts'

finds('cluster')

test('there are at least twelve planted bugs, each with a name of its own', () => {
  expect(new Set(CANARIES.map(({ name }) => name)).size).toBeGreaterThanOrEqual(12)
})
