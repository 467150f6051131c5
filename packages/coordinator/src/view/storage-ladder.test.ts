// Each rung of the storage-loss ladder: which, since when, why, in a VM's view and in `why`.

import type { AccessReport, PathReport } from '@stellwerk/protocol/messages/cluster.ts'
import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { expect, it } from 'vitest'
import type { DecisionRecord } from '../core/state.ts'
import { Bench, type BenchHost } from '../core/testing.ts'
import { StatusSchema } from './schemas.ts'
import { statusOf } from './status.ts'
import { whyOf } from './why.ts'

const DIRECT = {
  volume: 'csv1',
  storage: 'san-a',
  state: 'direct',
  via: null,
  why: 'a path is up',
  sinceMs: 60_000,
} as const

function path(fabric: string, state: string, why: string, sinceMs: number): PathReport {
  return {
    ...{ storage: 'san-a', path: `${fabric}/san-a`, state, why, sinceMs, via: null },
    ...{ latencyMs: 0.5, queue: 0, requests: 7, errors: 0 },
  }
}

function placed(bench = Bench.cluster()) {
  const name = bench.placement('web')!.host
  const host = bench.hosts.get(name)!
  return {
    bench,
    name,
    host,
    storage: () => {
      const status = statusOf(bench.state, bench.now)
      expect(Value.Check(StatusSchema, status)).toBe(true)
      return status.vms['web']!.storage
    },
    says: (report: Partial<AccessReport>, paths: readonly PathReport[] = []) => {
      host.access = [{ ...DIRECT, ...report }]
      host.paths = [...paths]
      bench.round(1)
    },
    why: () => {
      const decisions = bench.store.entries('decisions/').map(([, value]) => value as unknown as DecisionRecord)
      return whyOf(bench.state, 'vm', 'web', decisions, bench.now)?.now.join(' ') ?? ''
    },
  }
}

function freeze(bench: Bench, host: BenchHost, why: string): void {
  host.machines = host.machines.map(machine => ({ ...machine, state: 'frozen', why }))
  bench.round(1)
}

it('direct, over the other HBA, redirected, waiting: as its host tells, with its times', () => {
  const { bench, storage, says, why } = placed()
  const traced = bench.traces.length
  says({})
  expect(storage()).toMatchObject({ rung: 'direct', volume: 'csv1', storage: 'san-a' })
  expect(why()).not.toContain('storage')
  says({}, [path('fabric-0', 'failed', 'connection reset', 7_000), path('fabric-1', 'up', '', 60_000)])
  expect(storage()).toMatchObject({ rung: 'other-hba', why: 'fabric-0/san-a has failed: connection reset' })
  bench.now += 50
  expect(storage()!.sinceMs).toBeGreaterThanOrEqual(7_050)
  says({ state: 'redirected', via: 'host-z', why: 'no path of its own', sinceMs: 3_000 })
  expect(storage()).toMatchObject({ rung: 'redirected', why: 'via host-z; no path of its own' })
  expect(why()).toContain('Its storage: redirected for 3 s, csv1 on san-a: via host-z; no path of its own.')
  says({ state: 'paused', why: 'nobody has a path', sinceMs: 900 })
  expect(storage()).toMatchObject({ rung: 'waiting', why: 'nobody has a path' })
  says({}, [path('fabric-0', 'up', 'answers', 10)])
  expect(storage()?.rung).toBe('direct')
  const kinds = bench.traces.slice(traced).map(({ kind }) => kind)
  expect(kinds.filter(kind => /^(volume|hba)\./.test(kind))).toEqual([
    ...['hba.failed', 'volume.redirected', 'volume.paused', 'volume.direct'],
  ])
})

it('held still: since it was first said so, and not since the last word', () => {
  const { bench, host, storage, says } = placed()
  says({ state: 'paused', why: 'nobody has a path', sinceMs: 900 })
  freeze(bench, host, 'no storage has answered')
  const first = storage()
  expect(first).toMatchObject({ rung: 'frozen', why: 'no storage has answered' })
  bench.round(5)
  expect(storage()!.sinceMs! - first!.sinceMs!).toBeGreaterThan(1_000)
})

it('on the other leg: since that one was given up', () => {
  const { bench, storage, says } = placed()
  says({})
  const volume = bench.state.volumes.get('csv1')!
  const legs = [
    ...volume.legs,
    { ...volume.legs[0]!, leg: 'leg-9', storage: 'san-b', index: 1, role: 'stale' as const },
  ]
  bench.state.volumes.set('csv1', { ...volume, legs })
  bench.round(1)
  bench.now += 400
  expect(storage()).toMatchObject({ rung: 'other-leg', storage: 'san-b' })
  expect(storage()!.sinceMs).toBeGreaterThanOrEqual(400)
})

it('being moved, and being started again elsewhere', () => {
  const { bench, name, host, storage, says } = placed()
  says({ state: 'redirected', via: 'host-z', why: 'no path of its own', sinceMs: 3_000 })
  bench.command({ kind: 'vm-migrate', name: 'web', to: null, id: 'm1' })
  expect(storage()).toMatchObject({ rung: 'moving', why: expect.stringContaining('redirected: via host-z') })
  bench.holdBack = key => key.includes('web')
  host.beating = false
  bench.round(60)
  const stands = bench.state.vms.get('web')!
  if (stands.placement === null) expect(storage()).toMatchObject({ rung: 'restarting', volume: null })
  else expect(stands.placement.host).not.toBe(name)
})
