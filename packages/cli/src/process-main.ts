// What every process of a cluster runs that another process has spawned: it is told by its parent which program to be.

import { receiveSpec } from '@stellwerk/runtime/node/parent-pipe.ts'
import { runProgram } from './programs/run.ts'
import { runDetached } from './programs/up.ts'

const spec = await receiveSpec()
if (spec === null) {
  process.stderr.write('this file is run by stellwerk itself; see: npx stellwerk help\n')
  process.exit(2)
}
if (spec.program === 'up') await runDetached(spec)
else await runProgram(spec)
