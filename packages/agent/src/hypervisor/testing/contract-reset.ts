// The contract of a machine with a reset line: its guest begins anew with what its disk has, and the machine is what it was.

import { expect, test } from 'vitest'
import { type ContractBench, consecutive, type Watched } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function resetContract(on: () => ContractBench): void {
  const boots = ({ lines }: Watched) => lines.filter(line => line === 'boot').length
  const reset = ({ machine }: Watched): Promise<void> | undefined => machine.reset?.()

  /** What the guest found when it booted last, and what it has acknowledged since. */
  const lastLife = ({ lines }: Watched) => {
    const life = lines.slice(lines.lastIndexOf('boot'))
    const found = life.map(line => /^recovered (\d+) intact$/.exec(line)?.[1]).find(each => each !== undefined)
    const acks = life.filter(line => line.startsWith('ack ')).map(line => Number(line.slice(4)))
    return { recovered: found === undefined ? null : Number(found), acks }
  }

  test('VM2: reset, the guest boots again, finds every acknowledged entry, and goes on behind', async () => {
    const watched = await on().running(12)
    await on().settle(Promise.resolve(reset(watched)))
    const acknowledged = watched.acks.at(-1) ?? 0
    await on().until('it boots again', () => boots(watched) === 2)
    await on().until('it goes on', () => lastLife(watched).acks.length >= 5)
    const { recovered, acks } = lastLife(watched)
    expect(recovered).toBeGreaterThanOrEqual(acknowledged)
    expect(acks[0]).toBe((recovered ?? 0) + 1)
    expect(consecutive(acks)).toBe(true)
    expect(watched.machine.state).toBe('running')
    expect(watched.events.filter(({ kind }) => kind === 'halted' || kind === 'crashed')).toEqual([])
  })

  test('a request that waits for its storage holds no reset up, and is done before the next life reads behind it', async () => {
    const watched = await on().running()
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    await on().settle(Promise.resolve(reset(watched)))
    await on().pass(300)
    on().disk.go()
    await on().until('it goes on', () => boots(watched) === 2 && lastLife(watched).acks.length >= 5)
    expect(consecutive(lastLife(watched).acks)).toBe(true)
  })

  test('FEN2: reset while it is frozen, the guest begins anew only when it is thawed', async () => {
    const watched = await on().running()
    await on().settle(watched.machine.freeze('test'))
    await on().settle(Promise.resolve(reset(watched)))
    const [said, steps] = [watched.lines.length, on().evidence.length]
    await on().pass(300)
    expect([watched.lines.length, on().evidence.length, watched.machine.state]).toEqual([said, steps, 'frozen'])
    watched.machine.thaw()
    await on().until('it goes on', () => boots(watched) === 2 && lastLife(watched).acks.length >= 5)
  })

  test('reset while it is being sent, the guest that boots is the one that arrives', async () => {
    const source = await on().running()
    const incoming = await on().receive()
    const outgoing = source.machine.send({ downtimeMs: 100, maxRounds: 10, whenDiverging: 'pause' })
    const loading = incoming.load(outgoing.stream)
    await on().settle(Promise.resolve(reset(source)))
    await on().settle(outgoing.converged)
    const released = await on().settle(outgoing.release(async () => null))
    // Once the switch has begun there is nothing to reset here any more.
    expect(await on().failure(Promise.resolve(reset(source)))).not.toBe('no failure')
    expect((await on().settle(loading)).stateChecksum).toBe(released.stateChecksum)
    const target = on().watch(await on().settle(incoming.run(on().commit())))
    await on().until('it goes on', () => target.acks.length >= 5)
    expect(consecutive(target.acks)).toBe(true)
    expect(boots(source) + boots(target)).toBe(2)
  })

  test('a machine that has ended is not reset', async () => {
    const watched = await on().running()
    await on().settle(watched.machine.kill())
    expect(await on().failure(Promise.resolve(reset(watched)))).not.toBe('no failure')
  })
}
