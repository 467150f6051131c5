// The checksum of a migration stream's piece.

import { createCipheriv } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { pieceChecksum } from './piece-checksum.ts'

test('is the same however the parts are cut, and another for another number or length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), fc.nat(), (bytes, cut, n) => {
      const whole = pieceChecksum(n, bytes.length, [bytes])
      expect(pieceChecksum(n, bytes.length, [bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(whole)
      expect(pieceChecksum(n + 1, bytes.length, [bytes])).not.toEqual(whole)
      expect(pieceChecksum(n, bytes.length + 1, [bytes])).not.toEqual(whole)
    }),
  )
})

test('is GMAC: the tag of an AES-GCM that seals nothing and authenticates the bytes', () => {
  const bytes = Buffer.from('a page of a guest')
  const nonce = Buffer.from([7, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0])
  const cipher = createCipheriv('aes-128-gcm', Buffer.from('Stellwerk pieces'), nonce).setAAD(bytes)
  cipher.final()
  expect(pieceChecksum(7, 17, [bytes])).toEqual(cipher.getAuthTag())
})
