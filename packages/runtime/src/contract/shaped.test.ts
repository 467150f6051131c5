// The contract suites over the real environment with fault rules in force, all of which only delay: what is shaped is still a
// link, a stream, a file.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEnvironment } from '../node/environment.ts'
import type { FaultRules } from '../node/faults/fault-rules.ts'
import { memoryStore } from '../node/memory-store.ts'
import { filesContract } from './files-contract.ts'
import { linkContract } from './link-contract.ts'
import { streamContract } from './stream-contract.ts'
import type { RunInWorld } from './world.ts'

const SOURCES = { left: '127.91.0.1', right: '127.91.0.2' }
/** Below those that the system gives out, and away from those that clusters take. */
const FIRST_PORT = 12_000
const PORTS = 4_000
let next = Math.floor(Math.random() * PORTS)

const rules: FaultRules = {
  nodes: Object.fromEntries(Object.entries(SOURCES).map(([node, source]) => [source, node])),
  ports: Object.fromEntries(Array.from({ length: PORTS }, (_, i) => [FIRST_PORT + i, 'left'])),
  network: [
    { from: 'right', to: 'left', verdict: { delayMs: 1, jitterMs: 3 } },
    { from: 'left', to: 'right', verdict: { jitterMs: 2, bytesPerMs: 1e6 } },
  ],
  disk: [{ node: 'left', path: '', operation: ['read', 'write', 'sync'], verdict: { delayMs: 0, jitterMs: 2 } }],
  clock: [],
}

const run: RunInWorld = async body => {
  const directory = mkdtempSync(join(tmpdir(), 'stellwerk-shaped-'))
  const file = join(directory, 'rules.json')
  writeFileSync(file, JSON.stringify(rules))
  const environment = (name: 'left' | 'right') =>
    createEnvironment({
      name,
      directory: join(directory, name),
      store: memoryStore(),
      logLevel: 'warn',
      faults: { file, source: SOURCES[name] },
    })
  const left = environment('left')
  const right = environment('right')
  try {
    await body({
      left,
      right,
      address: network =>
        network === 'local'
          ? { network, host: join(directory, `${++next}.sock`), port: 0 }
          : { network, host: '127.0.0.1', port: FIRST_PORT + (++next % PORTS) },
    })
  } finally {
    await right.close()
    await left.close()
    rmSync(directory, { recursive: true })
  }
}

filesContract('shaped', run)
linkContract('shaped', run)
streamContract('shaped', run)
