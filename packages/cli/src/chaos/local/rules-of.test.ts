// Every kind of fault is rules, or a deed, or refused with a reason; and the rules say whom they hit.

import { expect, test } from 'vitest'
import { FAULT_KINDS, type Fault, type FaultKind } from '../fault.ts'
import { isByRules, refusal, rulesOf } from './rules-of.ts'

const CLUSTER = { hosts: ['host-a', 'host-b'], storages: ['san-a', 'san-b'] }
const base = { id: 1, atMs: 0, lastsMs: 1 }

const NETWORK: readonly [FaultKind, Partial<Fault>, object][] = [
  ['host-isolate', { host: 'host-a' }, { from: 'host-a', bothWays: true, verdict: 'hold' }],
  ['host-isolate', { host: 'host-a', network: 'cluster' }, { from: 'host-a', network: 'cluster', verdict: 'hold' }],
  ['host-isolate', { host: 'host-a', fabrics: false }, { from: 'host-a', network: 'cluster', verdict: 'hold' }],
  [
    'partition',
    { host: 'host-a', peer: 'san-b', oneWay: true, network: 'fabric-1' },
    { from: 'host-a', to: 'san-b', bothWays: false, network: 'fabric-1', verdict: 'hold' },
  ],
  ['loss', { host: 'host-a', chance: 0.1 }, { from: 'host-a', verdict: { loss: 0.1 } }],
  ['delay', { host: 'host-a', delayMs: 9 }, { verdict: { delayMs: 9, jitterMs: 0 } }],
  ['duplicate', { host: 'host-a', chance: 0.5 }, { class: 'control', verdict: { repeat: 0.5 } }],
  ['slow-link', { host: 'host-a', mibPerSecond: 1 }, { verdict: { bytesPerMs: 1_048.576 } }],
  ['cable-pull', { host: 'host-a', fabric: 1 }, { from: 'host-a', to: CLUSTER.storages, network: 'fabric-1' }],
  ['fabric-down', { fabric: 0 }, { network: 'fabric-0', verdict: 'hold' }],
]

test.each(NETWORK)('%s %j', (kind, what, rule) => {
  const { network, disk, clock } = rulesOf({ ...base, kind, ...what }, CLUSTER)
  expect(network).toEqual([expect.objectContaining(rule)])
  expect([disk, clock]).toEqual([[], []])
})

test('ports-closed: dials are refused, and what was connected is reset', () => {
  const fault: Fault = { ...base, kind: 'ports-closed', host: 'host-a', peer: 'san-a', network: 'fabric-0' }
  const between = { from: 'host-a', to: 'san-a', network: 'fabric-0', bothWays: true }
  expect(rulesOf(fault, CLUSTER).network).toEqual([
    { ...between, verdict: 'refuse' },
    { ...between, verdict: 'reset' },
  ])
})

test.each([
  ['disk-slow', { storage: 'san-a', delayMs: 30 }, { node: 'san-a', verdict: { delayMs: 30, jitterMs: 0 } }],
  ['disk-full', { storage: 'san-a' }, { node: 'san-a', operation: ['write'], verdict: 'ENOSPC' }],
  ['io-error', { storage: 'san-b', chance: 0.2 }, { node: 'san-b', chance: 0.2, verdict: 'EIO' }],
] as const)('%s %j', (kind, what, rule) => {
  expect(rulesOf({ ...base, kind, ...what }, CLUSTER).disk).toEqual([expect.objectContaining(rule)])
})

test('clock-jump', () => {
  const { clock } = rulesOf({ ...base, kind: 'clock-jump', host: 'host-b', byMs: -5_000 }, CLUSTER)
  expect(clock).toEqual([{ node: 'host-b', byMs: -5_000 }])
})

test('no kind is forgotten, and one that lacks a word says which', () => {
  const others = ['ports-closed', 'disk-slow', 'disk-full', 'io-error', 'clock-jump'] as const
  const known = new Set([...NETWORK.map(([kind]) => kind), ...others])
  expect(FAULT_KINDS.filter(isByRules).filter(kind => !known.has(kind))).toEqual([])
  for (const kind of FAULT_KINDS.filter(isByRules)) {
    expect(() => rulesOf({ ...base, kind }, CLUSTER), kind).toThrow(
      expect.objectContaining({ code: 'fault-incomplete' }),
    )
  }
})

test('what makes no sense on connections is refused with the reason', () => {
  const refused = (what: Partial<Fault> & { kind: FaultKind }) => refusal({ ...base, ...what })?.message
  expect(refused({ kind: 'duplicate', host: 'host-a', network: 'fabric-0', chance: 0.5 })).toMatch(/repeats nothing/)
  expect(refused({ kind: 'loss', host: 'host-a', chance: 1 })).toMatch(/is a cut/)
  expect(refused({ kind: 'delay', host: 'host-a', network: 'guest', delayMs: 9 })).toMatch(/have no network/)
  for (const [kind, what] of NETWORK) expect(refused({ kind, ...what })).toBeUndefined()
})
