import { expect, it } from 'vitest'
import { parseTrailer } from './released-trailer.ts'

const GOOD = { migration: 'm', epoch: 7, handover: [{ disk: 'd' }], releasedWallMs: 1.5 }

it('is believed as it was handed over', () => {
  expect(parseTrailer(GOOD)).toEqual(GOOD)
})

const bad = [null, 0, 'text', [], {}, { ...GOOD, epoch: -1 }, { ...GOOD, migration: null }, { ...GOOD, more: 1 }]
it.each(bad)('what is none is refused, and nothing ends by it: %j', trailer => {
  expect(() => parseTrailer(trailer)).toThrow(expect.objectContaining({ code: 'bad-handover' }))
})
