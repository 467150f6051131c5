import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore } from '@stellwerk/runtime/node/sqlite-store.ts'
import { afterEach, expect, test } from 'vitest'
import type { ClusterFile } from './cluster-file.ts'
import { hostsLetIn } from './storage-hosts.ts'

const directory = mkdtempSync(join(tmpdir(), 'storage-hosts-'))
const cluster = { storages: ['san-a', 'san-b', 'san-c'].map(name => ({ name })) } as unknown as ClusterFile
afterEach(() => rmSync(directory, { recursive: true }))

test('those that a storage has admitted and not fenced since; a storage whose state is gone says nothing', async () => {
  const hosts = {
    'san-a': { 'host-a': { admitted: 3, fenced: 3 }, 'host-b': { admitted: 2, fenced: 1 } },
    'san-b': { 'host-a': { admitted: 4, fenced: 3 }, 'host-b': { admitted: 2, fenced: 1 } },
  }
  for (const [storage, marks] of Object.entries(hosts)) {
    mkdirSync(join(directory, storage))
    const store = openSqliteStore(join(directory, storage, 'state.sqlite'))
    store.commit(Object.entries(marks).map(([host, value]) => ({ put: `host/${host}`, value })))
    store.close()
  }
  mkdirSync(join(directory, 'san-c'))
  expect(await hostsLetIn(directory, cluster)).toEqual(
    new Map([
      ['host-b', 'san-a'],
      ['host-a', 'san-b'],
    ]),
  )
})
