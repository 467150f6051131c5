import { expect, it } from 'vitest'
import { decodeTrailer, encodeTrailer } from './trailer.ts'

it('is what it was, after JSON', () => {
  const unheard = { bytes: Buffer.from('half a line \xff', 'latin1'), shown: 4 }
  const trailer = { handedOver: { migration: 'm', maps: [1, 2] }, unheard }
  expect(decodeTrailer(JSON.parse(JSON.stringify(encodeTrailer(trailer))))).toEqual(trailer)
})

it.each([
  ...[null, 0, 'text', [], {}, { handedOver: 1, shown: 0 }, { unheard: '', shown: 0 }],
  { handedOver: 1, unheard: 2, shown: 0 },
  ...[undefined, null, '0', -1, 0.5, 4].map(shown => ({ handedOver: 1, unheard: 'YWJj', shown })),
])('is refused: %j', value => {
  expect(() => decodeTrailer(value as never)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
})
