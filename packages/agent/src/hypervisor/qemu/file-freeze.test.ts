// What has been frozen is let go, whatever the agent in the guest says.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, it } from 'vitest'
import { createVirtualEnvironment } from '../testing/virtual-environment.ts'
import { FileFreeze } from './file-freeze.ts'

/** An agent that freezes one file system, and refuses these. */
function bench(...refused: string[]) {
  const { env, until } = createVirtualEnvironment(1)
  const asked: string[] = []
  let frozen = false
  const ask = async (command: string): Promise<Json> => {
    asked.push(command)
    if (refused.includes(command)) throw new StellwerkError('guest-agent-refused', `${command}: no`)
    if (command === 'guest-fsfreeze-status') return frozen ? 'frozen' : 'thawed'
    frozen = command === 'guest-fsfreeze-freeze'
    return 1
  }
  let looks = 0
  const files = new FileFreeze(env, { isThere: () => true, ask, look: () => looks++ })
  return { asked, ask, files, frozen: () => frozen, looks: () => looks, refused, until }
}

const ORDER = { freeze: 'f', holdMs: 5_000 }

it('a freeze that is not ended is let go after its time, also by an agent that does not say how it stands', async () => {
  for (const refused of [[], ['guest-fsfreeze-status']]) {
    const { files, frozen, until } = bench(...refused)
    await files.melt(async () => 'thawed')
    files.freeze(ORDER)
    await until(() => files.freeze(ORDER).state === 'frozen', 100)
    expect(frozen()).toBe(true)
    await until(() => !frozen(), 6_000)
    expect([frozen(), files.freeze(ORDER).state]).toEqual([false, 'failed'])
  }
})

it('an agent that refuses to thaw is looked after until it does', async () => {
  const { ask, files, frozen, looks, refused, until } = bench('guest-fsfreeze-thaw')
  files.freeze(ORDER)
  await until(() => files.freeze(ORDER).state === 'frozen', 100)
  await until(() => looks() > 0, 6_000)
  expect([frozen(), files.mayBeFrozen]).toEqual([true, true])
  await expect(files.melt(ask)).rejects.toMatchObject({ code: 'guest-agent-refused' })
  refused.splice(0)
  await files.melt(ask)
  expect([frozen(), files.mayBeFrozen]).toEqual([false, false])
})

it('an agent that knows no freezing has nothing frozen', async () => {
  const { ask, files } = bench('guest-fsfreeze-status', 'guest-fsfreeze-thaw')
  await files.melt(ask)
  expect(files.mayBeFrozen).toBe(false)
})
