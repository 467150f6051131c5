// Of messages that are never answered or never arrive there may be any number; the figures are those of the others.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { TraceStats } from './stats.ts'
import { record } from './testing/segments.ts'

test('any number of beats that nobody answers costs little time, and requests among them keep their latency', () => {
  const stats = new TraceStats()
  let seq = 0
  const said = (at: number, kind: 'sent' | 'received', body: object): void => {
    seq += 1
    const more: Partial<TraceRecord> = { at, level: 'message', kind: `message.${kind}`, body: { ...body } }
    stats.observe(record('host-a/agent', seq, more))
  }
  const began = process.cpuUsage()
  for (let i = 0; i < 600_000; i++) {
    const kind = i % 2 === 0 ? 'cluster.beat' : 'cluster.peer-beat'
    said(i, 'sent', { kind, from: 'host-a/agent', to: 'coordinator/decider', seq: i })
    if (i % 1_000 !== 0) continue
    said(i, 'sent', { kind: 'storage.probe', from: 'host-a/agent', to: 'san-a/control', seq: i })
    said(i + 5, 'received', { kind: 'storage.probe', from: 'san-a/control', to: 'host-a/agent', seq: 1, re: i })
  }
  const { user, system } = process.cpuUsage(began)
  // It grew with the square of their number: some 19 s for half as many.
  expect((user + system) / 1_000).toBeLessThan(15_000)
  const probe = stats.kinds().find(({ kind }) => kind === 'storage.probe')
  expect(probe).toMatchObject({ sent: 600, replies: 600 })
  expect(probe?.latency.max).toBeCloseTo(5, 0)
})
