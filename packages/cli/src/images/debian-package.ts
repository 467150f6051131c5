// What is in a Debian package: fetched by apt and unpacked into a scratch directory, without root; nothing of it is installed.

import { present } from '@stellwerk/runtime/assert.ts'
import type { CommandExit, Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { filesOf } from '../cluster/directory.ts'

export interface UnpackedPackage {
  /** Of the files with such names, as a shell's patterns: where each lies in the package. */
  find(patterns: readonly string[]): Promise<string[]>
  read(path: string): Promise<Uint8Array>
}

/** Throws `no-program` without apt or dpkg, `package-missing` when the registry does not give it. */
export async function withDebianPackage<T>(
  processes: Pick<Processes, 'command'>,
  name: string,
  work: (unpacked: UnpackedPackage) => Promise<T>,
): Promise<T> {
  const scratch = await makeScratchDirectory('stellwerk-package-')
  try {
    const files = filesOf(scratch)
    const run = (program: string, ...args: string[]) => runTool(processes, program, args, scratch)
    const fetched = await run('apt-get', 'download', name)
    const file = (await files.list('.')).find(each => each.endsWith('.deb'))
    if (fetched.code !== 0 || file === undefined) throw missing(name, fetched)
    const unpacked = await run('dpkg-deb', '-x', file, 'unpacked')
    if (unpacked.code !== 0) throw missing(name, unpacked)
    return await work({
      find: async patterns => {
        const named = patterns.flatMap((pattern, i) => [...(i === 0 ? [] : ['-o']), '-name', pattern])
        const { output } = await run('find', 'unpacked', ...named)
        return output.split('\n').filter(path => path !== '')
      },
      read: async path => present(await files.read(path), path),
    })
  } finally {
    await removeScratchDirectory(scratch)
  }
}

/** The first package that this one depends on with such a beginning. Throws as `withDebianPackage` does. */
export async function debianDependency(
  processes: Pick<Processes, 'command'>,
  name: string,
  beginning: string,
): Promise<string> {
  // Its labels are translated.
  const depends = await runTool(processes, 'env', ['LC_ALL=C', 'apt-cache', 'depends', name])
  const found = depends.output
    .split('\n')
    .map(line => /^\s*Depends: (\S+)/.exec(line)?.[1])
    .find(each => each?.startsWith(beginning))
  if (found === undefined) throw missing(name, depends)
  return found
}

function runTool(
  processes: Pick<Processes, 'command'>,
  program: string,
  args: readonly string[],
  directory?: string,
): Promise<CommandExit> {
  const where = directory === undefined ? {} : { directory }
  return new Promise(resolve => processes.command({ program, name: program, args, ...where }).onExit(resolve))
}

function missing(name: string, { errors, output }: CommandExit): StellwerkError {
  const said = (errors.trim() || output.trim()).split('\n').at(-1) ?? ''
  return new StellwerkError('package-missing', `apt does not give ${name}${said === '' ? '' : `: ${said}`}`, {
    where: name,
    hint: 'it takes a Debian for x86-64 with its package lists: apt update',
  })
}
