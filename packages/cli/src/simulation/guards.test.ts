// A run in which little happened is found out.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { expect, test } from 'vitest'
import { lacking, type Substance } from './guards.ts'

const FULL: Substance = {
  vms: ['a', 'b', 'c'],
  safetyMs: 120_000,
  acknowledged: new Map([
    ['a', 300],
    ['b', 300],
    ['c', 300],
  ]),
  migrationsAdmitted: 6,
  monitors: { judged: new Map([['VM1', 10]]), givenUp: 0 },
}

test('a run with substance lacks nothing', () => expect(lacking(FULL)).toBe(null))

test('too few migrations', () => expect(lacking({ ...FULL, migrationsAdmitted: 5 })).toMatch(/5 migrations/))

test('a guest that never said anything', () => {
  const acknowledged = new Map([
    ['a', 600],
    ['b', 600],
  ])
  expect(lacking({ ...FULL, acknowledged })).toBe('c never acknowledged an entry')
})

test('too few acknowledged writes', () => {
  const acknowledged = new Map([...FULL.acknowledged].map(([vm]) => [vm, 200]))
  expect(lacking({ ...FULL, acknowledged })).toMatch(/600 entries/)
})

test('a rule that saw nothing, of which a set of monitors without records has many', () => {
  expect(lacking({ ...FULL, monitors: createMonitors() })).toMatch(/VM1 was judged by no record/)
})

test('sectors that could not be judged', () => {
  expect(lacking({ ...FULL, monitors: { ...FULL.monitors, givenUp: 2 } })).toMatch(/2 sectors/)
})
