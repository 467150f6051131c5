// What every BlockDevice must do, as one suite of tests: whoever implements the interface runs it on a device of his.

import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type BlockDevice, BlockError, type Io } from '../device.ts'

export interface ContractSubject {
  /** Reads as zeroes, is at least 1 MiB long and writable. */
  readonly device: BlockDevice
  /** After `device.close()`; frees what the test needed around it. */
  dispose?(): Promise<void>
}

const IO: Io = { origin: 'contract', deadlineAt: null }
/** The range the property test plays in, in blocks. */
const MODEL_BLOCKS = 64

export function join(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts)
}

export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = (seed * 2_654_435_761 + 1) >>> 0
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}

async function rejection(promise: Promise<unknown>): Promise<BlockError> {
  try {
    await promise
  } catch (error) {
    expect(error).toBeInstanceOf(BlockError)
    return error as BlockError
  }
  throw new Error('expected a BlockError')
}

export function describeBlockDevice(name: string, make: () => Promise<ContractSubject>): void {
  describe(`BlockDevice contract: ${name}`, () => {
    let subject: ContractSubject
    let device: BlockDevice
    let block: number

    beforeEach(async () => {
      subject = await make()
      device = subject.device
      block = Math.max(512, device.limits.minimum)
    })

    afterEach(async () => {
      await device.close()
      await subject.dispose?.()
    })

    it('reads zeroes before the first write', async () => {
      expect(join(await device.read(0, 4 * block, IO)).equals(Buffer.alloc(4 * block))).toBe(true)
    })

    it('reads what was written, and leaves the neighbours alone', async () => {
      const data = pattern(3 * block, 1)
      await device.write(2 * block, [data], {}, IO)
      const around = join(await device.read(0, 8 * block, IO))
      const expected = Buffer.concat([Buffer.alloc(2 * block), data, Buffer.alloc(3 * block)])
      expect(around.equals(expected)).toBe(true)
    })

    it('takes a scattered write as one', async () => {
      const data = pattern(4 * block, 2)
      const cuts = [0, 1, 17, block + 3, block + 3, 4 * block - 1, 4 * block]
      const parts = cuts.slice(1).map((end, index) => data.subarray(cuts[index], end))
      await device.write(block, parts, { fua: true }, IO)
      expect(join(await device.read(block, 4 * block, IO)).equals(data)).toBe(true)
    })

    it('gives a reader bytes that later writes do not change', async () => {
      await device.write(0, [pattern(block, 3)], {}, IO)
      const before = await device.read(0, block, IO)
      await device.write(0, [pattern(block, 4)], {}, IO)
      expect(join(before).equals(pattern(block, 3))).toBe(true)
    })

    it('takes its longest read and write, and its last block', async () => {
      const length = Math.min(device.limits.maximum, device.size)
      const data = pattern(length, 5)
      await device.write(device.size - length, [data], {}, IO)
      expect(join(await device.read(device.size - length, length, IO)).equals(data)).toBe(true)
    })

    it('serves many requests at once', async () => {
      const count = 200
      const writes = Array.from({ length: count }, (_, index) =>
        device.write(index * block, [pattern(block, index)], {}, IO),
      )
      await Promise.all(writes)
      const reads = await Promise.all(
        Array.from({ length: count }, (_, index) => device.read(index * block, block, IO)),
      )
      reads.forEach((parts, index) => {
        expect(join(parts).equals(pattern(block, index))).toBe(true)
      })
    })

    it('zeroes a range and no more', async () => {
      await device.write(0, [pattern(6 * block, 6)], {}, IO)
      await device.zero(block, 2 * block, {}, IO)
      await device.zero(4 * block, block, { fua: true, noHole: true }, IO)
      const expected = Buffer.from(pattern(6 * block, 6))
      expected.fill(0, block, 3 * block)
      expected.fill(0, 4 * block, 5 * block)
      expect(join(await device.read(0, 6 * block, IO)).equals(expected)).toBe(true)
    })

    it('trims: the range reads as before or as zeroes, the neighbours as before', async () => {
      if (!device.caps.trim) return
      const data = pattern(6 * block, 7)
      await device.write(0, [data], {}, IO)
      await device.trim(block, 4 * block, {}, IO)
      const after = join(await device.read(0, 6 * block, IO))
      expect(after.subarray(0, block).equals(data.subarray(0, block))).toBe(true)
      expect(after.subarray(5 * block).equals(data.subarray(5 * block))).toBe(true)
      for (let at = block; at < 5 * block; at += block) {
        const piece = after.subarray(at, at + block)
        const kept = piece.equals(data.subarray(at, at + block))
        expect(kept || piece.equals(Buffer.alloc(block))).toBe(true)
      }
    })

    it('tells the status of a range: what is zero reads as zero, and the lengths fit', async () => {
      if (device.blockStatus === undefined) return
      await device.write(16 * block, [pattern(block, 8)], {}, IO)
      const length = 256 * block
      let at = 0
      while (at < length) {
        const extents = await device.blockStatus(at, length - at, IO)
        expect(extents.length).toBeGreaterThan(0)
        for (const extent of extents) {
          expect(extent.length).toBeGreaterThan(0)
          expect(at + extent.length).toBeLessThanOrEqual(length)
          if (extent.zero) {
            for (let done = 0; done < extent.length; done += block) {
              expect(join(await device.read(at + done, block, IO)).equals(Buffer.alloc(block))).toBe(true)
            }
          }
          at += extent.length
        }
      }
      expect((await rejection(device.blockStatus(device.size, block, IO))).errno).toBe('EINVAL')
    })

    it('flushes', async () => {
      await device.write(0, [pattern(block, 9)], {}, IO)
      await device.flush(IO)
    })

    it('lets requests of no length do nothing', async () => {
      expect(join(await device.read(0, 0, IO)).length).toBe(0)
      await device.write(device.size, [], {}, IO)
      await device.write(0, [new Uint8Array(0)], {}, IO)
      await device.zero(0, 0, {}, IO)
      if (device.caps.trim) await device.trim(0, 0, {}, IO)
      expect(join(await device.read(0, block, IO)).equals(Buffer.alloc(block))).toBe(true)
    })

    it.each([
      ['past the end', (d: BlockDevice, b: number) => [d.size - b, 2 * b] as const],
      ['beyond the end', (d: BlockDevice, b: number) => [d.size + b, b] as const],
      ['at a negative offset', (_: BlockDevice, b: number) => [-b, b] as const],
      ['at an offset that is no integer', (_: BlockDevice, b: number) => [0.5, b] as const],
      ['wrapping around', (_: BlockDevice, b: number) => [Number.MAX_SAFE_INTEGER, b] as const],
    ])('refuses requests %s with outcome none', async (_title, range) => {
      const [offset, length] = range(device, block)
      const requests = [
        device.read(offset, length, IO),
        device.write(offset, [new Uint8Array(length)], {}, IO),
        device.zero(offset, length, {}, IO),
        ...(device.caps.trim ? [device.trim(offset, length, {}, IO)] : []),
      ]
      for (const request of requests) {
        const error = await rejection(request)
        expect(['EINVAL', 'ENOSPC']).toContain(error.errno)
        expect(error.outcome).toBe('none')
      }
    })

    it('refuses requests longer than its maximum', async () => {
      if (device.size <= device.limits.maximum) return
      const length = device.limits.maximum + device.limits.minimum
      expect((await rejection(device.read(0, length, IO))).errno).toBe('EINVAL')
      expect((await rejection(device.write(0, [new Uint8Array(length)], {}, IO))).errno).toBe('EINVAL')
      await device.zero(0, length, {}, IO)
    })

    it('refuses unaligned requests', async () => {
      if (device.limits.minimum === 1) return
      const error = await rejection(device.read(device.limits.minimum / 2, device.limits.minimum, IO))
      expect(error.errno).toBe('EINVAL')
      expect((await rejection(device.write(0, [new Uint8Array(1)], {}, IO))).errno).toBe('EINVAL')
    })

    it('closes in order, twice, and refuses requests from then on', async () => {
      const states: string[] = []
      device.onState(state => states.push(state))
      const last = device.write(0, [pattern(block, 10)], {}, IO)
      await device.close()
      await last
      await device.close()
      expect(states.at(-1)).toBe('closed')
      const error = await rejection(device.write(0, [pattern(block, 11)], {}, IO))
      expect(error.errno).toBe('ESHUTDOWN')
      expect(error.outcome).toBe('none')
      expect((await rejection(device.read(0, block, IO))).errno).toBe('ESHUTDOWN')
    })

    it('behaves as an array of bytes under any sequence of requests', async () => {
      const range = fc.tuple(fc.nat(MODEL_BLOCKS - 1), fc.integer({ min: 1, max: 8 }))
      const operation = fc.record({
        kind: fc.constantFrom('write', 'zero', 'read'),
        range,
        seed: fc.nat(1000),
        fua: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async operations => {
          const model = join(await device.read(0, MODEL_BLOCKS * block, IO))
          for (const { kind, range: pair, seed, fua } of operations) {
            const offset = pair[0] * block
            const length = Math.min(pair[1], MODEL_BLOCKS - pair[0]) * block
            const flags = fua ? { fua: true as const } : {}
            if (kind === 'write') {
              const data = pattern(length, seed)
              await device.write(offset, [data.subarray(0, seed % length), data.subarray(seed % length)], flags, IO)
              data.copy(model, offset)
            } else if (kind === 'zero') {
              await device.zero(offset, length, flags, IO)
              model.fill(0, offset, offset + length)
            } else {
              const read = join(await device.read(offset, length, IO))
              expect(read.equals(model.subarray(offset, offset + length))).toBe(true)
            }
          }
          expect(join(await device.read(0, MODEL_BLOCKS * block, IO)).equals(model)).toBe(true)
        }),
        { numRuns: 25 },
      )
    })
  })
}
