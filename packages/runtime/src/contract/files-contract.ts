// What every Files must do, as far as it shows without a crash.

import { describe, expect, test } from 'vitest'
import { codeOf, type RunInWorld } from './world.ts'

const bytes = (...values: number[]) => new Uint8Array(values)
const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
/** Compares by value, whatever kind of array an implementation gives. */
const same = (actual: Uint8Array | null, expected: Uint8Array) =>
  expect(actual === null ? null : Buffer.from(actual).equals(expected)).toBe(true)

export function filesContract(name: string, run: RunInWorld): void {
  describe(`files of ${name}`, () => {
    test('a file that is not there is missing-file, unless it is created', () =>
      run(async ({ left: { files } }) => {
        expect(await codeOf(files.open('a'))).toBe('missing-file')
        const file = await files.open('a', { create: true })
        expect(await file.size()).toBe(0)
        await file.close()
        await (await files.open('a')).close()
      }))

    test('scattered parts are written one after the other and read back as one', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        await file.write(5, [bytes(1, 2), new Uint8Array(0), bytes(3), bytes(4, 5, 6)])
        same(await file.read(5, 6), bytes(1, 2, 3, 4, 5, 6))
        await file.write(6, [bytes(9, 9)], { durable: true })
        same(await file.read(4, 8), bytes(0, 1, 9, 9, 4, 5, 6, 0))
        await file.write(0, [])
        expect(await file.size()).toBe(11)
        await file.close()
      }))

    test('many parts and large ranges are whole', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        const parts = Array.from({ length: 1500 }, (_, i) => filled(700, i % 251))
        await file.write(123, parts)
        const back = await file.read(123, 1500 * 700)
        parts.forEach((part, i) => {
          if (!Buffer.from(part).equals(back.subarray(i * 700, (i + 1) * 700))) throw new Error(`part ${i} differs`)
        })
        await file.close()
      }))

    test('what lies past the end or in a hole reads as zeroes', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        same(await file.read(0, 10), filled(10, 0))
        await file.write(100_000, [bytes(7)])
        same(await file.read(0, 16), filled(16, 0))
        same(await file.read(99_999, 4), bytes(0, 7, 0, 0))
        same(await file.read(1_000_000, 3), filled(3, 0))
        expect((await file.read(0, 0)).byteLength).toBe(0)
        await file.close()
      }))

    test('a punched range reads as zeroes, its neighbours stay, and the size does too', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        const size = 2 * 1024 * 1024
        await file.write(0, [filled(size, 1)])
        // Large and small, aligned and not, and beyond the end.
        for (const [offset, length] of [
          [4096, 1024 * 1024],
          [1_500_001, 333],
          [size - 10, 1_000_000],
          [size * 2, 10],
        ] as const) {
          await file.punch(offset, length)
          const end = Math.min(offset + length, size)
          if (offset < size) {
            same(await file.read(offset - 1, end - offset + 1), Buffer.concat([bytes(1), filled(end - offset, 0)]))
            if (end < size) same(await file.read(end, 1), bytes(1))
          }
          expect(await file.size()).toBe(size)
        }
        await file.write(5000, [bytes(8)])
        same(await file.read(4999, 3), bytes(0, 8, 0))
        await file.close()
      }))

    test('what truncate cuts off reads as zeroes when the file grows again', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        await file.write(0, [filled(100, 3)])
        await file.truncate(10)
        expect(await file.size()).toBe(10)
        await file.truncate(50)
        same(await file.read(0, 50), Buffer.concat([filled(10, 3), filled(40, 0)]))
        await file.close()
      }))

    test('many durable writes and syncs at once all take effect', () =>
      run(async ({ left: { files } }) => {
        const file = await files.open('a', { create: true })
        const writes = Array.from({ length: 40 }, (_, i) => file.write(i * 10, [filled(10, i + 1)], { durable: true }))
        await Promise.all([...writes, file.sync(), file.sync()])
        for (let i = 0; i < 40; i++) same(await file.read(i * 10, 10), filled(10, i + 1))
        await file.close()
      }))

    test('two handles of one file see each other’s writes', () =>
      run(async ({ left: { files } }) => {
        const one = await files.open('a', { create: true })
        const two = await files.open('a')
        await one.write(0, [bytes(1, 2, 3)])
        same(await two.read(0, 3), bytes(1, 2, 3))
        await one.close()
        await two.close()
      }))

    test('writeAtomic replaces the whole file, read gives it whole or null', () =>
      run(async ({ left: { files } }) => {
        expect(await files.read('a')).toBeNull()
        await files.writeAtomic('a', filled(1000, 1))
        await files.writeAtomic('a', bytes(1, 2))
        same(await files.read('a'), bytes(1, 2))
        expect(await files.list('')).toEqual(['a'])
      }))

    test('directories are made with their parents, listed sorted, and needed', () =>
      run(async ({ left: { files } }) => {
        expect(await files.list('x')).toEqual([])
        expect(await codeOf(files.writeAtomic('x/y/f', bytes(1)))).toBe('missing-file')
        expect(await codeOf(files.open('x/y/f', { create: true }))).toBe('missing-file')
        await files.makeDirectory('x/y')
        await files.makeDirectory('x/y')
        for (const f of ['f10', 'f2', 'a']) await files.writeAtomic(`x/y/${f}`, bytes(1))
        expect(await files.list('x/y')).toEqual(['a', 'f10', 'f2'])
        expect(await files.list('x')).toEqual(['y'])
      }))

    test('remove takes an empty directory away', () =>
      run(async ({ left: { files } }) => {
        await files.makeDirectory('x/y')
        await files.writeAtomic('x/y/a', Buffer.from('1'))
        await files.remove('x/y/a')
        await files.remove('x/y')
        await files.remove('x/y')
        expect(await codeOf(files.open('x/y/b', { create: true }))).toBe('missing-file')
      }))

    test('remove removes, and is content if nothing is there', () =>
      run(async ({ left: { files } }) => {
        await files.writeAtomic('a', bytes(1))
        await files.remove('a')
        expect(await files.read('a')).toBeNull()
        await files.remove('a')
      }))

    test('a lock excludes a second one until it is released', () =>
      run(async ({ left: { files } }) => {
        const lock = await files.lock('lock')
        expect(await codeOf(files.lock('lock'))).toBe('locked')
        expect(await codeOf(files.lock('lock'))).toBe('locked')
        await (await files.lock('other')).release()
        lock.release()
        lock.release()
        const again = await files.lock('lock')
        // The first one's release, once more, must not give the second away.
        lock.release()
        expect(await codeOf(files.lock('lock'))).toBe('locked')
        again.release()
      }))
  })
}
