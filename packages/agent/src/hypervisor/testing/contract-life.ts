// The contract of a machine's life: boot, run, freeze, lose its right, fail, die.

import { expect, test } from 'vitest'
import { LOG_START, unitOffset } from '../../guests/ledger-format.ts'
import { type ContractBench, consecutive } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function lifeContract(on: () => ContractBench): void {
  test('says what it can do', async () => {
    expect(await on().settle(on().hypervisor.probe())).toMatchObject({ available: true })
  })

  test('a created machine executes nothing before it is started', async () => {
    const { machine, lines } = await on().create()
    await on().pass(200)
    expect(machine.state).toBe('paused')
    expect(lines).toEqual([])
    expect(on().evidence).toEqual([])
  })

  test('a fresh guest boots, finds an empty log, and acknowledges entries in order, each on the disk before', async () => {
    const watched = await on().create()
    const missing: number[] = []
    watched.machine.onEvent(event => {
      if (event.kind !== 'console' || !event.line.startsWith('ack ')) return
      if (on().entriesOnDisk() < Number(event.line.slice(4))) missing.push(Number(event.line.slice(4)))
    })
    watched.machine.start()
    expect(watched.machine.state).toBe('running')
    await on().until('ten entries', () => watched.acks.length >= 10)
    expect(watched.lines.slice(0, 2)).toEqual(['boot', 'recovered 0 intact'])
    expect(watched.acks[0]).toBe(1)
    expect(consecutive(watched.acks)).toBe(true)
    expect(missing).toEqual([])
    expect(on().evidence[0]).toMatchObject({
      level: 'io',
      kind: 'guest.step',
      vm: 'vm-1',
      body: { epoch: 3, instance: 'i-1' },
    })
  })

  test('a frozen guest executes nothing until it is thawed, then goes on', async () => {
    const { machine, lines, acks } = await on().running()
    await on().settle(machine.freeze('test'))
    expect(machine.state).toBe('frozen')
    const [said, steps] = [lines.length, on().evidence.length]
    await on().pass(300)
    expect([lines.length, on().evidence.length]).toEqual([said, steps])
    machine.thaw()
    expect(machine.state).toBe('running')
    await on().until('more entries', () => acks.length >= 15)
    expect(consecutive(acks)).toBe(true)
    expect(lines.filter(line => line === 'boot')).toHaveLength(1)
  })

  test('a completion that arrives while frozen is heard of only after the thaw', async () => {
    const { machine, acks } = await on().running()
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    await on().settle(machine.freeze('test'))
    const said = acks.length
    on().disk.go()
    await on().until('the disk is done', () => on().disk.inFlight === 0)
    await on().pass(100)
    expect(acks.length).toBe(said)
    machine.thaw()
    await on().until('it is acknowledged', () => acks.length > said)
    expect(consecutive(acks)).toBe(true)
  })

  test('FEN2: without the right to execute there is no step and no word, until a thaw with the right', async () => {
    const { machine, lines, acks, events } = await on().running()
    on().allowed = false
    await on().until('it froze by itself', () => events.some(event => event.kind === 'frozen'))
    expect(machine.state).toBe('frozen')
    const [said, steps] = [lines.length, on().evidence.length]
    await on().pass(300)
    expect([lines.length, on().evidence.length]).toEqual([said, steps])
    on().allowed = true
    await on().pass(100)
    expect(lines.length).toBe(said)
    machine.thaw()
    await on().until('it goes on', () => acks.length >= 15)
    expect(consecutive(acks)).toBe(true)
  })

  test('FEN2: a machine started without the right says nothing and touches no disk', async () => {
    on().allowed = false
    const { machine, lines } = await on().create()
    machine.start()
    await on().until('it froze by itself', () => machine.state === 'frozen')
    await on().pass(100)
    expect(lines).toEqual([])
    expect(on().evidence).toEqual([])
    expect(on().disk.taken).toMatchObject({ read: 0, write: 0 })
  })

  test('kill waits for requests in flight; nothing is said or written after', async () => {
    const { machine, lines } = await on().running()
    on().disk.hold()
    await on().until('a request is in flight', () => on().disk.inFlight > 0)
    let dead = false
    const killed = machine.kill().then(proof => {
      dead = true
      return proof
    })
    await on().pass(100)
    expect(machine.state).toBe('dead')
    expect(dead).toBe(false)
    const said = lines.length
    on().disk.go()
    expect(await on().settle(killed)).toEqual({ vm: 'vm-1' })
    expect(on().disk.inFlight).toBe(0)
    const { write } = on().disk.taken
    await on().pass(200)
    expect(lines.length).toBe(said)
    expect(on().disk.taken.write).toBe(write)
    expect(await on().settle(machine.kill())).toEqual({ vm: 'vm-1' })
  })

  test('VM2: after a kill the next life finds every acknowledged entry and continues behind', async () => {
    const first = await on().running(12)
    await on().settle(first.machine.kill())
    const last = first.acks.at(-1)!
    const second = await on().create()
    second.machine.start()
    await on().until('it goes on', () => second.acks.length >= 3)
    const recovered = /^recovered (\d+) intact$/.exec(second.lines[1] ?? '')
    expect(Number(recovered?.[1])).toBeGreaterThanOrEqual(last)
    expect(second.acks[0]).toBe(Number(recovered?.[1]) + 1)
  })

  test('a lost entry is found at boot', async () => {
    const first = await on().running(12)
    await on().settle(first.machine.kill())
    on().disk.bytes.fill(0, LOG_START + unitOffset(8) * 512, LOG_START + (unitOffset(8) + 1) * 512)
    const second = await on().create()
    second.machine.start()
    await on().until('it has recovered', () => second.lines.length >= 2)
    expect(second.lines[1]).toMatch(/^recovered 7 damaged /)
  })

  test('an entry torn by the death of its writer is no damage', async () => {
    const first = await on().running(12)
    await on().settle(first.machine.kill())
    // Number 9 has two sectors: the first of them is there, everything behind is not.
    on().disk.bytes.fill(0, LOG_START + (unitOffset(9) + 1) * 512)
    const second = await on().create()
    second.machine.start()
    await on().until('it goes on', () => second.acks.length >= 3)
    expect(second.lines[1]).toBe('recovered 8 intact')
    expect(second.acks[0]).toBe(9)
  })

  test('a failed write is tried again until it succeeds, and acknowledged once', async () => {
    const { lines, acks } = await on().running()
    on().disk.failing = 'write'
    if (on().hidesDiskErrors) {
      const said = acks.length
      await on().pass(1_000)
      expect(acks.length - said).toBeLessThanOrEqual(1)
    } else await on().until('it complains', () => lines.some(line => line.startsWith('disk error')))
    on().disk.failing = null
    await on().until('it goes on', () => acks.length >= 15)
    expect(consecutive(acks)).toBe(true)
    if (on().hidesDiskErrors) expect(lines.filter(line => line.startsWith('disk error'))).toEqual([])
    expect(on().entriesOnDisk()).toBeGreaterThanOrEqual(15)
  })

  test('answers on its console', async () => {
    const { machine, lines } = await on().running()
    machine.input('status')
    await on().until('it answers', () => lines.some(line => line.startsWith('status entries ')))
  })

  test('a guest that ends by itself is dead and says why', async () => {
    const { machine, events } = await on().running()
    machine.input('halt')
    await on().until('it halted', () => events.some(event => event.kind === 'halted'))
    expect(machine.state).toBe('dead')
    expect(await on().settle(machine.kill())).toEqual({ vm: 'vm-1' })
  })

  test('a guest that breaks its machine crashes, alone', async () => {
    const { machine, events, lines } = await on().running()
    machine.input('crash')
    await on().until('it crashed', () => events.some(event => event.kind === 'crashed'))
    expect(machine.state).toBe('dead')
    const said = lines.length
    await on().pass(200)
    expect(lines.length).toBe(said)
    await on().settle(machine.kill())
  })
}
