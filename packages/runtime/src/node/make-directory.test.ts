import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { makeDirectorySync } from './make-directory.ts'

const directory = mkdtempSync(join(tmpdir(), 'stellwerk-mkdir-'))
afterAll(() => rmSync(directory, { recursive: true }))

test('a directory is made with those above it, and may be there', () => {
  const deep = join(directory, 'a', 'b', 'c')
  makeDirectorySync(deep)
  makeDirectorySync(deep)
  expect(existsSync(deep)).toBe(true)
})

test('where none can be made is said at once: below a file, with too long a name, in /proc', () => {
  writeFileSync(join(directory, 'file'), 'x')
  for (const [path, code] of [
    [join(directory, 'file', 'x'), 'ENOTDIR'],
    [join(directory, 'n'.repeat(300)), 'ENAMETOOLONG'],
    ['/proc/x', 'ENOENT'],
  ] as const) {
    expect(() => makeDirectorySync(path)).toThrow(
      expect.objectContaining({ code, where: path, hint: expect.stringMatching('another directory') }),
    )
  }
})
