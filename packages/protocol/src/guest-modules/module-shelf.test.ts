import { expect, it } from 'vitest'
import { MemoryFiles } from '../testing/memory-files.ts'
import { digestOf, digestOfGuest, guestOfDigest, MAX_MODULE_BYTES, ModuleShelf, pathOf } from './module-shelf.ts'

const quiet = (): undefined => undefined
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet }
const module = new Uint8Array(5000).fill(3)
const digest = digestOf(module)

it('a module is there for the next process too, whole and in pieces', async () => {
  const files = new MemoryFiles()
  expect(await new ModuleShelf({ files, log }).put(module)).toBe(digest)
  const shelf = new ModuleShelf({ files, log })
  expect(await shelf.names()).toEqual([digest])
  expect(Buffer.from((await shelf.get(digest))!).equals(Buffer.from(module))).toBe(true)
  expect(await shelf.piece(digest, 4000, 4096)).toMatchObject({ sizeBytes: 5000, data: { length: 1000 } })
  await shelf.remove(digest)
  expect([await shelf.names(), await shelf.get(digest)]).toEqual([[], null])
  await expect(shelf.piece(digest, 0, 1)).rejects.toMatchObject({ code: 'guest-missing', retryable: true })
})

it('a file that has gone bad is as none, and is taken away', async () => {
  const files = new MemoryFiles()
  const shelf = new ModuleShelf({ files, log })
  await shelf.put(module)
  await files.writeAtomic(pathOf(digest), module.subarray(1))
  expect(await shelf.get(digest)).toBe(null)
  expect([await shelf.names(), await files.read(pathOf(digest))]).toEqual([[], null])
})

it('a module that is too large is refused, and its name is its digest', async () => {
  const shelf = new ModuleShelf({ files: new MemoryFiles(), log })
  await expect(shelf.put(new Uint8Array(MAX_MODULE_BYTES + 1))).rejects.toMatchObject({ code: 'bad-guest' })
  expect(digestOfGuest(guestOfDigest(digest))).toBe(digest)
  for (const other of ['ledger', 'sha256:', `sha256:${digest}0`, `sha256:${digest.toUpperCase()}`, `../${digest}`]) {
    expect(digestOfGuest(other)).toBe(null)
  }
})
