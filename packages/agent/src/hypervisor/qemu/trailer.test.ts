import { expect, it } from 'vitest'
import { decodeTrailer, encodeTrailer } from './trailer.ts'

const PORT = { life: 'x', at: 7, recent: 'YWJj', unheard: 'YWJj', shown: 3 }

it('is what it was, after JSON', () => {
  const unheard = Buffer.from('half a line \xff', 'latin1')
  const port = { life: 'a life', at: 4_000, recent: Buffer.from('before\nhalf'), unheard, shown: 4 }
  const trailer = { handedOver: { migration: 'm', maps: [1, 2] }, port }
  expect(decodeTrailer(JSON.parse(JSON.stringify(encodeTrailer(trailer))))).toEqual(trailer)
})

it.each([
  ...[null, 0, 'text', [], {}, { handedOver: 1 }, { port: PORT }, { handedOver: 1, port: null }],
  ...[undefined, 1, '', 'x'.repeat(65)].map(life => ({ handedOver: 1, port: { ...PORT, life } })),
  ...[undefined, null, '0', -1, 0.5, Number.MAX_SAFE_INTEGER].flatMap(bad => [
    { handedOver: 1, port: { ...PORT, at: bad } },
    { handedOver: 1, port: { ...PORT, shown: bad } },
  ]),
  { handedOver: 1, port: { ...PORT, shown: 4 } },
  ...[undefined, 2].flatMap(bad => [
    { handedOver: 1, port: { ...PORT, unheard: bad } },
    { handedOver: 1, port: { ...PORT, recent: bad } },
  ]),
  { handedOver: 1, port: { ...PORT, recent: Buffer.alloc(4097).toString('base64') } },
])('is refused: %j', value => {
  expect(() => decodeTrailer(value as never)).toThrow(expect.objectContaining({ code: 'corrupt-data' }))
})
