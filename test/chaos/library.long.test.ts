// The plans of the library on real processes, whole: five minutes of faults each, or as many seconds as STELLWERK_CHAOS_SECONDS
// says. Rules, ledgers and counts hold as the plan says; how fast things go depends on the machine, so of times only what is far too
// late fails here. `stellwerk chaos run` judges them as they are.

import { LocalTarget } from 'stellwerk/chaos/local/local-target.ts'
import { runPlan } from 'stellwerk/chaos/run.ts'
import { describe, expect, test } from 'vitest'
import { LIBRARY, libraryPlan, missedBy } from '../simulation/chaos-runs.ts'

const SECONDS = Number(process.env['STELLWERK_CHAOS_SECONDS'] ?? '300')
/** Set up, healed, converged, judged besides. */
const TIMEOUT = { timeout: SECONDS * 1_000 + 600_000 }
/** A machine that is so many times slower than the plans are for. */
const SLOW = 10

describe('a plan of the library holds on processes of this machine', () => {
  for (const name of LIBRARY) {
    test(name, TIMEOUT, async () => {
      const plan = await libraryPlan(name, SECONDS * 1_000)
      // What a failure has left is worth a look.
      let held = false
      const target = new LocalTarget({ keep: () => !held })
      const { violations, findings, lack, objectives } = await runPlan(target, {
        plan,
        seed: '1',
        onJudged: verdict => {
          held = verdict === 'pass'
        },
      })
      console.log(`${name}: ${objectives.map(each => `${each.name} ${each.value} of ${each.limit}`).join(', ')}`)
      expect({ violations, findings, lack, missed: objectives.filter(missedBy(SLOW)) }).toEqual({
        ...{ violations: [], findings: [], lack: null, missed: [] },
      })
    })
  }
})
