// What children of the contract tests run under plain `node`: as every program's entry file does, it asks what it was
// spawned for.

import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEnvironment } from '../node/environment.ts'
import { memoryStore } from '../node/memory-store.ts'
import { receiveSpec } from '../node/parent-pipe.ts'
import { childProgram } from './child-program.ts'

const spec = await receiveSpec()
if (spec === null) throw new Error('this file is run by the contract tests')
const parentDirectory = process.env['STELLWERK_CONTRACT_DIRECTORY'] ?? tmpdir()
const env = createEnvironment({
  name: spec.name,
  directory: mkdtempSync(join(parentDirectory, 'child-')),
  entry: new URL(import.meta.url),
  store: memoryStore(),
  logLevel: 'warn',
})
await childProgram(env, spec.config)
