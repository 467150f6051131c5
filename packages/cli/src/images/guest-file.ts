// The file of a guest's module or boot image.

import { resolve } from 'node:path'
import { MAX_MODULE_BYTES } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { filesOf } from '../cluster/directory.ts'

/** `bytes` are null where there is no such file. No more is read than a module may have, and the byte that tells that it is too long. */
export async function readGuestFile(
  name: string,
  directory: string,
): Promise<{ readonly path: string; readonly bytes: Uint8Array | null }> {
  const path = resolve(directory, name)
  const at = path.lastIndexOf('/')
  try {
    const file = await filesOf(path.slice(0, at) || '/').open(path.slice(at + 1))
    try {
      return { path, bytes: await file.read(0, Math.min(await file.size(), MAX_MODULE_BYTES + 1)) }
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = errorCode(error)
    if (code === 'missing-file' || code === 'ENOTDIR') return { path, bytes: null }
    throw new StellwerkError('bad-guest', `its file cannot be read: ${code}`, {
      where: path,
      hint: 'name a file',
      cause: error,
    })
  }
}
