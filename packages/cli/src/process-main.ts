// What every process of a cluster runs that another process has spawned: it is told by its parent which program to be.

import { keepCompileCache, useCompileCache } from '@stellwerk/runtime/node/compile-cache.ts'
import { receiveSpec } from '@stellwerk/runtime/node/parent-pipe.ts'

useCompileCache()
const spec = await receiveSpec()
if (spec === null) {
  process.stderr.write('this file is run by stellwerk itself; see: npx stellwerk help\n')
  process.exit(2)
}
// Each imports only what it runs: a cluster is many processes that start at once.
if (spec.program === 'up') {
  const { runDetached } = await import('./programs/up.ts')
  await runDetached(spec)
} else {
  const { runProgram } = await import('./programs/run.ts')
  await runProgram(spec)
}
keepCompileCache()
