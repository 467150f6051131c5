// The checksum of a piece of a migration stream: GMAC (NIST SP 800-38D) under a key that everybody knows, with the piece's number
// and what its head says of its length as the nonce, so that a piece that is damaged, missing or out of its place is found, and one
// whose head is. It keeps no secret and proves nothing of who sent it; it is taken because processors have instructions for it.
// Measured over 400 MiB of a guest's memory that no cache holds: 66 ms, where CRC-32 takes 127.

import { createCipheriv, createSecretKey } from 'node:crypto'

export const CHECKSUM_BYTES = 16
/** As a key of its own: bytes are made one at each use, which takes longer than a piece of 128 KiB. */
const KEY = createSecretKey(Buffer.from('Stellwerk pieces', 'latin1'))
const NONCE_BYTES = 12

/** Of all parts, one behind the other; however they are cut. `length`: what the head says, below 2^32. */
export function pieceChecksum(n: number, length: number, parts: readonly Uint8Array[]): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES)
  nonce.writeUIntLE(n, 0, 6)
  nonce.writeUInt32LE(length, 8)
  const mac = createCipheriv('aes-128-gcm', KEY, nonce)
  for (const part of parts) if (part.length > 0) mac.setAAD(part)
  mac.final()
  return mac.getAuthTag()
}
