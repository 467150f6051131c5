// The contract of a machine that is asked to shut down: its guest ends its work and then itself.

import { expect, test } from 'vitest'
import { type ContractBench, consecutive } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function shutdownContract(on: () => ContractBench): void {
  const halted = (events: readonly { kind: string }[]) => events.some(event => event.kind === 'halted')

  test('asked to shut down, the guest finishes what is under way, begins nothing, and ends by itself', async () => {
    const { machine, lines, acks, events } = await on().running()
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    expect(machine.shutdown()).toBe(true)
    await on().pass(200)
    expect(halted(events)).toBe(false)
    on().disk.go()
    await on().until('it halted', () => halted(events))
    expect(machine.state).toBe('dead')
    expect(lines.at(-1)).toBe(`down after ${acks.at(-1)}`)
    expect(on().entriesOnDisk()).toBe(acks.at(-1))
    expect(consecutive(acks)).toBe(true)
    expect(on().disk.inFlight).toBe(0)
    expect(machine.shutdown()).toBe(false)
    expect(await on().settle(machine.kill())).toEqual({ vm: 'vm-1' })
  })

  test('asked while it is frozen, the guest hears of it when it is thawed', async () => {
    const { machine, events } = await on().running()
    await on().settle(machine.freeze('test'))
    expect(machine.shutdown()).toBe(true)
    await on().pass(200)
    expect([halted(events), machine.state]).toEqual([false, 'frozen'])
    machine.thaw()
    await on().until('it halted', () => halted(events))
  })

  test('asked while its disk fails, the guest does not end before its entry is on the disk', async () => {
    const { machine, lines, acks, events } = await on().running()
    on().disk.failing = 'write'
    if (on().hidesDiskErrors) await on().pass(300)
    else await on().until('it complains', () => lines.some(line => line.startsWith('disk error')))
    machine.shutdown()
    await on().pass(300)
    expect(halted(events)).toBe(false)
    on().disk.failing = null
    await on().until('it halted', () => halted(events))
    expect(on().entriesOnDisk()).toBe(acks.at(-1))
  })

  test('asked before it has booted, the guest ends, and a next life finds its log as it was', async () => {
    const first = await on().create()
    first.machine.shutdown()
    first.machine.start()
    await on().until('it halted', () => halted(first.events))
    await on().settle(first.machine.kill())
    const second = await on().create()
    second.machine.start()
    await on().until('it goes on', () => second.acks.length >= 3)
    // A guest that is deaf while it boots may have written before it heard.
    expect(second.lines[1]).toBe(`recovered ${first.acks.at(-1) ?? 0} intact`)
  })
}
