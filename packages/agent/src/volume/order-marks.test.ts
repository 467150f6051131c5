import { expect, it } from 'vitest'
import { OrderMarks } from './order-marks.ts'

it('orders about a volume’s disks are taken in their order; one that comes late is refused, and may be asked again', () => {
  const marks = new OrderMarks()
  marks.check('csv1', 7)
  marks.check('csv1', 7)
  marks.check('csv1', 9)
  marks.check('csv1', undefined)
  marks.check('csv2', 3)
  expect(() => marks.check('csv1', 8)).toThrow(expect.objectContaining({ code: 'stale-order', retryable: true }))
  marks.check('csv1', 9)
})
