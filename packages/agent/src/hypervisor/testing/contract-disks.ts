// The contract of a machine with several disks: each is the guest's as it was given, and all of them stand still, fail and move with it.

import { expect, test } from 'vitest'
import { type ContractBench, consecutive } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function disksContract(on: () => ContractBench): void {
  test('VM2: a guest’s second disk is its own, is held and fails like the first, and moves with it', async () => {
    const source = await on().createWithTwo()
    source.machine.start()
    await on().until('it acknowledges', () => source.acks.length >= 5)
    expect(on().entriesOnDisk()).toBeGreaterThanOrEqual(5)

    on().disk.failing = 'write'
    await on().pass(1_000)
    const stands = source.acks.length
    await on().pass(1_000)
    expect(source.acks.length).toBe(stands)
    on().disk.failing = null
    await on().until('it goes on', () => source.acks.length >= stands + 5)

    // A request of the second is in flight when the machine is to stop for its switch.
    const incoming = await on().receiveWithTwo()
    const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 10, whenDiverging: 'pause' })
    const loading = incoming.load(outgoing.stream)
    await on().settle(outgoing.converged)
    const released = await on().settle(outgoing.release(async () => on().disk.inFlight + on().spare.inFlight))
    const { stateChecksum, trailer } = await on().settle(loading)
    expect([stateChecksum, trailer]).toEqual([released.stateChecksum, 0])
    const target = on().watch(await on().settle(incoming.run(on().commit())))
    await on().until('it goes on', () => target.acks.length >= 5)
    expect(consecutive([...source.acks, ...target.acks])).toBe(true)

    await on().settle(target.machine.kill())
    const next = await on().createWithTwo()
    next.machine.start()
    await on().until('it goes on again', () => next.acks.length >= 2)
    const recovered = Number(/^recovered (\d+) intact$/.exec(next.lines[1] ?? '')?.[1])
    expect(recovered).toBeGreaterThanOrEqual(target.acks.at(-1) ?? 0)
    expect(on().spare.taken.write).toBe(0)
  })
}
