// The stream's parser: whatever way the bytes are cut, whatever is done to them.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { createPipe } from './pipe.ts'
import { PageReceiver } from './receiver.ts'
import { PageSender } from './sender.ts'
import { Shadow } from './shadow.ts'
import { PAGE_BYTES } from './state-checksum.ts'

const PAGES = 6
const { env } = createVirtualEnvironment(3)

interface Recorded {
  readonly bytes: Buffer
  readonly memory: Buffer
  readonly stateChecksum: number
}

/** A stream of two rounds over a little memory, as a source sends it. */
async function record(writes: readonly (readonly [number, number])[], registers: Uint8Array): Promise<Recorded> {
  const memory = Buffer.alloc(PAGES * PAGE_BYTES)
  const pipe = createPipe('test', 1)
  const chunks: Uint8Array[] = []
  pipe.reader.onData(chunk => chunks.push(Uint8Array.from(chunk)))
  const shadow = new Shadow(memory)
  const sender = new PageSender(env, pipe.writer, shadow)
  for (let round = 1; round <= 2; round++) {
    for (const [page, value] of writes)
      memory.fill(round === 1 ? value : value >> 1, page * PAGE_BYTES, page * PAGE_BYTES + 9)
    const dirty: number[] = []
    shadow.scan(0, PAGES, dirty)
    await sender.sendAll(round, dirty)
  }
  const stateChecksum = await sender.finish(2, registers, { round: 2 })
  await new Promise(resolve => setImmediate(resolve))
  return { bytes: Buffer.concat(chunks), memory, stateChecksum }
}

async function parse(
  chunks: readonly Uint8Array[],
): Promise<{ outcome: string; memory: Buffer; receiver: PageReceiver }> {
  const memory = Buffer.alloc(PAGES * PAGE_BYTES)
  const receiver = new PageReceiver(env, memory)
  try {
    for (const chunk of chunks) await receiver.push(chunk)
  } catch (error) {
    return { outcome: errorCode(error), memory, receiver }
  }
  return { outcome: receiver.image === null ? 'incomplete' : 'complete', memory, receiver }
}

const writes = fc.array(fc.tuple(fc.nat(PAGES - 1), fc.nat(255)), { maxLength: 8 })

test('MIG3: however the stream is cut into chunks, what arrives is what was sent', async () => {
  await fc.assert(
    fc.asyncProperty(
      writes,
      fc.uint8Array({ maxLength: 50 }),
      fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 20 }),
      async (changes, registers, sizes) => {
        const sent = await record(changes, registers)
        const chunks: Uint8Array[] = []
        for (let at = 0, n = 0; at < sent.bytes.length; n++) {
          const size = sizes[n % sizes.length]!
          chunks.push(sent.bytes.subarray(at, at + size))
          at += size
        }
        const { outcome, memory, receiver } = await parse(chunks)
        expect(outcome).toBe('complete')
        expect(memory.equals(sent.memory)).toBe(true)
        expect(receiver.image?.stateChecksum).toBe(sent.stateChecksum)
        expect(Buffer.from(receiver.image!.registers).equals(registers)).toBe(true)
        expect(receiver.image?.trailer).toEqual({ round: 2 })
      },
    ),
    { numRuns: 100 },
  )
})

test('a stream changed, cut or lengthened anywhere is never taken for whole', async () => {
  const sent = await record(
    [
      [0, 200],
      [2, 17],
      [5, 90],
    ],
    Buffer.from('registers'),
  )
  await fc.assert(
    fc.asyncProperty(fc.nat(sent.bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const changed = Buffer.from(sent.bytes)
      changed[at]! ^= flip
      expect((await parse([changed])).outcome).not.toBe('complete')
      expect((await parse([sent.bytes.subarray(0, at)])).outcome).toBe('incomplete')
      expect((await parse([sent.bytes, changed.subarray(at)])).outcome).toBe('corrupt-data')
    }),
    { numRuns: 500 },
  )
})

test('any bytes end in a coded error or wait for more', async () => {
  const { bytes } = await record([[1, 1]], new Uint8Array())
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), fc.nat(200), async (rubbish, keep) => {
      expect(['corrupt-data', 'incomplete']).toContain((await parse([bytes.subarray(0, keep), rubbish])).outcome)
    }),
    { numRuns: 500 },
  )
})

test('a stream for a machine of another size is refused before a page of it', async () => {
  const { bytes } = await record([[1, 1]], new Uint8Array())
  const receiver = new PageReceiver(env, Buffer.alloc(2 * PAGE_BYTES))
  expect(() => receiver.push(bytes)).toThrow(/6 pages/)
})
