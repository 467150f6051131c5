// The plans of the library on real processes, whole: five minutes of faults each, or as many seconds as STELLWERK_CHAOS_SECONDS
// says. Rules, ledgers and counts hold as the plan says; how fast things go depends on the machine, so of times only what is far too
// late fails here. `stellwerk chaos run` judges them as they are.

import { LocalTarget } from 'stellwerk/chaos/local/local-target.ts'
import { describe, test } from 'vitest'
import { holdsOn, LIBRARY } from '../simulation/chaos-runs.ts'

const SECONDS = Number(process.env['STELLWERK_CHAOS_SECONDS'] ?? '300')
/** Set up, healed, converged, judged besides. */
const TIMEOUT = { timeout: SECONDS * 1_000 + 600_000 }

describe('a plan of the library holds on processes of this machine', () => {
  for (const name of LIBRARY) {
    test(name, TIMEOUT, () => holdsOn(name, SECONDS * 1_000, keep => new LocalTarget({ keep })))
  }
})
