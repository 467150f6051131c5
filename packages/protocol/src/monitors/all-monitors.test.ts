// The set of all monitors: who is fed what, what is kept, and what it does with records that lack something.

import { errorCode } from '@stellwerk/runtime/errors.ts'
import { describe, expect, test } from 'vitest'
import { createMonitors } from './all-monitors.ts'
import { RULES, type Violation } from './monitor.ts'
import { TraceBuilder } from './trace-builder.ts'

function thrown(run: () => void): unknown {
  try {
    run()
  } catch (error) {
    return error
  }
  return null
}

describe('all monitors', () => {
  test('every rule has its monitor, fed only by the kinds it asks for', () => {
    const monitors = createMonitors()
    expect([...monitors.judged.keys()]).toEqual([...RULES])
    const t = new TraceBuilder().add('some.thing', {}).recovered('web-1', 'host-a', 0)
    for (const record of t.records) monitors.observe(record)
    expect([...monitors.judged].filter(([, count]) => count > 0)).toEqual([['VM2', 1]])
  })

  test('one trace breaks several rules, each told by its id and in order', () => {
    const told: Violation[] = []
    const monitors = createMonitors({ onViolation: each => told.push(each) })
    const t = new TraceBuilder()
      .lease('host-a', 1)
      .step('web-1', 'host-a', 2)
      .step('web-1', 'host-a', 1)
      .acknowledged('web-1', 'host-a', 2)
      .io('host-a', 'read', 0, [5])
    for (const record of t.records) monitors.observe(record)
    expect(monitors.finish().map(each => each.rule)).toEqual(['VM1', 'VM2', 'IO1'])
    expect(told).toEqual(monitors.violations)
  })

  test('a flood of violations of one rule does not crowd out another', () => {
    const monitors = createMonitors()
    const t = new TraceBuilder()
    for (let count = 0; count < 100; count++) t.io('host-a', 'read', count, [9])
    t.acknowledged('web-1', 'host-a', 2)
    for (const record of t.records) monitors.observe(record)
    expect(monitors.found.get('IO1')).toBe(100)
    expect(monitors.violations.filter(each => each.rule === 'IO1').length).toBe(20)
    expect(monitors.violations.at(-1)?.rule).toBe('VM2')
  })

  test('time is the caller’s, so that drifting clocks are seen for what they are', () => {
    const t = new TraceBuilder().lease('host-a', 1).step('web-1', 'host-a', 1)
    const monitors = createMonitors({ rules: ['FEN2'] })
    monitors.observe(t.records[0]!, 0)
    monitors.observe(t.records[1]!, 5000)
    expect(monitors.violations.map(each => each.at)).toEqual([5000])
  })

  test('the same records give the same violations', () => {
    const t = new TraceBuilder().step('web-1', 'host-a', 2).step('web-1', 'host-b', 2).io('host-a', 'read', 0, [5])
    const run = () => {
      const monitors = createMonitors()
      for (const record of t.records) monitors.observe(record)
      return monitors.finish(100)
    }
    expect(run()).toEqual(run())
  })

  test.each([
    ['an id', new TraceBuilder().add('guest.step', { host: 'host-a' }, { epoch: 1, instance: 'i' })],
    [
      'a number',
      new TraceBuilder().add('guest.step', { host: 'host-a', vm: 'web-1' }, { epoch: 'one', instance: 'i' }),
    ],
    ['a string', new TraceBuilder().add('vm.run', { host: 'host-a', vm: 'web-1' }, { epoch: 1, instance: 'i' })],
    ['a truth value', new TraceBuilder().add('guest.recovered', { vm: 'web-1' }, { entry: 1 })],
    ['a list', new TraceBuilder().add('faults.ended', {}, { withinMs: 1, vms: 'web-1' })],
    [
      'whole sectors',
      new TraceBuilder().add(
        'disk.invoke',
        { host: 'h', disk: 'd' },
        { op: 'read', request: 1, offset: 1, length: 512 },
      ),
    ],
    [
      'a checksum for each sector',
      new TraceBuilder().add(
        'disk.invoke',
        { host: 'h', disk: 'd' },
        { op: 'write', request: 1, offset: 0, length: 1024, sectors: [1] },
      ),
    ],
    [
      'a known operation',
      new TraceBuilder().add(
        'disk.invoke',
        { host: 'h', disk: 'd' },
        { op: 'burn', request: 1, offset: 0, length: 512 },
      ),
    ],
    [
      'as many checksums as were read',
      (() => {
        const t = new TraceBuilder()
        const request = t.invoke('host-a', 'read', 0, 2)
        return t.ok(request, 'host-a', [0])
      })(),
    ],
  ])('a record that lacks %s is an error, never skipped', (_name, t) => {
    const monitors = createMonitors()
    const error = thrown(() => {
      for (const record of t.records) monitors.observe(record)
    })
    expect(errorCode(error)).toBe('bad-record')
    expect(String(error)).toMatch(/must carry/)
  })
})
