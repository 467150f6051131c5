import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { expect, test } from 'vitest'
import { filesOf } from './directory.ts'
import { takeWishes, wishStarted } from './start-wish.ts'

test('wishes of several are all taken, and each once', async () => {
  const directory = await makeScratchDirectory('stellwerk-wish-')
  try {
    const files = filesOf(directory)
    expect(await takeWishes(files)).toEqual([])
    await wishStarted(files, ['san-a'], 'one')
    await wishStarted(files, 'all', 'two')
    await files.writeAtomic('start-wishes/zz.json', Buffer.from('{'))
    expect(await takeWishes(files)).toEqual([['san-a'], 'all', 'all'])
    expect(await takeWishes(files)).toEqual([])
  } finally {
    await removeScratchDirectory(directory)
  }
})
