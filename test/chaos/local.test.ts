// A chaos target of real processes, short: an agent is killed, the other host is cut off from the coordinator; the guests run on
// or elsewhere, and all that they acknowledged is there.

import { existsSync } from 'node:fs'
import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import type { Fault } from '../../packages/cli/src/chaos/fault.ts'
import { monitorsOn, rulesOn } from '../../packages/cli/src/chaos/judge/rules.ts'
import { LocalTarget } from '../../packages/cli/src/chaos/local/local-target.ts'
import { checkTrace } from '../../packages/cli/src/trace/check.ts'
import { openTrace } from '../../packages/cli/src/trace/source.ts'

const LIVELY_MS = 2_000
const SETUP = {
  seed: '1',
  cluster: { hosts: ['host-a', 'host-b'], storages: ['san-a', 'san-b'] },
  workload: { vms: 2, memoryBytes: 16 * MIB, dirtyBytesPerSecond: MIB / 2, writesPerSecond: 20 },
}

test('an agent killed, then a host cut off from the coordinator: guests run on, nothing acknowledged is lost', {
  timeout: 180_000,
}, async () => {
  const target = new LocalTarget()
  const faults: readonly Fault[] = [
    { id: 1, kind: 'agent-kill', atMs: 0, lastsMs: 1_500, host: 'host-a' },
    { id: 2, kind: 'partition', atMs: 2_000, lastsMs: 2_200, host: 'host-b', peer: 'coordinator', network: 'cluster' },
  ]
  try {
    expect(await target.setUp(SETUP)).toEqual({ ...SETUP.cluster, vms: ['ledger-1', 'ledger-2'] })
    for (const fault of faults) {
      expect(target.refuses(fault)).toBeNull()
      await target.until(fault.atMs, () => false)
      await target.inject(fault)
      await target.until(target.now() + fault.lastsMs, () => false)
      await target.heal(fault)
    }
    await target.healAll(LIVELY_MS)
    await target.until(target.now() + 1.1 * LIVELY_MS, () => false)
    expect(await target.finish()).toEqual([])

    const monitors = monitorsOn('local', rulesOn('local'), undefined)
    const seen: string[] = []
    for await (const { record } of target.records()) {
      monitors.observe(record)
      const { kind, host, body } = record
      if (kind === 'fault.begun' || kind === 'fault.ended') seen.push(`${kind} ${(body as { fault: string }).fault}`)
      if (kind === 'process.dead') seen.push(`${host} attested`)
      if (kind === 'host.verdict' && host === 'host-b') seen.push(`host-b ${(body as { verdict: string }).verdict}`)
    }
    expect(monitors.finish()).toEqual([])
    expect(monitors.judged.get('VM2')).toBeGreaterThan(20)
    expect(monitors.judged.get('LIV1')).toBeGreaterThan(0)
    expect(seen).toEqual(
      expect.arrayContaining([
        ...faults.flatMap(({ kind }) => [`fault.begun ${kind}`, `fault.ended ${kind}`]),
        'host-a attested',
      ]),
    )
    // Its peer hears it, or else the storages do: it is not taken for dead.
    expect(seen.some(line => line === 'host-b link-cut' || line === 'host-b isolated')).toBe(true)
    expect(seen).not.toContain('host-b gone')
    // The same by what a run that failed leaves: with what was heard outside all hosts.
    const report = await checkTrace(await openTrace(target.directory ?? ''), { rules: ['VM1', 'VM2', 'LIV1'] })
    expect(report.violations).toEqual([])
    expect(report.rules.map(({ verdict }) => verdict)).toEqual(['kept', 'kept', 'kept'])
  } finally {
    await target.close()
  }
  expect(existsSync(target.directory ?? '')).toBe(false)
})
