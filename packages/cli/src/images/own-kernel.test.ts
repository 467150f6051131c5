// One's own kernel as a boot image, and what is none.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { decodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { afterAll, expect, it } from 'vitest'
import { packKernel } from './own-kernel.ts'

const directory = mkdtempSync(join(tmpdir(), 'kernel-'))
afterAll(() => rmSync(directory, { recursive: true }))

const kernel = Buffer.alloc(4096, 'k')
kernel.write('HdrS', 0x202)
const initrd = gzipSync(Buffer.from('070701…'))
writeFileSync(join(directory, 'vmlinuz'), kernel)
writeFileSync(join(directory, 'initrd'), initrd)
const given = { kernel: 'vmlinuz', initrd: 'initrd', append: 'console=ttyS0 quiet' }

it('has the kernel, the RAM disk and the command line', async () => {
  const image = decodeBootImage('own.boot', await packKernel(given, directory))
  expect([Buffer.from(image.kernel).equals(kernel), Buffer.from(image.initrd).equals(initrd)]).toEqual([true, true])
  expect(image.commandLine).toBe('console=ttyS0 quiet')
})

it.each([
  [{ kernel: 'none' }, /none.*there is no such file|there is no such file/],
  [{ kernel: 'initrd' }, /no Linux kernel/],
  [{ initrd: 'vmlinuz' }, /no initial RAM disk/],
  [{ initrd: '.' }, /directory/],
  [{ append: 'two\nlines' }, /in one line/],
  [{ append: 'x'.repeat(1025) }, /at most 1024 bytes/],
])('is refused: %j', async (wrong, said) => {
  await expect(packKernel({ ...given, ...wrong }, directory)).rejects.toMatchObject({
    code: 'bad-guest',
    message: expect.stringMatching(said),
    hint: expect.any(String),
  })
})
