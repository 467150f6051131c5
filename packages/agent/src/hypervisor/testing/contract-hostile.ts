// A migration stream that is framed as it should be, and means harm: whoever reads it ends, alone.

import { expect, test } from 'vitest'
import { createPipe } from '../precopy/pipe.ts'
import { StreamEncoder } from '../qemu/stream-format.ts'
import type { ContractBench } from './contract-bench.ts'

const PIECE_BYTES = 256 * 1024
/** What QEMU's streams begin with: its magic and version 3 (migration/qemu-file-types.h). */
const QEMU_START = Buffer.from('5145564d00000003', 'hex')
/** A section of type FULL named "ram" whose length is a lie, and one of a device that is none. */
const LYING_SECTIONS = [
  Buffer.from('04000000020372616d0000000000000004ffffffffffffffff', 'hex'),
  Buffer.from('0400000001ff', 'hex'),
]

/** The same each time. */
function noise(): Buffer {
  let state = 1
  return Buffer.from(
    Uint8Array.from({ length: PIECE_BYTES }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return state >>> 24
    }),
  )
}

export function hostileContract(on: () => ContractBench): void {
  test.each([
    ['noise', [noise()]],
    ['a beginning, and noise', [QEMU_START, noise()]],
    ['sections that lie', LYING_SECTIONS.map(section => Buffer.concat([QEMU_START, section, noise()]))],
    ['zeros', [Buffer.alloc(PIECE_BYTES)]],
    ['next to nothing', [Buffer.from('Q')]],
  ])('a hostile stream is refused, its reader ends alone, and other machines run on: %s', async (_, parts) => {
    const other = await on().running()
    for (const part of parts) {
      const incoming = await on().receive()
      const { reader, writer } = createPipe('hostile')
      const encoder = new StreamEncoder()
      const loading = on().outcome(incoming.load(reader))
      writer.write(encoder.piece([part]))
      writer.write(encoder.end(null))
      writer.end()
      expect(['corrupt-data', 'qemu-failed', 'stream-lost']).toContain(await on().settle(loading))
      expect(await on().failure(incoming.run(on().commit()))).toBe('bad-migration-state')
      await on().settle(incoming.discard())
    }
    const heard = other.acks.length
    await on().until('the other machine goes on', () => other.acks.length >= heard + 10)
  })
}
