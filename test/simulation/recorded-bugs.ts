// Each planted bug that the simulator finds is found again in what the run left on disk, by `stellwerk trace check` and nothing
// else: the same rule, in the same words. And what the same faults leave without the bug is clean. Called by the files that
// share the bugs out.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RULES } from '@stellwerk/protocol/monitors/monitor.ts'
import type { Canary } from 'stellwerk/simulation/canaries.ts'
import { SimRecorder } from 'stellwerk/simulation/recorder.ts'
import { PLANTED_TUNING, type RunOptions, runSeed, type SeedResult } from 'stellwerk/simulation/run-seed.ts'
import { type CheckReport, checkTrace } from 'stellwerk/trace/check.ts'
import { openTrace } from 'stellwerk/trace/source.ts'
import { expect, test } from 'vitest'
import { CLEAN, complaint, TIMEOUT } from './support.ts'

/** From the pinned seed on, should the code have moved on since it was pinned. */
const SEEDS_MAX = 20

/** Some seeds take a minute, and there may be many: how long that is on a busy machine proves nothing. */
const LONG_RUN = { timeout: 2_400_000 }

/** `work` gets a directory that is gone afterwards. */
export async function inDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const root = mkdtempSync(join(tmpdir(), 'stellwerk-recorded-'))
  try {
    return await work(root)
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

/** Runs the seed and judges only what it left in `directory`. */
export async function recorded(
  directory: string,
  seed: string,
  options: RunOptions,
): Promise<{ result: SeedResult; report: () => Promise<CheckReport> }> {
  const recorder = new SimRecorder(directory, seed)
  const result = await runSeed(seed, { ...options, recorder })
  recorder.close()
  const report = async () => checkTrace(await openTrace('/nowhere', [directory]), { rules: RULES })
  return { result, report }
}

/** The first seed in which that rule is the first to see it, and what its trace says. */
async function found({
  name,
  rule,
  seed,
  tuning,
}: Canary): Promise<{ result: SeedResult; report: CheckReport } | null> {
  for (let i = 0; i < SEEDS_MAX; i++) {
    const one = await inDirectory(async directory => {
      const { result, report } = await recorded(join(directory, 'trace'), String(seed + i), { canary: name, tuning })
      return result.failure?.rule === rule ? { result, report: await report() } : null
    })
    if (one !== null) return one
  }
  return null
}

/** `clean`: also that the same seed without the bug leaves a clean trace. */
export function isFoundInItsTrace(canary: Canary, options: { readonly clean: boolean }): void {
  test(`${canary.rule} finds ${canary.name} in the recorded trace`, options.clean ? LONG_RUN : TIMEOUT, async () => {
    const bug = await found(canary)
    expect(bug, `not found within ${SEEDS_MAX} seeds from ${canary.seed} on`).not.toBe(null)
    if (bug === null) return
    const { result, report } = bug
    const [live] = result.violations
    const [told] = report.violations
    expect(told).toMatchObject({ rule: canary.rule, message: live?.message, at: live?.at, records: live?.records })
    // The last of what led there is what broke the rule, and all of the proof is in it.
    expect(told?.chain.at(-1)?.record).toMatchObject(live?.records.at(-1) ?? {})
    expect(told?.chain.filter(({ proof }) => proof).length).toBe(new Set(live?.records.map(keyOf)).size)
    if (!options.clean) return
    const { seed, simulatedMs } = result
    const tuning = { ...PLANTED_TUNING, ...canary.tuning, safetyMs: simulatedMs }
    const clean = await inDirectory(async directory => {
      const run = await recorded(join(directory, 'trace'), seed, { tuning })
      return { result: run.result, report: await run.report() }
    })
    expect(complaint(clean.result)).toBe(CLEAN)
    expect(clean.report.violations).toEqual([])
    expect(clean.report.rules.find(({ rule }) => rule === canary.rule)?.verdict).toBe('kept')
  })
}

const keyOf = ({ process, seq }: { readonly process: string; readonly seq: number }): string => `${process} ${seq}`
