// Reads by the ring give what reads by the thread pool give, whatever happens to the ring.

import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { QuickReader } from './quick-reader.ts'
import { QUICK_READ_MAX_BYTES, RING_SLOTS } from './quick-ring.ts'
import { RawFile } from './raw-file.ts'

const directory = mkdtempSync(join(tmpdir(), 'stellwerk-quick-'))
afterAll(() => rmSync(directory, { recursive: true }))
const SIZE = 1024 * 1024
const content = Buffer.alloc(SIZE)
for (let at = 0; at < SIZE; at += 4) content.writeUInt32LE(at, at)
const path = join(directory, 'file')
writeFileSync(path, content)

/** Every length and place, many at once; past the end too. */
async function readAll(file: RawFile, rounds = 3): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await Promise.all(
      Array.from({ length: 2 * RING_SLOTS }, async (_, index) => {
        const offset = (index * 7919 * 512 + round) % SIZE
        const length = 1 + ((index * 977) % (QUICK_READ_MAX_BYTES + 512))
        const expected = Buffer.alloc(length)
        content.copy(expected, 0, offset, Math.min(SIZE, offset + length))
        expect(expected.equals(await file.read(offset, length))).toBe(true)
      }),
    )
  }
}

test('many short reads at once give what the file has, and zeroes past its end', async () => {
  const quick = new QuickReader()
  let offered = 0
  const counting = Object.assign(Object.create(quick), {
    offer: (...args: Parameters<QuickReader['offer']>) => {
      const taken = quick.offer(...args)
      if (taken) offered += 1
      return taken
    },
  }) as QuickReader
  const file = await RawFile.open(path, { create: false, dataSync: false, quick: counting })
  await readAll(file)
  expect(offered).toBeGreaterThan(RING_SLOTS / 2)
  await file.close()
  await quick.kill()
})

test('a single read, and a long one, is left to the thread pool', () => {
  const quick = new QuickReader()
  const fd = openSync(path, 'r')
  expect(quick.offer(fd, 0, 4096, 1, () => undefined)).toBe(false)
  expect(quick.offer(fd, 0, QUICK_READ_MAX_BYTES + 1, 32, () => undefined)).toBe(false)
  closeSync(fd)
})

test('a read that fails is given back, for the thread pool to fail and to tell', async () => {
  const quick = new QuickReader()
  const fd = openSync(directory, 'r')
  const given = await Promise.all(
    Array.from({ length: 40 }, () => {
      return new Promise(resolve => expect(quick.offer(fd, 0, 512, 32, resolve)).toBe(true))
    }),
  )
  expect(given).toEqual(new Array(40).fill(null))
  // And for a while nothing more is taken.
  expect(quick.offer(fd, 0, 512, 32, () => undefined)).toBe(false)
  closeSync(fd)
  await quick.kill()
})

test('without its thread everything goes on by the thread pool', async () => {
  const quick = new QuickReader()
  const file = await RawFile.open(path, { create: false, dataSync: false, quick })
  const reading = readAll(file, 1)
  await quick.kill()
  await reading
  await readAll(file, 1)
  expect(quick.error).not.toBe(null)
  await file.close()
})
