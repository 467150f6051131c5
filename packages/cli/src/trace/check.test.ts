// A trace is judged by what it holds: what it breaks, what it keeps, and what it can't tell, each with its reason.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Bench } from '@stellwerk/coordinator/core/testing.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { snapshotOf } from '@stellwerk/coordinator/snapshot.ts'
import { RULES } from '@stellwerk/protocol/monitors/monitor.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CheckReport, checkTrace } from './check.ts'
import { rulesNamed } from './check-rules.ts'
import { openTrace } from './source.ts'
import { record, START_MS, snapshotWith, writeSegment } from './testing/segments.ts'

let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-check-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** `ms` after the start, on the clock of one machine. */
function at(ms: number, process: string, seq: number, kind: string, more: Partial<TraceRecord>): TraceRecord {
  return record(process, seq, { at: 1_000 + ms, hlc: { wallMs: START_MS + ms, counter: 0 }, kind, ...more })
}

const lease = (ms: number, seq: number, more: Partial<TraceRecord> = {}) =>
  at(ms, 'coordinator', seq, 'lease.granted', {
    ...{ level: 'message', host: 'host-a', body: { epoch: 1, leaseMs: 3_000 } },
    ...more,
  })

const failover = (ms: number, seq: number, more: Partial<TraceRecord> = {}) =>
  at(ms, 'coordinator', seq, 'failover.start', {
    vm: 'web-1',
    body: { from: 'host-a', fromEpoch: 1, to: 'host-b', epoch: 2, attested: false, legs: ['san-a'], waitMs: 3_060 },
    ...more,
  })

const fence = (ms: number, seq: number, more: Partial<TraceRecord> = {}) =>
  at(ms, 'san-a', seq, 'storage.fenced', {
    ...{ host: 'host-a', body: { storage: 'san-a', epoch: 1, term: 1 } },
    ...more,
  })

async function judged(): Promise<CheckReport> {
  return checkTrace(await openTrace('/nowhere', [root]), { rules: RULES })
}

const verdicts = (report: CheckReport) => new Map(report.rules.map(each => [each.rule, each]))

