// The file of a guest's module or boot image.

import { resolve } from 'node:path'
import { MAX_MODULE_BYTES } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createReadingFiles } from '@stellwerk/runtime/node/reading-files.ts'

/** `bytes` are null where there is no such file. No more is read than a module may have, and the byte that tells that it is too long. */
export async function readGuestFile(
  name: string,
  directory: string,
): Promise<{ readonly path: string; readonly bytes: Uint8Array | null }> {
  const path = resolve(directory, name)
  // Somebody else's, perhaps.
  const files = createReadingFiles('/')
  const found = await files.look(path).catch(unreadable(path))
  if (found === 'nothing') return { path, bytes: null }
  if (found !== 'file') {
    throw new StellwerkError('bad-guest', `it is a ${found === 'directory' ? found : 'device, socket or pipe'}`, {
      where: path,
      hint: 'name a file',
    })
  }
  return { path, bytes: await start(files, path).catch(unreadable(path)) }
}

async function start(files: Pick<Files, 'open'>, path: string): Promise<Uint8Array> {
  const file = await files.open(path)
  try {
    return await file.read(0, Math.min(await file.size(), MAX_MODULE_BYTES + 1))
  } finally {
    await file.close()
  }
}

const unreadable =
  (where: string) =>
  (cause: unknown): never => {
    throw new StellwerkError('bad-guest', `its file cannot be read: ${errorCode(cause)}`, {
      where,
      hint: 'name a file that you may read',
      cause,
    })
  }
