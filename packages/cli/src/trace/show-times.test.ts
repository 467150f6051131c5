// Instants as people say them.

import { expect, test } from 'vitest'
import { parseInstant } from './show-times.ts'

const END = Date.UTC(2026, 2, 1, 12, 0, 0)

test.each([
  ['5m', END - 300_000],
  ['1.5s', END - 1_500],
  ['250ms', END - 250],
  ['2d', END - 2 * 86_400_000],
  ['11:59', END - 60_000],
  ['11:59:59.5', END - 500],
  // Later than the end: that of the day before.
  ['12:00:01', Date.UTC(2026, 1, 28, 12, 0, 1)],
  ['2026-02-28', Date.UTC(2026, 1, 28)],
  ['2024-02-29T23:59:59.999Z', Date.UTC(2024, 1, 29, 23, 59, 59, 999)],
  ['2000-01-01 00:00', Date.UTC(2000, 0, 1)],
  ['1970-01-01T00:00:00Z', 0],
])('%s', (text, at) => expect(parseInstant('since', text, END)).toBe(at))

test.each(['', '5', '5 m', 'm', '24:00', '12:60', '12:00:60', '2026-02-29', '2026-13-01', '2026-1-1', '-5m', 'now'])(
  'refuses "%s"',
  text => {
    expect(() => parseInstant('since', text, END)).toThrow(
      expect.objectContaining({ code: 'bad-time', where: '--since' }),
    )
  },
)
