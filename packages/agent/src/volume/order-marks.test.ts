import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { expect, it } from 'vitest'
import { OrderMarks } from './order-marks.ts'

const stale = expect.objectContaining({ code: 'stale-order', retryable: true })

it('orders about a volume’s disks are taken in their order; one that comes late is refused, and may be asked again', () => {
  const store = memoryStore()
  const marks = new OrderMarks(store)
  marks.check('csv1', 7)
  marks.check('csv1', 7)
  marks.check('csv1', 9)
  marks.check('csv1', undefined)
  marks.check('csv2', 3)
  expect(() => marks.check('csv1', 8)).toThrow(stale)
  marks.check('csv1', 9)
  // The agent that took them has died since.
  expect(() => new OrderMarks(store).check('csv1', 8)).toThrow(stale)
})
