import { expect, it } from 'vitest'
import { decodeTrailer, encodeTrailer } from './trailer.ts'

it('is what it was, after JSON', () => {
  const trailer = { handedOver: { migration: 'm', maps: [1, 2] }, unheard: Buffer.from('half a line \xff', 'latin1') }
  expect(decodeTrailer(JSON.parse(JSON.stringify(encodeTrailer(trailer))))).toEqual(trailer)
})

it.each([null, 0, 'text', [], {}, { handedOver: 1 }, { unheard: '' }, { handedOver: 1, unheard: 2 }])(
  'is refused: %j',
  value => {
    expect(() => decodeTrailer(value)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
  },
)
