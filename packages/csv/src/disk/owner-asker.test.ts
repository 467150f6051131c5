// Questions to the owner that are asked again: which answers end them.

import type { Timers } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import type { OwnerCall } from '../owner/request.ts'
import { OwnerAsker } from './owner-asker.ts'

/** Every pause is over at once. */
const timers: Timers = {
  after: (_delayMs, f) => {
    let cancelled = false
    queueMicrotask(() => cancelled || f())
    return {
      cancel: () => {
        cancelled = true
      },
    }
  },
}

/** Asks for a free that is answered with these codes, one after the other; then it is done. */
async function outcome(...codes: string[]): Promise<string> {
  let asked = 0
  const call = (async () => {
    const code = codes[asked++]
    if (code === undefined) return { mapVersion: 7 }
    throw new StellwerkError(code, 'refused')
  }) as OwnerCall
  const asker = new OwnerAsker(call, timers, () => undefined)
  const body = () => ({ volume: 'csv1', disk: 'd', host: 'host-a', epoch: 1, committed: false, runs: [1, 7, 1, 14] })
  return asker.ask('volume.free', body, 'disk-switching').then(
    () => `done at the ${asked}.`,
    (error: unknown) => errorCode(error),
  )
}

test('a definite refusal is told when nothing asked before can have been obeyed', async () => {
  expect(await outcome('disk-switching')).toBe('disk-switching')
  expect(await outcome('owner-away', 'owner-busy', 'disk-switching')).toBe('disk-switching')
})

test.each(['deadline', 'link-lost', 'owner-failed'])(
  'after %s a definite refusal settles nothing: it is asked on',
  async code => {
    expect(await outcome(code, 'disk-switching', 'disk-switching')).toBe('done at the 4.')
  },
)

test('a final refusal is told whatever came before', async () => {
  expect(await outcome('deadline', 'stale-epoch')).toBe('stale-epoch')
})
