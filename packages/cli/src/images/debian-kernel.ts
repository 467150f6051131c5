// A kernel and its modules out of Debian's package of it, fetched by apt and unpacked into a scratch directory.

import { basename } from 'node:path'
import { present } from '@stellwerk/runtime/assert.ts'
import type { CommandExit, Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { filesOf } from '../cluster/directory.ts'

export interface KernelModule {
  readonly file: string
  readonly data: Uint8Array
}

export interface KernelPackage {
  readonly version: string
  readonly image: Uint8Array
  /** By name, with `-` and `_` as in the file's name. */
  readonly modules: ReadonlyMap<string, KernelModule>
  readonly builtin: ReadonlySet<string>
}

/** Always the newest: it depends on the package that has the kernel. */
export const KERNEL_PACKAGE = 'linux-image-cloud-amd64'

/** Throws `no-program` without apt or dpkg, `package-missing` when the registry does not give it. */
export async function fetchDebianKernel(
  processes: Pick<Processes, 'command'>,
  wanted: ReadonlySet<string>,
): Promise<KernelPackage> {
  const scratch = await makeScratchDirectory('stellwerk-kernel-')
  try {
    const run: Run = (program, ...args) => runTool(processes, scratch, program, args)
    // Its labels are translated.
    const depends = await run('env', 'LC_ALL=C', 'apt-cache', 'depends', KERNEL_PACKAGE)
    const name = /Depends: (linux-image-\S+)/.exec(depends.output)?.[1]
    if (name === undefined) throw missing(KERNEL_PACKAGE, depends)
    const fetched = await run('apt-get', 'download', name)
    const file = (await filesOf(scratch).list('.')).find(each => each.endsWith('.deb'))
    if (fetched.code !== 0 || file === undefined) throw missing(name, fetched)
    const unpacked = await run('dpkg-deb', '-x', file, 'unpacked')
    if (unpacked.code !== 0) throw missing(name, unpacked)
    return await readKernel(run, scratch, wanted)
  } finally {
    await removeScratchDirectory(scratch)
  }
}

async function readKernel(run: Run, scratch: string, wanted: ReadonlySet<string>): Promise<KernelPackage> {
  const files = filesOf(scratch)
  const named = [...wanted].flatMap(name => ['-o', '-name', `${name}.ko`, '-o', '-name', `${name}.ko.xz`])
  const { output } = await run('find', 'unpacked', '-name', 'vmlinuz-*', '-o', '-name', 'modules.builtin', ...named)
  const paths = output.split('\n').filter(path => path !== '')
  const image = paths.find(path => path.includes('/vmlinuz-'))
  const builtin = paths.find(path => path.endsWith('/modules.builtin'))
  if (image === undefined || builtin === undefined) {
    throw new StellwerkError('package-missing', 'the package has no kernel', { where: KERNEL_PACKAGE })
  }
  const read = async (path: string): Promise<Uint8Array> => present(await files.read(path), path)
  const modules = new Map<string, KernelModule>()
  for (const path of paths) {
    const name = /([^/]+)\.ko(?:\.xz)?$/.exec(path)?.[1]
    if (name !== undefined) modules.set(name, { file: basename(path), data: await read(path) })
  }
  const names = [
    ...Buffer.from(await read(builtin))
      .toString()
      .matchAll(/([^/\n]+)\.ko/g),
  ].map(match => match[1] ?? '')
  const version = basename(image).slice('vmlinuz-'.length)
  return { version, image: await read(image), modules, builtin: new Set(names) }
}

type Run = (program: string, ...args: string[]) => Promise<CommandExit>

function runTool(
  processes: Pick<Processes, 'command'>,
  directory: string,
  program: string,
  args: readonly string[],
): Promise<CommandExit> {
  return new Promise(resolve => processes.command({ program, name: program, args, directory }).onExit(resolve))
}

function missing(name: string, { errors, output }: CommandExit): StellwerkError {
  const said = (errors.trim() || output.trim()).split('\n').at(-1) ?? ''
  return new StellwerkError('package-missing', `apt does not give ${name}${said === '' ? '' : `: ${said}`}`, {
    where: name,
    hint: 'it takes a Debian for x86-64 with its package lists: apt update',
  })
}
