// The contract of a machine with a serial port: what it sends is told byte for byte, each byte once, and what is typed is read.

import { expect, test } from 'vitest'
import { type ContractBench, consecutive, type Watched } from './contract-bench.ts'

/** `on`: the bench of the test that runs. */
export function terminalContract(on: () => ContractBench): void {
  const type = ({ machine }: Watched, keys: string) => machine.port?.type(Buffer.from(keys))
  const sent = (...watched: Watched[]) =>
    Buffer.concat(
      watched.flatMap(({ events }) => events.flatMap(event => (event.kind === 'output' ? [event.bytes] : []))),
    ).toString()
  /** The machine's own, wherever it moves, and of its port one byte behind the other. */
  const lives = (...watched: Watched[]) => {
    const ats = new Map<string, number>()
    for (const event of watched.flatMap(({ events }) => events)) {
      if (event.kind !== 'output') continue
      const { life, at } = event.port
      expect(at - event.bytes.length).toBe(ats.get(life) ?? 0)
      ats.set(life, at)
    }
    return [...ats.keys()]
  }
  /** The last one has no end yet. */
  const linesOf = (text: string) => text.split(/\r?\n/).slice(0, -1)

  test('what is typed key by key is read, and all that is sent is told before the lines of it', async () => {
    const watched = await on().running()
    for (const key of 'status\n') {
      type(watched, key)
      await on().pass(5)
    }
    await on().until('it answers', () => watched.lines.some(line => line.startsWith('status entries ')))
    const lines = linesOf(sent(watched))
    expect(lines).toEqual(watched.lines)
  })

  test('over moves each byte is told once, in order, wherever it goes on', async () => {
    const all = [await on().running(5, 'heavy')]
    for (let n = 0; n < 2; n += 1) {
      const [source, incoming] = [all.at(-1)!, await on().receive('heavy')]
      all.push(await on().move(source, incoming))
      await on().until('it goes on there', () => all.at(-1)!.acks.length >= 5)
      await on().settle(source.machine.kill())
    }
    const lines = linesOf(sent(...all))
    expect(lines).toEqual(all.flatMap(each => each.lines))
    expect(lives(...all)).toEqual([all[0]?.machine.port?.life])
    // Who looks at it where it has come to sees what stood there.
    const stood = all
      .slice(1)
      .map(({ events }) => events.find(event => event.kind === 'output' && event.bytes.length === 0))
    for (const event of stood) {
      const recent = event?.kind === 'output' ? Buffer.from(event.port.recent).toString() : ''
      expect([recent.length > 0, sent(...all).includes(recent)]).toEqual([true, true])
    }
    expect(consecutive(all.flatMap(({ acks }) => acks))).toBe(true)
  })

  test('MIG2: after a switch that was aborted, too', async () => {
    const source = await on().running(5, 'heavy')
    const incoming = await on().receive('heavy')
    const { outgoing, loading } = await on().sending(source, incoming)
    await on().settle(outgoing.release(async () => null))
    await on().settle(loading)
    await on().settle(outgoing.abort())
    await on().settle(incoming.discard())
    const acknowledged = source.acks.length
    await on().until('it goes on', () => source.acks.length >= acknowledged + 5)
    const lines = linesOf(sent(source))
    expect(lines).toEqual(source.lines)
    expect(consecutive(source.acks)).toBe(true)
  })

  test('from the order to switch on nothing is typed that the guest might not take with it', async () => {
    const source = await on().running(5, 'heavy')
    const incoming = await on().receive('heavy')
    const { outgoing, loading } = await on().sending(source, incoming)
    const released = outgoing.release(async () => null)
    for (const typed of [() => type(source, 's'), () => source.machine.input('status')]) {
      expect(typed).toThrow(expect.objectContaining({ code: 'migrating' }))
    }
    await on().settle(released)
    await on().settle(loading)
    const target = on().watch(await on().settle(incoming.run(on().commit())))
    await on().settle(source.machine.kill())
    expect(() => type(source, 's')).toThrow(expect.objectContaining({ code: 'not-running' }))
    type(target, 'status\n')
    await on().until('it answers', () => target.lines.some(line => line.startsWith('status entries ')))
  })

  test('VM1: without a right nothing that is sent is told', async () => {
    const watched = await on().running(5, 'heavy')
    on().allowed = false
    const told = sent(watched)
    await on().pass(300)
    expect(sent(watched)).toBe(told)
    on().allowed = true
    watched.machine.thaw()
    await on().until('it goes on', () => sent(watched).length > told.length)
  })

  test('a guest that stands still is typed so much and no more, and reads it when it goes on', async () => {
    const watched = await on().running()
    await on().settle(watched.machine.freeze('test'))
    type(watched, 'status\n')
    const busy = expect.objectContaining({ code: 'console-busy' })
    expect(() => {
      for (let n = 0; n < 1_000; n += 1) type(watched, `${' '.repeat(4_095)}\n`)
    }).toThrow(busy)
    expect(() => watched.machine.input('x'.repeat(4_096))).toThrow(busy)
    watched.machine.thaw()
    await on().until('it answers', () => watched.lines.some(line => line.startsWith('status entries ')))
  })
}
