// The disk for cloud-init, read by tools for such file systems, and what is no user data.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { checkNetworkConfig, checkUserData, seedDataOf, seedImage, USER_DATA_MAX_BYTES } from './seed-image.ts'

const tools = peers(peer('mcopy', 'mtools'), peer('fsck.fat', 'dosfstools'), peer('blkid', 'util-linux'))

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-seed-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

it.skipIf(tools.missing)(`${tools.note} find the label and both files whole`, () => {
  const path = join(directory, 'seed')
  const run = (program: string, ...args: string[]): Buffer => execFileSync(program, args, { stdio: 'pipe' })
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 4_000 }),
      fc.string({ maxLength: 900 }),
      (text, networkConfig) => {
        const userData = `#cloud-config\n${text}`
        writeFileSync(path, seedImage('web-1', { userData, networkConfig }))
        run('fsck.fat', '-n', path)
        expect(run('mcopy', '-n', '-i', path, '::user-data', '-').equals(Buffer.from(userData))).toBe(true)
        expect(run('mcopy', '-n', '-i', path, '::network-config', '-').toString()).toBe(networkConfig)
        const metaData = 'instance-id: "web-1"\nlocal-hostname: "web-1"\n'
        expect(run('mcopy', '-n', '-i', path, '::meta-data', '-').toString()).toBe(metaData)
      },
    ),
    { numRuns: 10 },
  )
  expect(run('blkid', '-p', '-o', 'value', '-s', 'LABEL', path).toString().trim()).toBe('CIDATA')
  const most = '#'.padEnd(USER_DATA_MAX_BYTES, 'x')
  writeFileSync(path, seedImage('x'.repeat(63), { userData: most }))
  run('fsck.fat', '-n', path)
  expect(run('mcopy', '-n', '-i', path, '::user-data', '-').toString()).toBe(most)
})

it('the same definition gives the same disk', () => {
  const data = { userData: '#!/bin/sh' }
  expect(seedImage('web-1', data)).toEqual(seedImage('web-1', data))
  expect(seedDataOf({ cpus: 2 })).toBe(null)
  expect(seedDataOf({ networkConfig: 'version: 2' })).toEqual({
    userData: '#cloud-config\n',
    networkConfig: 'version: 2',
  })
})

it('what cloud-init would not understand is refused', () => {
  for (const bad of [7, 'packages: [nginx]', '#'.padEnd(USER_DATA_MAX_BYTES + 1, 'x')]) {
    expect(() => checkUserData('web-1', bad)).toThrow(expect.objectContaining({ code: 'bad-machine' }))
  }
  checkUserData('web-1', '#cloud-config\n')
  const wrong = () => checkNetworkConfig('web-1', 'x'.repeat(5_000))
  expect(wrong).toThrow(expect.objectContaining({ code: 'bad-machine' }))
})
