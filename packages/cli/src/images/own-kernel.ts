// A boot image of an operator's own kernel and initial RAM disk.

import { encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { MAX_MODULE_BYTES } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { bytes } from '../render/units.ts'
import { readGuestFile } from './guest-file.ts'

/** "HdrS", where a bzImage has it (Documentation/arch/x86/boot.rst of the Linux source). */
const HEADER_AT = 0x202
const HEADER = Buffer.from('HdrS', 'latin1')
/** What initial RAM disks begin with: cpio, and what it is packed by (lib/decompress.c of the Linux source). */
const RAM_DISKS: readonly Buffer[] = [
  ...['070701', '070702', 'BZh'].map(text => Buffer.from(text, 'latin1')),
  ...['1f8b', 'fd377a585a00', '28b52ffd', '02214c18', '5d0000', '894c5a4f'].map(hex => Buffer.from(hex, 'hex')),
]
const WORDS_MAX = 1024

export interface OwnKernel {
  readonly kernel: string
  readonly initrd: string
  /** The kernel's command line. */
  readonly append: string
}

/** Throws `bad-guest`, which names the file. */
export async function packKernel({ kernel, initrd, append }: OwnKernel, directory: string): Promise<Buffer> {
  const refuse = (where: string, why: string, hint: string): StellwerkError =>
    new StellwerkError('bad-guest', why, { where, hint })
  const read = async (name: string): Promise<Uint8Array> => {
    const found = await readGuestFile(name, directory)
    if (found.bytes === null) throw refuse(found.path, 'there is no such file', 'name a file')
    return found.bytes
  }
  const [kernelBytes, initrdBytes] = [await read(kernel), await read(initrd)]
  if (!HEADER.equals(kernelBytes.subarray(HEADER_AT, HEADER_AT + HEADER.length))) {
    throw refuse(kernel, 'it is no Linux kernel for x86', 'name a bzImage: /boot/vmlinuz-… of a distribution')
  }
  if (!RAM_DISKS.some(start => start.equals(initrdBytes.subarray(0, start.length)))) {
    throw refuse(initrd, 'it is no initial RAM disk', 'name a cpio archive, packed or not: /boot/initrd.img-…')
  }
  if (Buffer.byteLength(append) > WORDS_MAX || /[\n\0]/.test(append)) {
    throw refuse('--append', `a command line has at most ${WORDS_MAX} bytes, in one line`, 'shorten it')
  }
  const image = encodeBootImage({ kernel: kernelBytes, initrd: initrdBytes, commandLine: append })
  if (image.length > MAX_MODULE_BYTES) {
    const size = `${bytes(image.length)} together, and ${bytes(MAX_MODULE_BYTES)} are carried at most`
    throw refuse(initrd, `kernel and initial RAM disk are ${size}`, 'boot it from a disk: stellwerk image import')
  }
  return image
}
