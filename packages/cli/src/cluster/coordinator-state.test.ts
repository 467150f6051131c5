// A state that is made anew: whole or not at all, whatever lies in its directory.

import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StoreChange } from '@stellwerk/runtime/environment.ts'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hasState, makeState } from './coordinator-state.ts'
import { filesOf } from './directory.ts'

const CHANGES: StoreChange[] = [{ put: 'cluster', value: { cluster: 'c1' } }]
let directory = ''
const at = (name: string) => join(directory, 'coordinator', name)

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'state-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true })
})

function entries(): unknown {
  const store = openSqliteStore(at('state.sqlite'))
  try {
    return store.entries('')
  } finally {
    store.close()
  }
}

test('what a restore that was killed has left is no state, and is in nobody’s way', async () => {
  mkdirSync(at(''))
  const left = openSqliteStore(at('state.new.sqlite'))
  left.commit([{ put: 'half', value: 1 }])
  left.close()
  writeFileSync(at('state.new.sqlite-wal'), 'the rest')
  expect(await hasState(filesOf(directory), 'coordinator')).toBe(false)
  await makeState(directory, 'coordinator', CHANGES)
  expect(readdirSync(at(''))).toEqual(['state.sqlite'])
  expect(entries()).toEqual([['cluster', { cluster: 'c1' }]])
})

test('the log of the state that was lost is not played into the new one', async () => {
  mkdirSync(at(''))
  const lost = openSqliteStore(at('state.sqlite'))
  lost.commit([{ put: 'lost', value: 1 }])
  copyFileSync(at('state.sqlite-wal'), at('kept'))
  lost.close()
  rmSync(at('state.sqlite'))
  copyFileSync(at('kept'), at('state.sqlite-wal'))
  await makeState(directory, 'coordinator', CHANGES)
  expect(entries()).toEqual([['cluster', { cluster: 'c1' }]])
})

test('one that can not be written is not there', async () => {
  await expect(makeState(directory, 'coordinator', [{ put: 'key', value: undefined as never }])).rejects.toThrow()
  expect(await hasState(filesOf(directory), 'coordinator')).toBe(false)
})
