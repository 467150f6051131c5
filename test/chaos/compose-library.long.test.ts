// The plans of the library that can be done to containers, a minute of faults each. Of times only what is far too late fails here,
// as in library.long.test.ts.

import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ComposeTarget } from '../../packages/cli/src/chaos/compose/compose-target.ts'
import { runPlan } from '../../packages/cli/src/chaos/run.ts'
import { Engine } from '../compose/engine.ts'
import { libraryPlan, missedBy } from '../simulation/chaos-runs.ts'

const LONG = 1_200_000
const DURATION_MS = 60_000
const PLANS = ['rolling-kill', 'coordinator-storm'] as const
const { missing, note } = peers(
  ...[peer('dockerd', 'docker.io'), peer('docker-compose', 'docker-compose'), peer('debootstrap', 'debootstrap')],
)

describe.skipIf(missing || process.getuid?.() !== 0)(`a plan of the library holds on containers (${note})`, () => {
  const engine = new Engine('unused')
  const before = { ...process.env }
  beforeAll(async () => {
    await engine.start()
    Object.assign(process.env, { DOCKER_HOST: engine.environment['DOCKER_HOST'] })
  }, LONG)
  afterAll(async () => {
    process.env = before
    await engine.stop()
  }, LONG)

  for (const name of PLANS) {
    test(name, { timeout: LONG }, async () => {
      const plan = await libraryPlan(name, DURATION_MS)
      // What a failure has left is worth a look.
      let held = false
      const target = await ComposeTarget.open({ keep: () => !held })
      const { violations, findings, lack, objectives } = await runPlan(target, {
        plan,
        seed: '1',
        onJudged: verdict => {
          held = verdict === 'pass'
        },
      })
      console.log(`${name}: ${objectives.map(each => `${each.name} ${each.value} of ${each.limit}`).join(', ')}`)
      expect({ violations, findings, lack, missed: objectives.filter(missedBy(10)) }).toEqual({
        ...{ violations: [], findings: [], lack: null, missed: [] },
      })
    })
  }
})