describe('a real cluster’s trace', () => {
  it('is judged by each machine’s own clock, where the stamps of others have pulled its stamps ahead', async () => {
    // A host's wall clock is two seconds ahead, and its last message has pulled the coordinator's stamps there: for two seconds
    // they stand still, while the coordinator waits for as long as it has to.
    const pulled = { hlc: { wallMs: START_MS + 2_000, counter: 7 } }
    writeSegment(root, 'coordinator', [
      { ...lease(-100, 1), at: 49_900 },
      { ...lease(0, 2), ...pulled, at: 50_000 },
      { ...failover(3_100, 3), at: 53_100 },
    ])
    writeSegment(root, 'san-a', [fence(1_000, 1)])
    const report = await judged()
    expect(report.violations).toEqual([])
    expect(verdicts(report).get('FEN1')).toMatchObject({ verdict: 'kept' })
  })

  it('keeps a rule, by records of several processes', async () => {
    writeSegment(root, 'coordinator', [lease(0, 1), failover(5_000, 2)])
    writeSegment(root, 'san-a', [fence(4_000, 1)])
    const report = await judged()
    expect(report.violations).toEqual([])
    expect(verdicts(report).get('FEN1')).toEqual({ rule: 'FEN1', verdict: 'kept', records: 3, why: null })
  })

  it('breaks it where the fence is missing, and the chain goes back over the causes to another process', async () => {
    writeSegment(root, 'host-b/agent', [
      at(4_000, 'host-b/agent', 1, 'message.sent', { level: 'message', body: { kind: 'guardian.attest' } }),
    ])
    const cause = { process: 'host-b/agent', seq: 1 }
    const heard = at(4_001, 'coordinator', 2, 'message.received', { level: 'message', cause, body: { kind: 'x' } })
    const lost = at(4_500, 'coordinator', 3, 'decision.vm-lost', {
      ...{ cause: { process: 'coordinator', seq: 2 }, body: { subject: 'web-1' } },
    })
    writeSegment(root, 'coordinator', [snapshotWith(), lease(0, 1), heard, lost, failover(5_000, 4)])
    const { violations, rules } = await judged()
    expect(violations).toHaveLength(1)
    expect(violations[0]).toMatchObject({ rule: 'FEN1', message: expect.stringContaining('before san-a had fenced') })
    expect(violations[0]?.chain.map(each => `${each.record.process} ${each.record.seq} ${each.proof}`)).toEqual([
      ...['host-b/agent 1 false', 'coordinator 2 false', 'coordinator 3 false', 'coordinator 4 true'],
    ])
    expect(rules.find(({ rule }) => rule === 'FEN1')?.verdict).toBe('broken')
  })

  it('names what it can’t tell: for want of finer records, of somebody who sees all, of the thing itself', async () => {
    writeSegment(root, 'coordinator', [lease(0, 1)])
    const { rules } = await judged()
    expect(rules.every(({ verdict }) => verdict === 'not-judged')).toBe(true)
    const why = new Map(rules.map(each => [each.rule, each.why]))
    expect(why.get('VM1')).toMatch(/needs guest.step, recorded at level io; this trace has none/)
    expect(why.get('MIR1')).toMatch(/not by a real cluster’s trace/)
    expect(why.get('IO1')).toMatch(/killed takes its last records along/)
    expect(why.get('FEN1')).toBe('needs failover.start, recorded at level decision; this trace has none of that level')
    expect(why.get('CSV3')).toMatch(/extent.granted/)
  })

  it('says of a rule that it is judged in part, where its finer records are not there', async () => {
    const ids = { vm: 'web-1', migration: 'm1' }
    const loaded = at(1, 'host-b/agent', 1, 'machine.loaded', { ...ids, host: 'host-b', body: { checksum: 1 } })
    writeSegment(root, 'host-b/agent', [loaded])
    expect(verdicts(await judged()).get('MIG1')).toMatchObject({
      ...{ verdict: 'kept', why: 'in part: without guest.step (level io)' },
    })
  })

  it('convicts nobody by what may be among the records that are missing', async () => {
    writeSegment(root, 'coordinator', [snapshotWith(), lease(0, 1), failover(5_000, 4)])
    const near = await judged()
    expect(near).toMatchObject({ violations: [], doubtful: 1 })
    // Nor is that called kept.
    expect(verdicts(near).get('FEN1')).toMatchObject({
      verdict: 'not-judged',
      why: expect.stringMatching(/^1 finding stands too near/),
    })
    expect(near.missing).toEqual([expect.stringMatching(/2 trace records are missing before number 4/)])
    writeSegment(root, 'coordinator', [snapshotWith(), lease(0, 1), lease(1_000, 3), failover(200_000, 4)])
    expect(await judged()).toMatchObject({ violations: [{ rule: 'FEN1' }], doubtful: 0 })
  })

  it('convicts nobody by what may be in a trace that is not here at all', async () => {
    const bench = new Bench()
    const taken = (seq: number) => {
      const body = { core: COORDINATOR_CORE, value: snapshotOf(bench.state) }
      return at(seq, 'coordinator', seq, 'core.snapshot', { level: 'message', body })
    }
    writeSegment(root, 'coordinator', [taken(1), lease(2, 2), failover(500_000, 3)])
    const storages = [...bench.state.storages.keys()]
    for (const name of storages.slice(1)) writeSegment(root, name, [at(1, name, 1, 'storage.opened', {})])
    const report = await judged()
    expect(report).toMatchObject({ violations: [], doubtful: 1 })
    expect(report.missing).toEqual([`the trace of ${storages[0]} is not here`])
    expect(verdicts(report).get('FEN1')).toMatchObject({
      verdict: 'not-judged',
      why: expect.stringMatching(/for want of a trace/),
    })
    writeSegment(root, storages[0] ?? '', [at(1, storages[0] ?? '', 1, 'storage.opened', {})])
    expect(await judged()).toMatchObject({ violations: [{ rule: 'FEN1' }], missing: [] })
  })

  it('convicts nobody without the coordinator’s word on who took part, and calls nothing kept by a guessed lease', async () => {
    const [ids, body] = [
      { vm: 'web-1', host: 'host-b' },
      { instance: 'i', epoch: 2 },
    ]
    const probed = { level: 'message', host: 'host-b', body: { storage: 'san-a', epoch: 1 } } as const
    writeSegment(root, 'host-b/agent', [
      at(1, 'host-b/agent', 1, 'vm.run', { ...ids, body: { ...body, how: 'arrive' } }),
      at(2, 'host-b/agent', 2, 'storage.probed', probed),
      at(3, 'host-b/agent', 3, 'guest.step', { ...ids, level: 'io', body }),
    ])
    const away = await judged()
    expect(away).toMatchObject({ violations: [], doubtful: 1, missing: ['the trace of coordinator is not here'] })
    expect(verdicts(away).get('MIG1')).toMatchObject({
      verdict: 'not-judged',
      why: expect.stringMatching(/for want of a trace/),
    })
    expect(verdicts(away).get('FEN2')).toMatchObject({
      verdict: 'not-judged',
      why: expect.stringMatching(/^needs the lease/),
    })
    // A coordinator's trace that has no snapshot: nobody says whose trace should be there.
    writeSegment(root, 'coordinator', [lease(0, 1), failover(500_000, 2)])
    const unsaid = await judged()
    expect(unsaid).toMatchObject({ violations: [], missing: [expect.stringMatching(/^who took part is not known/)] })
  })

  it('asks for the traces of hosts that came after the last snapshot, and of a guardian that attested', async () => {
    const admitted = at(1, 'coordinator', 1, 'host.admitted', { host: 'host-a', body: { epoch: 1, owed: [] } })
    const lost = at(400_000, 'coordinator', 2, 'decision.vm-lost', {
      body: { subject: 'web-1', saw: { host: 'host-a', attested: true, by: 'its guardian' } },
    })
    const body = { from: 'host-a', fromEpoch: 1, to: 'host-b', epoch: 2, attested: true, legs: ['san-a'], waitMs: 0 }
    writeSegment(root, 'coordinator', [snapshotWith(), admitted, lost, failover(500_000, 3, { body })])
    const report = await judged()
    expect(report.violations).toEqual([])
    expect(report.missing).toEqual(['host-a/agent', 'host-a/guardian'].map(name => `the trace of ${name} is not here`))
  })

  it('asks for no guardian’s trace where an agent has ended all it had by itself, or an operator vouches for it', async () => {
    for (const by of [null, 'an operator']) {
      const lost = at(400_000, 'coordinator', 2, 'decision.vm-lost', {
        body: { subject: 'web-1', saw: { host: 'host-b', attested: true, by } },
      })
      writeSegment(root, 'coordinator', [snapshotWith(), lease(0, 1), lost, failover(500_000, 3)])
      expect((await judged()).missing).toEqual([])
    }
  })

  it('does not judge by halves what counts from the first record on', async () => {
    const granted = at(0, 'host-a/agent', 900, 'extent.granted', {
      ...{ host: 'host-a', volume: 'csv1', disk: 'd', body: { extent: 1, zero: true, offset: 0 } },
    })
    writeSegment(root, 'coordinator', [snapshotWith()])
    writeSegment(root, 'host-a/agent', [granted])
    const report = await judged()
    expect(report.missing).toEqual([expect.stringContaining('begins with its record 900')])
    expect(verdicts(report).get('CSV2')).toMatchObject({
      verdict: 'not-judged',
      why: expect.stringMatching(/records are missing/),
    })
    expect(verdicts(report).get('CSV3')).toMatchObject({ verdict: 'kept' })
  })

  it('compares wall clocks where the processes ran on several machines', async () => {
    // The storage's machine was started later: its monotonic clock says little.
    writeSegment(root, 'coordinator', [snapshotWith(['san-a']), lease(0, 1), failover(3_100, 2)])
    writeSegment(root, 'san-a', [
      at(2_900, 'san-a', 1, 'storage.probed', {
        ...{ level: 'message', host: 'host-a', at: 5, body: { storage: 'san-a', epoch: 1 } },
      }),
      fence(3_000, 2, { at: 105 }),
    ])
    const { violations } = await judged()
    expect(violations[0]).toMatchObject({ rule: 'FEN1', message: expect.stringContaining('200 ms after host-a') })
  })
})

it('a rule that there is not is refused in one line', () => {
  expect(rulesNamed(['fen1', 'VM1'])).toEqual(['FEN1', 'VM1'])
  expect(() => rulesNamed(['FEN3'])).toThrow(expect.objectContaining({ code: 'unknown-rule', where: '--rule' }))
})
