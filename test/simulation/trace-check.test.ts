// What a simulated run leaves on disk tells all by itself: a planted bug is found in it, and its coordinator decides again what
// it has decided. All planted bugs: trace-check.long.test.ts; a clean run: recorder.test.ts.

import { join } from 'node:path'
import { present } from '@stellwerk/runtime/assert.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { canaryNamed } from 'stellwerk/simulation/canaries.ts'
import { replayTrace } from 'stellwerk/trace/replay.ts'
import { openTrace } from 'stellwerk/trace/source.ts'
import { afterEach, expect, test } from 'vitest'
import { inDirectory, isFoundInItsTrace, recorded } from './recorded-bugs.ts'
import { TIMEOUT } from './support.ts'

afterEach(() => canaries.clear())

isFoundInItsTrace(present(canaryNamed('run-before-commit'), 'the canary'), { clean: false })

test(
  'FEN1 finds fence-missing-leg in its trace, and a replay by a core without that bug names where it decides otherwise',
  TIMEOUT,
  async () => {
    const { name, seed, tuning } = present(canaryNamed('fence-missing-leg'), 'the canary')
    await inDirectory(async directory => {
      const trace = join(directory, 'trace')
      const { result, report } = await recorded(trace, String(seed), { canary: name, tuning })
      expect(result.failure?.rule).toBe('FEN1')
      const { violations, rules } = await report()
      expect(violations).toMatchObject([{ rule: 'FEN1', message: result.failure?.message }])
      expect(violations[0]?.chain.map(({ record }) => record.kind)).toEqual(
        expect.arrayContaining(['decision.fence', 'decision.vm-lost', 'failover.start']),
      )
      expect(rules.filter(({ verdict }) => verdict === 'kept').length).toBeGreaterThan(10)
      const source = await openTrace('/nowhere', [trace])
      canaries.add(name)
      const same = await replayTrace(source)
      expect(same.difference).toBe(null)
      expect(same.counts).toMatchObject({ skipped: 0 })
      expect(same.counts.decided).toBeGreaterThan(100)
      canaries.clear()
      const other = await replayTrace(source)
      expect(other.difference?.path).toMatch(/^changes\/\d+\/value\/fence\/needed/)
      expect(other.difference?.fed).toMatchObject({ kind: 'tick' })
      expect(other.record?.kind).toBe('core.output')
    })
  },
)
