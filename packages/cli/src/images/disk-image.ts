// Images of whole disks as QEMU's tools know them: what a file is, and its bytes written to a disk over NBD.

import { dirname, resolve } from 'node:path'
import type { Command, CommandExit, Environment, Processes } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'

const PROGRAM = 'qemu-img'
const HINT = 'install it: apt install qemu-utils (Debian), dnf install qemu-img (Fedora)'
/** What `qemu-img info` calls them; `vpc` is VHD. */
const FORMATS = ['raw', 'qcow2', 'vmdk', 'vhdx', 'vpc', 'vdi'] as const

export interface DiskImage {
  /** Absolute: no word before a colon in it is taken for a protocol. */
  readonly path: string
  readonly format: (typeof FORMATS)[number]
  /** Of the disk, not of the file. */
  readonly sizeBytes: number
}

export const SECTOR_BYTES = 512

interface Facts {
  readonly format: string
  readonly 'virtual-size': number
  readonly 'backing-filename'?: string
  readonly encrypted?: boolean
  readonly 'format-specific'?: {
    readonly data?: { readonly 'data-file'?: string; readonly extents?: readonly { readonly filename?: string }[] }
  }
}

/** Throws `no-program` and `bad-image`. */
export async function inspectDiskImage(processes: Pick<Processes, 'command'>, path: string): Promise<DiskImage> {
  const exit = await ended(start(processes, ['info', '--output=json', path]))
  if (exit.code !== 0) {
    const why = lastLine(exit)
    throw bad(
      path,
      /No such file or directory$/.test(why) ? 'there is no such file' : why,
      'name a disk image that can be read',
    )
  }
  const facts = factsIn(path, exit)
  const format = FORMATS.find(name => name === facts.format)
  if (format === undefined) throw bad(path, `it is of the format ${facts.format}`, `known: ${FORMATS.join(', ')}`)
  if (facts.encrypted === true) throw bad(path, 'it is encrypted', 'decrypt it first: qemu-img convert')
  // Whoever made the image could have named any file of this machine, and its bytes would be in the guest.
  const backing = facts['backing-filename']
  if (backing !== undefined) throw bad(path, `it is incomplete without ${backing}`, 'make it whole: qemu-img convert')
  const { 'data-file': dataFile, extents = [] } = facts['format-specific']?.data ?? {}
  const parts = [dataFile, ...extents.map(({ filename }) => filename)].filter(name => name !== undefined)
  const elsewhere = parts.find(name => resolve(dirname(path), name) !== path)
  if (elsewhere !== undefined) {
    throw bad(path, `parts of it are in another file: ${elsewhere}`, 'make it whole: qemu-img convert')
  }
  return { path, format, sizeBytes: facts['virtual-size'] }
}

/** Of an output that is too long the end is there alone. */
function factsIn(path: string, { output }: CommandExit): Facts {
  try {
    return JSON.parse(output) as Facts
  } catch (cause) {
    throw new StellwerkError('bad-image', 'qemu-img has too much to say of it', {
      where: path,
      hint: 'make a plain one: qemu-img convert',
      cause,
    })
  }
}

/** Of the disk; zeroes where the image is shorter. Throws `bad-image`. Leaves nothing in `env`'s directory. */
export async function firstSector(
  { processes, files }: Pick<Environment, 'processes' | 'files'>,
  { path, format }: DiskImage,
): Promise<Buffer> {
  const name = 'first-sector'
  const words = ['dd', '-f', format, '-O', 'raw', `bs=${SECTOR_BYTES}`, 'count=1']
  try {
    const exit = await ended(start(processes, [...words, `if=${path}`, `of=${files.locate(name)}`]))
    if (exit.code !== 0) throw bad(path, lastLine(exit), 'name a disk image that can be read')
    const read = (await files.read(name)) ?? new Uint8Array(0)
    return Buffer.concat([read, Buffer.alloc(SECTOR_BYTES)], SECTOR_BYTES)
  } finally {
    await files.remove(name)
  }
}

export interface Copying {
  /** Rejects with `bad-image`, in qemu-img's own words. */
  readonly done: Promise<void>
  kill(): void
}

/** Onto a disk that reads as zeroes. `told`: percent. What is written is on stable storage when it is done. */
export function copyDiskImage(
  processes: Pick<Processes, 'command'>,
  image: DiskImage,
  uri: string,
  told: (percent: number) => void,
): Copying {
  const command = start(processes, [
    ...['convert', '-p', '-n', '--target-is-zero', '-W', '-m', '8'],
    // Its own default for the target, `unsafe`, leaves the flush at the end out.
    ...['-t', 'writeback', '-f', image.format, '-O', 'raw', image.path, uri],
  ])
  command.onOutput(text => {
    const percent = [...text.matchAll(/\(([\d.]+)\/100%\)/g)].at(-1)?.[1]
    if (percent !== undefined) told(Number(percent))
  })
  const done = ended(command).then(exit => {
    if (exit.code !== 0) throw bad(image.path, lastLine(exit), 'see whether the volume has room for it')
  })
  return { done, kill: () => command.kill() }
}

function start(processes: Pick<Processes, 'command'>, args: readonly string[]): Command {
  try {
    return processes.command({ program: PROGRAM, name: PROGRAM, args })
  } catch (error) {
    if (errorCode(error) !== 'no-program') throw error
    throw new StellwerkError('no-program', 'qemu-img is not installed', { where: PROGRAM, hint: HINT, cause: error })
  }
}

function ended(command: Command): Promise<CommandExit> {
  return new Promise(resolve => command.onExit(resolve))
}

function lastLine({ errors, signal }: CommandExit): string {
  const words = errors.trim().split('\n').at(-1) ?? ''
  return words === '' ? `qemu-img ended${signal === null ? '' : ` by ${signal}`}` : words.replace(/^qemu-img: /, '')
}

function bad(path: string, what: string, hint: string): StellwerkError {
  return new StellwerkError('bad-image', what, { where: path, hint })
}
