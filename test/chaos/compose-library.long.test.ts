// The plans of the library that can be done to containers, a minute of faults each. Of times only what is far too late fails here,
// as in library.long.test.ts.

import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { ComposeTarget } from '../../packages/cli/src/chaos/compose/compose-target.ts'
import { Engine } from '../compose/engine.ts'
import { holdsOn } from '../simulation/chaos-runs.ts'

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
    test(name, { timeout: LONG }, () => holdsOn(name, DURATION_MS, keep => ComposeTarget.open({ keep })))
  }
})
