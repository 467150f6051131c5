// RIO1, RIO2, and what IO3 says of redirected writes: good traces are accepted, each way to break the rule is found.

import { describe, expect, test } from 'vitest'
import { TraceBuilder } from './trace-builder.ts'

const admitted = () =>
  new TraceBuilder().add('storage.admitted', { host: 'host-a' }, { storage: 'san-a', epoch: 1 }, 'san-a')
const seen = (t: TraceBuilder, direct: boolean, linked: boolean, wanted = direct) =>
  t.add('reach.observed', {}, { paths: [{ host: 'host-a', storage: 'san-a', direct, wanted, linked }] }, 'simulator')
const lun = { host: 'host-a', volume: 'csv1' }
const waiting = (t: TraceBuilder, oldestMs: number, owner = false) =>
  t.add('path.waiting', lun, { storage: 'san-a', owner, oldestMs })
const deleted = (t: TraceBuilder, storage = 'san-a') =>
  t.add('storage.lun-deleted', { volume: 'csv1' }, { storage }, storage)
const went = (t: TraceBuilder, kind: string, owner = false) =>
  t.add(`path.${kind}`, lun, { storage: 'san-a', owner, via: null, why: '' })

describe('RIO1', () => {
  test.each([
    ['a wait while nothing leads there', waiting(seen(admitted(), false, false).wait(20_000), 20_000)],
    ['a wait no longer than the budget', waiting(seen(admitted(), true, true).wait(20_000), 9_000)],
    ['a wait that began before the way was there', waiting(seen(admitted(), false, true).wait(9_000), 20_000)],
    [
      'a way that was away in between',
      waiting(seen(seen(seen(admitted(), true, false).wait(9_000), false, false), true, false).wait(5_000), 14_000),
    ],
    [
      'a host that storage has fenced',
      waiting(seen(admitted(), true, true).wait(5_000).fenced('san-a', 'host-a', 1).wait(20_000), 20_000),
    ],
    [
      'a leg that was taken away, of which the host has not heard yet',
      waiting(deleted(seen(went(admitted(), 'direct'), true, true).wait(1_000)).wait(20_000), 20_000),
    ],
    [
      'the same, where the set had been replaced: the old one closes last',
      waiting(deleted(went(went(seen(admitted(), true, true), 'direct'), 'closed')).wait(20_000), 20_000),
    ],
    [
      'a storage that has died in between',
      waiting(seen(admitted(), true, true).wait(9_000).dead('san-a', 'san-a').wait(9_000), 18_000),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('RIO1')).toEqual([])
  })
  test.each([
    ['once the host has heard that the leg was taken away', t => went(t, 'closed')],
    ['of a host that has not heard of it long after', t => seen(t, true, true).wait(20_000)],
    ['once it reaches another LUN of that name', t => went(t, 'direct')],
    ['once its agent has died', t => t.dead('host-a')],
    ['by the other set of the host', t => t, true],
  ] as [string, (t: TraceBuilder) => TraceBuilder, boolean?][])(
    'counts waits again %s',
    (_name, then, owner = false) => {
      const t = then(deleted(went(admitted(), 'direct')))
      expect(waiting(seen(t, true, true).wait(11_000), 11_000, owner).judge('RIO1')).toHaveLength(1)
    },
  )
  test('counts waits of a host that heard of it in time, and never reaches the next LUN of that name', () => {
    const t = deleted(went(went(admitted(), 'direct'), 'closed'))
    expect(waiting(seen(t, true, true).wait(31_000), 29_000).judge('RIO1')).toHaveLength(1)
  })
  test('counts waits for a LUN of that name on another storage', () => {
    const t = deleted(went(admitted(), 'direct'), 'san-b')
    expect(waiting(seen(t, true, true).wait(11_000), 11_000).judge('RIO1')).toHaveLength(1)
  })
  test.each([
    ['its own path is not used', true, false],
    ['a peer’s path is not used', false, true],
  ])('finds that %s', (_name, direct, linked) => {
    const found = waiting(seen(admitted(), direct, linked).wait(11_000), 11_000, true).judge('RIO1')
    expect(found[0]?.message).toMatch(/host-a has waited 11000 ms for LUN csv1 on san-a as its owner/)
    expect(found[0]).toMatchObject({ rule: 'RIO1', host: 'host-a', volume: 'csv1' })
  })
})

describe('RIO2', () => {
  test.each([
    [
      'redirection while there is no path',
      seen(went(seen(admitted(), false, true), 'redirected').wait(60_000), false, true),
    ],
    [
      'a return in time',
      seen(
        went(seen(went(seen(admitted(), false, true), 'redirected'), true, true).wait(8_000), 'direct').wait(60_000),
        true,
        true,
      ),
    ],
    [
      'redirection at an operator’s wish',
      seen(went(seen(admitted(), true, true, false), 'redirected').wait(60_000), true, true, false),
    ],
    [
      'a LUN that was closed, or whose agent died',
      seen(
        went(went(seen(admitted(), true, true), 'redirected'), 'redirected', true)
          .dead('host-a')
          .wait(60_000),
        true,
        true,
      ),
    ],
  ])('accepts %s', (_name, t) => {
    expect(t.judge('RIO2')).toEqual([])
  })
  test('finds that a host stays redirected', () => {
    const t = seen(
      seen(went(seen(admitted(), false, true), 'redirected').wait(1_000), true, true).wait(11_000),
      true,
      true,
    )
    expect(t.judge('RIO2')[0]?.message).toMatch(/still redirected to LUN csv1 on san-a.* good for 11000 ms/)
  })
  test('does not begin anew with another peer', () => {
    const t = seen(went(seen(admitted(), true, true), 'redirected').wait(6_000), true, true)
    expect(seen(went(t, 'redirected').wait(6_000), true, true).judge('RIO2')).toHaveLength(1)
  })
})

describe('IO3', () => {
  test('accepts a write that a peer carries under the epoch of the host that sent it', () => {
    expect(admitted().applied('host-a', { via: 'host-b' }).judge('IO3')).toEqual([])
  })
  test('finds one under the epoch of the peer', () => {
    expect(admitted().applied('host-b', { via: 'host-b' }).judge('IO3')[0]?.message).toMatch(
      /epoch of host host-b, which only carries it/,
    )
  })
})
