// A kernel and its modules out of Debian's package of it, fetched by apt and unpacked into a scratch directory.

import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { CommandExit, Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'

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
const META_PACKAGE = 'linux-image-cloud-amd64'

/** Throws `no-program` without apt or dpkg, `package-missing` when the registry does not give it. */
export async function fetchDebianKernel(
  processes: Pick<Processes, 'command'>,
  wanted: ReadonlySet<string>,
): Promise<KernelPackage> {
  const scratch = await makeScratchDirectory('stellwerk-kernel-')
  try {
    const run = (program: string, ...args: string[]) => runTool(processes, scratch, program, args)
    // Its labels are translated.
    const depends = await run('env', 'LC_ALL=C', 'apt-cache', 'depends', META_PACKAGE)
    const name = /Depends: (linux-image-\S+)/.exec(depends.output)?.[1]
    if (name === undefined) throw missing(META_PACKAGE, depends)
    const fetched = await run('apt-get', 'download', name)
    const file = (await readdir(scratch)).find(each => each.endsWith('.deb'))
    if (fetched.code !== 0 || file === undefined) throw missing(name, fetched)
    const unpacked = await run('dpkg-deb', '-x', file, 'unpacked')
    if (unpacked.code !== 0) throw missing(name, unpacked)
    return await readKernel(join(scratch, 'unpacked'), wanted)
  } finally {
    await removeScratchDirectory(scratch)
  }
}

async function readKernel(root: string, wanted: ReadonlySet<string>): Promise<KernelPackage> {
  const image = (await readdir(join(root, 'boot'))).find(name => name.startsWith('vmlinuz-'))
  // Newer ones have /usr/lib/modules.
  const lib = (await readdir(root)).includes('lib') ? join(root, 'lib', 'modules') : join(root, 'usr', 'lib', 'modules')
  const [version] = await readdir(lib)
  if (image === undefined || version === undefined) {
    throw new StellwerkError('package-missing', 'the package has no kernel', { where: META_PACKAGE })
  }
  const modules = new Map<string, KernelModule>()
  for (const path of await readdir(join(lib, version), { recursive: true })) {
    const name = /([^/]+)\.ko(?:\.xz)?$/.exec(path)?.[1]
    if (name === undefined || !wanted.has(name)) continue
    modules.set(name, { file: basename(path), data: await readFile(join(lib, version, path)) })
  }
  const builtin = await readFile(join(lib, version, 'modules.builtin'), 'utf8')
  const names = [...builtin.matchAll(/([^/\n]+)\.ko/g)].map(match => match[1] ?? '')
  return { version, image: await readFile(join(root, 'boot', image)), modules, builtin: new Set(names) }
}

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
