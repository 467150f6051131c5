import { expect, test } from 'vitest'
import type { CheckReport } from '../check.ts'
import { codeOf } from '../testing/fixture.ts'
import { MAX_STILL, StillWork } from './still-work.ts'

const report = { clean: true } as CheckReport

test('a check that was refused because too much waits is nobody else’s answer', async () => {
  const still = new StillWork()
  const asked = Array.from({ length: MAX_STILL }, (_, i) => still.ask('csv1', async () => i))
  expect(await codeOf(still.check('csv1', async () => report))).toBe('owner-busy')
  await still.run()
  expect(await Promise.all(asked)).toEqual([...asked.keys()])
  const again = still.check('csv1', async () => report)
  await still.run()
  expect(await again).toBe(report)
})
