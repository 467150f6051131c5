// The contract of a machine whose hypervisor reports what happens to it: each report is told on, in the order in which it came, and
// before what follows from it.

import { expect, test } from 'vitest'
import type { MachineEvent } from '../hypervisor.ts'
import type { ContractBench } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function noticesContract(on: () => ContractBench): void {
  const names = (events: readonly MachineEvent[]) =>
    events.flatMap(each => (each.kind === 'notice' ? [each.event] : []))
  const ofKind = (events: readonly MachineEvent[], name: string) =>
    events.flatMap(each => (each.kind === 'notice' && each.event === name ? [each.data] : []))
  /** Each of them is there, behind the one before. */
  const inOrder = (all: readonly string[], wanted: readonly string[]): boolean => {
    let at = -1
    return wanted.every(name => {
      at = all.indexOf(name, at + 1)
      return at >= 0
    })
  }

  test('its life is told in its hypervisor’s own words, its end before what it comes to', async () => {
    const { machine, acks, events } = await on().running()
    await on().settle(machine.freeze('test'))
    machine.thaw()
    on().disk.failing = 'write'
    await on().until('a request fails', () => names(events).includes('BLOCK_IO_ERROR'))
    on().disk.failing = null
    const acknowledged = acks.length
    await on().until('it goes on', () => acks.length > acknowledged)
    machine.input('crash')
    await on().until('it crashed', () => events.some(event => event.kind === 'crashed'))
    expect(names(events)).toSatisfy((all: string[]) => inOrder(all, ['RESUME', 'STOP', 'RESUME', 'BLOCK_IO_ERROR']))
    expect(ofKind(events, 'BLOCK_IO_ERROR')[0]).toMatchObject({ operation: 'write', action: 'stop' })
    const told = events.map(event => (event.kind === 'notice' ? event.event : event.kind))
    expect(told.indexOf('GUEST_PANICKED')).toBeGreaterThan(0)
    expect(told.indexOf('GUEST_PANICKED')).toBeLessThan(told.indexOf('crashed'))
  })

  test('a migration is told on both sides, and the power button and what came of it', async () => {
    const source = await on().running()
    const target = await on().move(source, await on().receive())
    await on().until('it goes on', () => target.acks.length >= 2)
    const steps = (events: readonly MachineEvent[]) => ofKind(events, 'MIGRATION').map(({ status }) => String(status))
    expect(steps(source.events)).toSatisfy((all: string[]) => inOrder(all, ['active', 'pre-switchover', 'completed']))
    // What was said before anybody listened is not lost.
    expect(steps(target.events)).toSatisfy((all: string[]) => inOrder(all, ['active', 'completed']))
    expect(names(source.events)).toContain('MIGRATION_PASS')
    target.machine.shutdown()
    await on().until('it halted', () => target.events.some(event => event.kind === 'halted'))
    expect(names(target.events)).toContain('POWERDOWN')
    expect(ofKind(target.events, 'SHUTDOWN')).toMatchObject([{ guest: true, reason: 'guest-shutdown' }])
  })
}
