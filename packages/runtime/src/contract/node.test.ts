// The contract suites over the real environment.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Address, NetworkName } from '../environment.ts'
import { createEnvironment } from '../node/environment.ts'
import { memoryStore } from '../node/memory-store.ts'
import { openSqliteStore } from '../node/sqlite-store.ts'
import { filesContract } from './files-contract.ts'
import { linkContract } from './link-contract.ts'
import { processesContract } from './processes-contract.ts'
import { storeContract } from './store-contract.ts'
import { streamContract } from './stream-contract.ts'
import { timeContract } from './time-contract.ts'
import type { RunInWorld } from './world.ts'

const inTemporaryDirectory = async (body: (directory: string) => void | Promise<void>) => {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-contract-'))
  process.env['STELLWERK_CONTRACT_DIRECTORY'] = directory
  try {
    await body(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const run: RunInWorld = body =>
  inTemporaryDirectory(async directory => {
    const environment = (name: string) =>
      createEnvironment({
        name,
        directory: join(directory, name),
        store: memoryStore(),
        entry: new URL('./node-entry.ts', import.meta.url),
        logLevel: 'warn',
      })
    const left = environment('left')
    const right = environment('right')
    let sockets = 0
    const address = (network: NetworkName): Address =>
      network === 'local'
        ? { network, host: join(directory, `${++sockets}.sock`), port: 0 }
        : { network, host: '127.0.0.1', port: 0 }
    try {
      await body({ left, right, address })
    } finally {
      await right.close()
      await left.close()
    }
  })

timeContract('node', run)
filesContract('node', run)
linkContract('node', run)
streamContract('node', run)
processesContract('node', run)
storeContract('memory', body => body(memoryStore()))
storeContract('SQLite', body =>
  inTemporaryDirectory(directory => {
    const store = openSqliteStore(join(directory, 'state.sqlite'))
    try {
      body(store)
    } finally {
      store.close()
    }
  }),
)
