import { expect, test } from 'vitest'
import { parseIpv4 } from './ipv4.ts'

test('an address is the number of its bytes', () => {
  const parsed = ['0.0.0.0', '10.0.0.7', '255.255.255.255', '192.168.100.1'].map(parseIpv4)
  expect(parsed).toEqual([0, 0x0a000007, 0xffffffff, 0xc0a86401])
})

test.each(['1.2.3', '1.2.3.256', '1.2.3.300', '1.2.3.4.5', 'a.b.c.d', '1.2.3.4 ', '1..2.3', ''])(
  '"%s" is none',
  text => {
    expect(() => parseIpv4(text)).toThrow(expect.objectContaining({ code: 'bad-address' }))
  },
)
