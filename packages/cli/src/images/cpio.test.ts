// The initial RAM disk's archive is what other programs take for one.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { peer } from '@stellwerk/runtime/testing/peers.ts'
import { expect, test } from 'vitest'
import { cpioArchive } from './cpio.ts'

const cpio = peer('cpio', 'cpio')
const entries = [
  { path: 'dev', data: null },
  { path: 'dev/x', data: Buffer.from('odd') },
  { path: 'init', data: Buffer.alloc(4096, 7), executable: true },
]

test.skipIf(cpio.path === null)(`is unpacked by cpio (${cpio.note})`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'cpio-'))
  try {
    execFileSync('cpio', ['-i', '--quiet'], { cwd: directory, input: cpioArchive(entries) })
    expect(readFileSync(join(directory, 'dev/x'), 'latin1')).toBe('odd')
    expect(readFileSync(join(directory, 'init'))).toEqual(Buffer.alloc(4096, 7))
    expect(statSync(join(directory, 'init')).mode & 0o111).toBe(0o111)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('is the same each time', () => {
  expect(cpioArchive(entries)).toEqual(cpioArchive(entries))
})
