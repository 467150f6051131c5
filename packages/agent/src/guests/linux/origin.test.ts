// The built Linux guest is that of the sources beside it.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { compileLinuxGuest, compilerOf, digestOfSources, type Origin } from '../../../tools/build-linux-guest.ts'

const read = (name: string) => readFileSync(new URL(`./${name}`, import.meta.url))
const origin = JSON.parse(read('ledger.elf.json').toString()) as Origin

test('it was built from these sources', () => {
  expect(digestOfSources(), 'build it anew: node packages/agent/tools/build-linux-guest.ts').toBe(origin.sources)
})

test.skipIf(compilerOf() !== origin.compiler)(`${origin.compiler} makes the same of them`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'guest-'))
  try {
    compileLinuxGuest(join(directory, 'ledger.elf'))
    expect(readFileSync(join(directory, 'ledger.elf')).equals(read('ledger.elf'))).toBe(true)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
