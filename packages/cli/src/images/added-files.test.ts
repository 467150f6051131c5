// What is put into the tiny guest besides the guest: programs with what they are started by, and what is refused.

import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, expect, test } from 'vitest'
import { addedFiles } from './added-files.ts'

const ldd = peer('ldd', 'libc-bin')
const directory = mkdtempSync(join(tmpdir(), 'added-'))
const env = createEnvironment({
  name: 'test',
  directory: join(directory, 'env'),
  store: memoryStore(),
  logLevel: 'error',
})
afterAll(async () => {
  await env.close()
  rmSync(directory, { recursive: true })
})

const added = (...names: string[]) => addedFiles(env.processes, names, directory)
const inDirectory = (name: string): string => join(directory, name)

test.skipIf(ldd.path === null)(`a program comes with its loader and its libraries (${ldd.note})`, async () => {
  const files = await added('/bin/sh')
  const programs = files.filter(({ executable }) => executable === true).map(({ path }) => path)
  expect(programs).toEqual(
    expect.arrayContaining(['bin/sh', expect.stringMatching(/ld-linux/), expect.stringMatching(/libc\.so/)]),
  )
  // A directory comes before what is in it.
  for (const [at, { path }] of files.entries()) {
    const above = path.split('/').slice(0, -1).join('/')
    if (above !== '') expect(files.slice(0, at).map(each => each.path)).toContain(above)
  }
})

test.skipIf(ldd.path === null)(
  `one without libraries comes alone, and a script by its first line (${ldd.note})`,
  async () => {
    copyFileSync(new URL('../../../agent/src/guests/linux/ledger.elf', import.meta.url), inDirectory('static'))
    writeFileSync(inDirectory('script'), '#!/bin/sh\n')
    writeFileSync(inDirectory('words'), 'no program\n')
    const files = (await added('static', 'script', 'words', inDirectory('words'))).filter(({ data }) => data !== null)
    expect(files.map(({ path, executable }) => [path, executable])).toEqual([
      [inDirectory('script').slice(1), true],
      [inDirectory('static').slice(1), true],
      [inDirectory('words').slice(1), false],
    ])
  },
)

test('what cannot be added is refused in a line', async () => {
  mkdirSync(inDirectory('folder'))
  const cases: [string, object][] = [
    ['none', { code: 'bad-file', message: 'there is no such file', where: inDirectory('none') }],
    ['folder', { code: 'bad-guest', message: 'it is a directory' }],
    ['/proc/version', { code: 'bad-file', message: 'the guest has something else there' }],
  ]
  for (const [name, expected] of cases) await expect(added(name), name).rejects.toMatchObject(expected)
  expect(await added()).toEqual([])
})
