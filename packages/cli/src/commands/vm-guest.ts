// What `--guest` names: a guest of the catalogue, or the file of a module, which is checked here before anything is made.

import { isAbsolute, join } from 'node:path'
import { CATALOG_NAMES, catalogGuest } from '@stellwerk/agent/guests/catalog.ts'
import { checkOwnGuest } from '@stellwerk/agent/hypervisor/wasm/guest-image.ts'
import { digestOf, guestOfDigest, MAX_MODULE_BYTES } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { filesOf } from '../cluster/directory.ts'
import type { Terminal } from '../command-line/command.ts'

/** As the API takes it. */
export interface NamedGuest {
  readonly guest: string
  readonly module?: string
}

export async function guestNamed(
  terminal: Terminal,
  name: string,
  parameters: readonly string[],
  memoryBytes: number,
): Promise<NamedGuest> {
  const known = catalogGuest(name)
  if (known === null) return ownGuest(terminal, name, memoryBytes)
  const unknown = parameters.find(parameter => !known.parameters.includes(parameter))
  if (unknown === undefined) return { guest: name }
  throw new StellwerkError('bad-parameter', `guest ${name} has no parameter "${unknown}"`, {
    where: '--param',
    hint: known.parameters.length === 0 ? 'it takes none' : `known: ${known.parameters.join(', ')}`,
  })
}

async function ownGuest(terminal: Terminal, name: string, memoryBytes: number): Promise<NamedGuest> {
  const bytes = await read(isAbsolute(name) ? name : join(terminal.cwd, name))
  if (bytes === null) {
    throw new StellwerkError('unknown-guest', `there is no guest "${name}" and no such file`, {
      where: '--guest',
      hint: `known: ${CATALOG_NAMES.join(', ')}`,
    })
  }
  await checkOwnGuest(name, bytes, 'to be made', memoryBytes)
  return { guest: guestOfDigest(digestOf(bytes)), module: Buffer.from(bytes).toString('base64') }
}

/** Null: there is none. No more is read than a module may have, and the byte that tells that it is too long. */
async function read(path: string): Promise<Uint8Array | null> {
  const at = path.lastIndexOf('/')
  try {
    const file = await filesOf(path.slice(0, at) || '/').open(path.slice(at + 1))
    try {
      return await file.read(0, Math.min(await file.size(), MAX_MODULE_BYTES + 1))
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = errorCode(error)
    if (code === 'missing-file' || code === 'ENOTDIR') return null
    throw new StellwerkError('bad-guest', `its file cannot be read: ${code}`, {
      where: path,
      hint: 'name a file',
      cause: error,
    })
  }
}
