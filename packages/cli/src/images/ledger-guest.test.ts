// What `--guest` of `up` and `demo` may say.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ledgerGuest, parseGuestChoice } from './ledger-guest.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-guest-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const noPrograms = {
  command: () => {
    throw new Error('no program is to be run')
  },
}

it('the embedded guest is the catalogue’s ledger', async () => {
  const choice = await parseGuestChoice('wasm', directory)
  expect(await ledgerGuest(choice, noPrograms)).toEqual({ guest: 'ledger', hypervisor: 'wasm' })
})

it('a boot image’s file goes to the cluster whole, under its digest', async () => {
  const image = encodeBootImage({ kernel: Buffer.from('kernel'), initrd: Buffer.from('initrd'), commandLine: 'quiet' })
  writeFileSync(join(directory, 'my.boot'), image)
  const choice = await parseGuestChoice('my.boot', directory)
  expect(choice).toEqual({ hypervisor: 'qemu', file: join(directory, 'my.boot') })
  const { guest, hypervisor, module } = await ledgerGuest(choice, noPrograms)
  expect([guest, hypervisor]).toEqual([guestOfDigest(digestOf(image)), 'qemu'])
  expect(Buffer.from(module ?? '', 'base64')).toEqual(Buffer.from(image))
})

it('what is no image is refused before anything is made', async () => {
  writeFileSync(join(directory, 'text'), 'no image')
  await expect(parseGuestChoice('text', directory)).rejects.toMatchObject({ code: 'bad-guest' })
  await expect(parseGuestChoice('nothing', directory)).rejects.toMatchObject({ code: 'unknown-guest' })
  await expect(parseGuestChoice('.', directory)).rejects.toMatchObject({ code: 'bad-guest' })
})
