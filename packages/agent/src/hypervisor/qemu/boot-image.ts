// A boot image: a kernel, an initial RAM disk and a command line in one file, so that a machine boots without a disk and
// hosts pass the image on as they do any guest, by its digest.
//
//   "SWBOOT1\n" · u32 length of the header · header, JSON: { kernelBytes, initrdBytes, commandLine } · kernel · initrd
//
// Numbers are little endian.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

const MAGIC = Buffer.from('SWBOOT1\n', 'latin1')
const HEADER_MAX = 4096
/** The kernel's own limit for its command line on x86 (COMMAND_LINE_SIZE) less what a machine adds to it. */
const COMMAND_LINE_MAX = 1024

export interface BootImage {
  readonly kernel: Uint8Array
  readonly initrd: Uint8Array
  readonly commandLine: string
}

export function encodeBootImage({ kernel, initrd, commandLine }: BootImage): Buffer {
  const facts = { kernelBytes: kernel.length, initrdBytes: initrd.length, commandLine }
  const header = Buffer.from(JSON.stringify(facts), 'utf8')
  const length = Buffer.alloc(4)
  length.writeUInt32LE(header.length)
  return Buffer.concat([MAGIC, length, header, kernel, initrd])
}

export function isBootImage(bytes: Uint8Array): boolean {
  return MAGIC.equals(bytes.subarray(0, MAGIC.length))
}

/** Throws `bad-guest`, which says what is wrong with it. */
export function decodeBootImage(name: string, bytes: Uint8Array): BootImage {
  const bad = (why: string): StellwerkError =>
    new StellwerkError('bad-guest', `${name} is no boot image: ${why}`, {
      where: name,
      hint: 'make one with: stellwerk image build tiny',
    })
  if (!isBootImage(bytes)) throw bad('it begins with something else')
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const start = MAGIC.length + 4
  if (view.length < start) throw bad('it ends in its header')
  const headerBytes = view.readUInt32LE(MAGIC.length)
  if (headerBytes > HEADER_MAX || start + headerBytes > view.length) throw bad('it ends in its header')
  const { kernelBytes, initrdBytes, commandLine } = parse(view.toString('utf8', start, start + headerBytes), bad)
  const kernelAt = start + headerBytes
  if (kernelAt + kernelBytes + initrdBytes !== view.length) throw bad('it is longer or shorter than its header says')
  return {
    kernel: view.subarray(kernelAt, kernelAt + kernelBytes),
    initrd: view.subarray(kernelAt + kernelBytes),
    commandLine,
  }
}

function parse(
  text: string,
  bad: (why: string) => StellwerkError,
): { kernelBytes: number; initrdBytes: number; commandLine: string } {
  let header: unknown
  try {
    header = JSON.parse(text)
  } catch {
    throw bad('its header is not JSON')
  }
  const { kernelBytes, initrdBytes, commandLine } = (header ?? {}) as { [key: string]: unknown }
  const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0
  if (!isSize(kernelBytes)) throw bad('it has no kernel')
  if (!isSize(initrdBytes)) throw bad('its kernel has no initial RAM disk')
  if (typeof commandLine !== 'string' || commandLine.length > COMMAND_LINE_MAX || /[\n\0]/.test(commandLine)) {
    throw bad('its command line is missing or too long')
  }
  return { kernelBytes, initrdBytes, commandLine }
}
