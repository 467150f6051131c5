// What an operator wants in the tiny guest besides the guest itself: programs and files of this machine, under the paths that they
// have here, a program with the shared libraries and the loader that it is started by.

import { MAX_MODULE_BYTES } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { CommandExit, Processes } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { ArchiveEntry } from './cpio.ts'
import { readGuestFile } from './guest-file.ts'

const ELF = Buffer.from('\x7fELF', 'latin1')
const SCRIPT = Buffer.from('#!', 'latin1')
/** Of the guest itself, with its shell, and of what it mounts over. */
const TAKEN = /^\/(?:init|bin\/busybox|(?:modules|dev|proc|sys)(?:\/.*)?)$/

/** The files, each behind the directories that it lies in. Throws `bad-file` and `no-program`. */
export async function addedFiles(
  processes: Pick<Processes, 'command'>,
  names: readonly string[],
  directory: string,
): Promise<ArchiveEntry[]> {
  const found = new Map<string, Uint8Array>()
  const wanted = [...names]
  // The libraries are found while it goes.
  for (let name = wanted.shift(); name !== undefined; name = wanted.shift()) {
    const { path, bytes } = await readGuestFile(name, directory)
    if (found.has(path)) continue
    if (bytes === null) throw bad(path, 'there is no such file', 'name a program or a file of this machine')
    if (bytes.length > MAX_MODULE_BYTES) throw bad(path, 'it is larger than an image may be', 'add less')
    if (TAKEN.test(path)) throw bad(path, 'the guest has something else there', 'put it elsewhere')
    found.set(path, bytes)
    if (names.includes(name) && begins(bytes, ELF)) wanted.push(...(await librariesOf(processes, path)))
  }
  return entriesOf(found)
}

function entriesOf(files: ReadonlyMap<string, Uint8Array>): ArchiveEntry[] {
  const directories = new Set<string>()
  for (const path of files.keys()) {
    for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) directories.add(path.slice(1, at))
  }
  return [
    ...[...directories].sort().map(path => ({ path, data: null })),
    ...[...files]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, data]) => ({
        path: path.slice(1),
        data,
        executable: begins(data, ELF) || begins(data, SCRIPT),
      })),
  ]
}

/** As the loader itself finds them; that one is among them. */
async function librariesOf(processes: Pick<Processes, 'command'>, path: string): Promise<string[]> {
  const { code, output, errors } = await listed(processes, path)
  if (/not a dynamic executable|statically linked/.test(output + errors)) return []
  if (code !== 0) throw bad(path, `its libraries are not to be found out: ${errors.trim()}`, 'add another program')
  const absent = /^\s*(\S+) => not found$/m.exec(output)?.[1]
  if (absent !== undefined) throw bad(path, `it needs ${absent}, which is not on this machine`, 'install that first')
  // `libm.so.6 => /lib/…/libm.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; what the kernel itself has is without a path.
  return [...output.matchAll(/(?:^\s*|=> )(\/\S+) \(0x/gm)].map(match => match[1] ?? '')
}

function listed(processes: Pick<Processes, 'command'>, path: string): Promise<CommandExit> {
  return new Promise((resolve, reject) => {
    try {
      // Its words are translated.
      processes.command({ program: 'env', name: 'ldd', args: ['LC_ALL=C', 'ldd', path] }).onExit(resolve)
    } catch (error) {
      reject(errorCode(error) === 'no-program' ? bad(path, 'nothing here lists its libraries', 'install ldd') : error)
    }
  })
}

function begins(bytes: Uint8Array, magic: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(0, magic.length), magic) === 0
}

function bad(path: string, why: string, hint: string): StellwerkError {
  return new StellwerkError('bad-file', why, { where: path, hint })
}
