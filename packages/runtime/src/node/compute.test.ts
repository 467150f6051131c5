// zstd that takes nothing but what it made, in the size that was said, and threads that are gone when told so.

import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { codeOf } from '../contract/world.ts'
import { KIB, MIB } from '../units.ts'
import { createCompute } from './compute.ts'

const compute = createCompute()
const text = Buffer.from('page of a guest '.repeat(1000))

test('what was compressed decompresses to the same', async () => {
  const packed = await compute.compress(text)
  expect(packed.byteLength).toBeLessThan(text.byteLength / 10)
  expect(Buffer.from(await compute.decompress(packed, text.byteLength)).equals(text)).toBe(true)
  expect((await compute.decompress(await compute.compress(new Uint8Array(0), 3), 0)).byteLength).toBe(0)
})

test.each([1, 63, 16 * KIB, MIB, MIB + 1, 4 * MIB, 9 * MIB])('%i bytes that do not shrink come back', async size => {
  const bytes = randomBytes(size)
  const packed = await compute.compress(bytes)
  expect(Buffer.from(await compute.decompress(packed, size)).equals(bytes)).toBe(true)
})

test('damaged, truncated, longer or shorter data is corrupt-data', async () => {
  const packed = await compute.compress(text)
  const flipped = packed.slice()
  flipped[0]! ^= 0xff
  expect(await codeOf(compute.decompress(flipped, text.byteLength))).toBe('corrupt-data')
  expect(await codeOf(compute.decompress(packed.subarray(0, packed.byteLength - 3), text.byteLength))).toBe(
    'corrupt-data',
  )
  expect(await codeOf(compute.decompress(packed, text.byteLength - 1))).toBe('corrupt-data')
  expect(await codeOf(compute.decompress(packed, text.byteLength + 1))).toBe('corrupt-data')
  expect(await codeOf(compute.decompress(packed, 0))).toBe('corrupt-data')
})

test('many jobs at once all finish, and too many are refused as overloaded', async () => {
  const codes = await Promise.all(Array.from({ length: 1100 }, () => codeOf(compute.compress(text.subarray(0, 100)))))
  expect(codes.filter(code => code === 'none').length).toBe(1026)
  expect(codes.filter(code => code === 'overloaded').length).toBe(1100 - 1026)
  expect(await codeOf(compute.compress(text))).toBe('none')
})

const worker = (source: string) => new URL(`data:text/javascript,${encodeURIComponent(source)}`)

test('a worker gets its data, exchanges messages and is gone after terminate', async () => {
  const thread = compute.startWorker(
    worker(`import { parentPort, workerData } from 'node:worker_threads'
      parentPort.on('message', m => parentPort.postMessage(m + workerData))`),
    1,
  )
  const exits: (Error | null)[] = []
  thread.onExit(error => exits.push(error))
  const answer = new Promise(resolve => thread.onMessage(resolve))
  thread.post(41)
  expect(await answer).toBe(42)
  await thread.terminate()
  expect(exits).toEqual([null])
})

test('a worker that fails tells its error, to a late listener too', async () => {
  const thread = compute.startWorker(worker(`throw new Error('broken guest')`), null)
  const error = await new Promise<Error | null>(resolve => thread.onExit(resolve))
  expect(error?.message).toBe('broken guest')
  expect(await new Promise<Error | null>(resolve => thread.onExit(resolve))).toBe(error)
})
