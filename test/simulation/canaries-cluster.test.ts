// Each planted bug of this part is found by the rule named for it, in a seed that is clean without it (planted-bugs.ts).

import { CANARIES } from 'stellwerk/simulation/canaries.ts'
import { expect, test } from 'vitest'
import { finds } from './planted-bugs.ts'

finds('cluster')

test('there are at least twelve planted bugs, each with a name of its own', () => {
  expect(new Set(CANARIES.map(({ name }) => name)).size).toBeGreaterThanOrEqual(12)
})
