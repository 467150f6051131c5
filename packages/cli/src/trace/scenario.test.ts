// An incident is cut out of a recorded coordinator's life, with the state that it began in.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { CoordinatorReplay, type CoreRecord } from '@stellwerk/coordinator/replay/replay.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { replayTrace } from './replay.ts'
import { recordsOf, scenarioOf, writeScenario } from './scenario.ts'
import { openTrace } from './source.ts'
import { record, START_MS, writeSegment } from './testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-scenario-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** As a coordinator's process would have recorded it, by its own clock; `but` leaves out records. */
function writeTrace(recorded: readonly CoreRecord[], but: (i: number) => boolean = () => false): void {
  let now = 0
  const records = recorded.map(({ kind, value }, i): TraceRecord => {
    if (kind === 'input') ({ now } = value as { readonly now: number })
    const hlc = { wallMs: START_MS + now, counter: i }
    return record('coordinator', i + 1, {
      ...{ hlc, at: now, level: 'message', kind: `core.${kind}`, body: { core: 'coordinator', value } },
    })
  })
  writeSegment(
    root,
    'coordinator',
    records.filter((_, i) => !but(i)),
  )
}

/** Its VM's host falls silent 6.5 s after the start, and the VM is placed anew ten seconds later. */
function failover(): Bench {
  const bench = Bench.cluster()
  bench.hosts.get(bench.placement('web')?.host ?? '')!.beating = false
  bench.round(30)
  return bench
}

it('is the inputs of that time with their answers, and replays by itself', async () => {
  writeTrace(failover().recorded)
  const source = await openTrace('/nowhere', [root])
  expect((await replayTrace(source)).difference).toBe(null)
  const scenario = await scenarioOf(source, { fromMs: START_MS + 6_000, toMs: START_MS + 14_000 })
  expect(scenario.from >= '2026-01-02 03:04:11.000').toBe(true)
  expect(scenario.to < '2026-01-02 03:04:19').toBe(true)
  expect(scenario.decisions.join('\n')).toMatch(/fence host-\w: fence epoch 1/)
  expect(scenario.inputs.map(({ kind }) => kind)).toEqual(['snapshot', ...scenario.inputs.slice(1).map(() => 'input')])
  const out = join(root, 'out')
  writeScenario(out, scenario, 'A host is lost')
  const text = (name: string) => readFileSync(join(out, name), 'utf8')
  expect(text('README.md')).toMatch(/^# A host is lost\n/)
  const replay = new CoordinatorReplay()
  for (const each of recordsOf(text('inputs.ndjson'), text('expected.ndjson'))) expect(replay.take(each)).toBe(null)
  expect(replay.counts.decided).toBe(scenario.expected.length)
  expect(() => writeScenario(out, scenario, 'again')).toThrow(expect.objectContaining({ code: 'not-empty' }))
})

it('is refused in one line for a time that has nothing, or has a gap, and for a trace without a coordinator', async () => {
  const { recorded } = failover()
  writeTrace(recorded)
  const open = () => openTrace('/nowhere', [root])
  const refused = (code: string) => ({ code, where: expect.any(String), hint: expect.any(String) })
  await expect(scenarioOf(await open(), { fromMs: START_MS + 86_400_000 })).rejects.toMatchObject(
    refused('empty-scenario'),
  )
  writeTrace(recorded, i => i === 40)
  await expect(scenarioOf(await open(), {})).rejects.toMatchObject(refused('trace-gap'))
  const { counts } = await replayTrace(await open())
  expect(counts.skipped).toBeGreaterThan(0)
  rmSync(join(root, 'coordinator'), { recursive: true })
  writeSegment(root, 'san-a', [record('san-a', 1)])
  await expect(scenarioOf(await open(), {})).rejects.toMatchObject(refused('no-coordinator'))
})
