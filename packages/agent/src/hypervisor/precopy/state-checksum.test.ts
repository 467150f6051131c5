// The combined checksum must be the very CRC-32 of the concatenation.

import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { combineCrc, PAGE_BYTES, PageChecksums } from './state-checksum.ts'

test('combining two CRCs gives the CRC of the concatenation', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
      expect(combineCrc(crc32(a), crc32(b), b.length)).toBe(crc32(Buffer.concat([a, b])))
    }),
  )
})

test('MIG3: the checksum kept per page is the CRC-32 of the whole memory and the registers behind it', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.tuple(fc.nat(5), fc.nat(255)), { maxLength: 12 }),
      fc.uint8Array({ maxLength: 40 }),
      (pages, writes, registers) => {
        const memory = Buffer.alloc(pages * PAGE_BYTES)
        const checksums = new PageChecksums(pages)
        for (const [page, value] of writes) {
          if (page >= pages) continue
          memory.fill(value, page * PAGE_BYTES + value, (page + 1) * PAGE_BYTES)
          checksums.set(page, crc32(memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)))
        }
        expect(checksums.whole(registers)).toBe(crc32(Buffer.concat([memory, registers])))
      },
    ),
  )
})
