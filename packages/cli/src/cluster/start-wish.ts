// What other processes ask a directory's `up` to start again: each wish is a file, written before `up` is signalled, and taken by it
// as it hears. So two that ask at once are both heard, whichever signal comes first.

import type { Files } from '@stellwerk/runtime/environment.ts'

const DIRECTORY = 'start-wishes'
const SUFFIX = '.json'

/** Nodes by name, or all that has ended. */
export type StartWish = readonly string[] | 'all'

/** `id`: nobody else's. */
export async function wishStarted(files: Files, wish: StartWish, id: string): Promise<void> {
  await files.makeDirectory(DIRECTORY)
  await files.writeAtomic(`${DIRECTORY}/${id}${SUFFIX}`, Buffer.from(JSON.stringify(wish)))
}

export async function takeWishes(files: Files): Promise<readonly StartWish[]> {
  const wishes: StartWish[] = []
  for (const name of await files.list(DIRECTORY)) {
    if (!name.endsWith(SUFFIX)) continue
    const path = `${DIRECTORY}/${name}`
    const bytes = await files.read(path)
    if (bytes === null) continue
    await files.remove(path)
    wishes.push(wishIn(Buffer.from(bytes).toString('utf8')))
  }
  return wishes
}

/** What can't be read was a wish all the same: all that has ended is started then, and nothing else suffers from it. */
function wishIn(text: string): StartWish {
  try {
    const wish: unknown = JSON.parse(text)
    return Array.isArray(wish) ? wish.map(String) : 'all'
  } catch (error) {
    if (error instanceof SyntaxError) return 'all'
    throw error
  }
}
