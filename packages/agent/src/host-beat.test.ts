// Guests that say much of themselves keep no host from being heard.

import type { ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import { expect, it } from 'vitest'
import { withinBudget } from './host-beat.ts'

const guest = (words: number) => ({
  ...{ version: '7.2', hostName: 'tux', os: 'Debian' },
  interfaces: Array.from({ length: words }, () => ({ name: 'x'.repeat(64), mac: null, addresses: ['10.0.0.1'] })),
})
const machine = (n: number, words: number): ReportedMachine => ({
  ...{ vm: `vm-${n}`, epoch: 1, state: 'running', why: null, guest: guest(words) },
})

it('a beat has room for what guests say, and no more, and for every machine', () => {
  const machines = Array.from({ length: 1_000 }, (_, n) => machine(n, n % 2 === 0 ? 1 : 16))
  const told = withinBudget(machines)
  expect(told.map(({ vm }) => vm)).toEqual(machines.map(({ vm }) => vm))
  expect(JSON.stringify(told).length).toBeLessThan(300_000)
  expect(told[0]?.guest).toEqual(guest(1))
  expect(told.at(-2)?.guest).toBeUndefined()
})

it('one that says too much has no words there, and takes nobody else’s room', () => {
  const told = withinBudget([machine(1, 16 * 16), machine(2, 1)])
  expect(told.map(each => each.guest !== undefined)).toEqual([false, true])
})
