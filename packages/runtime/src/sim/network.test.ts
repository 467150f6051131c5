// Links and byte streams between simulated hosts, and the faults between them.

import { describe, expect, test } from 'vitest'
import type { Address, Link } from '../environment.ts'
import { errorCode } from '../errors.ts'
import { Simulation, type SimulationOptions } from './simulation.ts'
import { bytes, filled, run, sleep, text } from './test-support.ts'

const AT_B: Address = { network: 'cluster', host: 'b', port: 7000 }

/** A link from `a/client` to `b/server`, and what each side saw. */
async function linked(options: Partial<SimulationOptions> = {}) {
  const sim = new Simulation({ seed: 1, ...options })
  const seen = { server: [] as string[], client: [] as string[] }
  const ends: { near?: Link; far?: Link } = {}
  const log = (side: 'server' | 'client') => (link: Link) => {
    link.onFrame(frame => void seen[side].push(text(frame)))
    link.onClose(code => void seen[side].push(`closed ${code}`))
  }
  const server = run(sim, 'b/server', async env => {
    await env.network.listen(AT_B, link => {
      ends.far = link
      log('server')(link)
    })
  })
  const client = run(sim, 'a/client', async env => {
    await sleep(env, 5)
    ends.near = await env.network.dial(AT_B, 'control')
    log('client')(ends.near)
  })
  expect(await sim.runUntil(() => ends.near !== undefined, 100)).toBe(true)
  const near = ends.near as unknown as Link
  const far = ends.far as unknown as Link
  const say = (...words: string[]) => sim.after(0, () => near.trySend(words.map(bytes)))
  return { sim, seen, near, far, server, client, say }
}

describe('links', () => {
  test('carry whole frames in order, both ways, and close in order', async () => {
    const { sim, seen, near, far, say } = await linked()
    for (let i = 0; i < 50; i++) say(`a${i}`, `b${i}`)
    sim.after(0, () => far.trySend([bytes('hello')]))
    sim.after(0, () => near.close('done', 'enough'))
    await sim.runFor(100)
    expect(seen.server).toEqual([...Array.from({ length: 50 }, (_, i) => [`a${i}`, `b${i}`]).flat(), 'closed done'])
    expect(seen.client).toEqual([])
    expect(sim.network.connectionCount).toBe(0)
  })

  test('give credit back only for what was consumed', async () => {
    const { sim, near, far } = await linked()
    let consumed = 0
    let credit = 0
    far.onFrame(() => new Promise<void>(resolve => sim.after(100, () => resolve(void consumed++))))
    near.onCredit(() => credit++)
    const frame = new Uint8Array(512 * 1024)
    let sent = 0
    while (near.trySend([frame])) sent++
    expect(sent).toBe(7)
    await sim.runFor(50)
    expect([near.trySend([frame]), credit]).toEqual([false, 0])
    await sim.runFor(100)
    expect([near.trySend([frame]), credit, consumed]).toEqual([true, 1, 7])
  })

  test('a receiver gets bytes of its own', async () => {
    const { sim, near, far } = await linked()
    const frame = bytes('original')
    far.onFrame(received => void received.fill(0))
    near.trySend([frame])
    await sim.runFor(10)
    expect(text(frame)).toBe('original')
  })

  test('break at the peer when a process is killed', async () => {
    const { sim, seen, server, say } = await linked()
    say('before')
    await sim.runFor(10)
    server.kill()
    await sim.runFor(10)
    expect(seen).toEqual({ server: ['before'], client: ['closed lost'] })
  })

  test('are lost by keepalive to a process that stays paused, which learns it when it wakes', async () => {
    const { sim, seen, server, say } = await linked()
    server.pause()
    say('while paused')
    await sim.runFor(7000)
    expect(seen.client).toEqual([])
    await sim.runFor(4000)
    expect(seen.client).toEqual(['closed lost'])
    server.resume()
    await sim.runFor(10)
    expect(seen.server).toEqual(['while paused', 'closed lost'])
  })

  test('survive a pause shorter than the keepalive', async () => {
    const { sim, seen, server, say } = await linked()
    server.pause()
    say('early')
    await sim.runFor(5000)
    server.resume()
    await sim.runFor(10_000)
    say('late')
    await sim.runFor(10)
    expect(seen).toEqual({ server: ['early', 'late'], client: [] })
  })
})

describe('dialling', () => {
  const dialCodes = async (prepare: (sim: Simulation) => void, untilMs = 20_000) => {
    const sim = new Simulation({ seed: 1 })
    const results: [string, number][] = []
    sim.host('b')
    run(sim, 'b/server', env => void env.network.listen(AT_B, link => link.onFrame(() => undefined)))
    await sim.runFor(10)
    prepare(sim)
    run(sim, 'a/client', async env => {
      const began = env.clock.now()
      const result = await env.network.dial(AT_B, 'control').then(() => 'open', errorCode)
      results.push([result, Math.round(env.clock.now() - began)])
    })
    await sim.runFor(untilMs)
    return results
  }

  test('where nobody listens is refused at once', async () => {
    expect(await dialCodes(sim => sim.process('b/server')?.kill())).toEqual([['refused', 0]])
  })
  test('into silence is unreachable after the time-out', async () => {
    expect(await dialCodes(sim => sim.host('b').crash())).toEqual([['unreachable', 5000]])
    expect(await dialCodes(sim => void sim.network.cut('b', 'a', { oneWay: true }))).toEqual([['unreachable', 5000]])
  })
  test('to a paused process times out', async () => {
    expect(await dialCodes(sim => sim.process('b/server')?.pause())).toEqual([['unreachable', 5000]])
  })
  test('succeeds late when the cut heals in time', async () => {
    const results = await dialCodes(sim => {
      const cut = sim.network.isolate('b')
      sim.after(2000, () => cut.heal())
    })
    expect(results).toEqual([['open', 3000]])
  })
  test('is refused by a rule', async () => {
    expect(await dialCodes(sim => void sim.network.refuseDials({ to: 'b', class: 'control' }))).toEqual([
      ['refused', 0],
    ])
    expect(await dialCodes(sim => void sim.network.refuseDials({ to: 'b', class: 'bulk' }))).toEqual([['open', 0]])
  })
  test('fails at once when the own interface is down', async () => {
    expect(await dialCodes(sim => void sim.network.interfaceDown('a', 'cluster'))).toEqual([['unreachable', 0]])
    expect(await dialCodes(sim => void sim.network.interfaceDown('a', 'fabric-0'))).toEqual([['open', 0]])
  })

  test('an address is taken once, only at the own host, and free again after close', async () => {
    const sim = new Simulation({ seed: 1 })
    const codes: string[] = []
    run(sim, 'b/p', async env => {
      const listen = (address: Address) =>
        env.network
          .listen(address, () => undefined)
          .then(listener => {
            codes.push(listener.address.port > 0 ? 'ok' : 'no port')
            return listener
          })
      const first = await listen(AT_B)
      await listen(AT_B).catch(error => codes.push(errorCode(error)))
      await listen({ ...AT_B, host: 'a' }).catch(error => codes.push(errorCode(error)))
      await listen({ ...AT_B, port: 0 })
      await first.close()
      await listen(AT_B)
    })
    await sim.runFor(100)
    expect(codes).toEqual(['ok', 'address-in-use', 'address-not-available', 'ok', 'ok'])
  })
})

describe('faults', () => {
  test('a cut hides the other side until keepalive breaks both ends', async () => {
    const { sim, seen, say } = await linked()
    sim.network.cut('a', 'b')
    say('into the void')
    await sim.runFor(7000)
    expect(seen).toEqual({ server: [], client: [] })
    await sim.runFor(4000)
    expect(seen).toEqual({ server: ['closed lost'], client: ['closed lost'] })
  })

  test('what a cut held arrives when it heals before the keepalive', async () => {
    const { sim, seen, say } = await linked()
    const cut = sim.network.cut('a', 'b')
    say('one')
    await sim.runFor(3000)
    say('two')
    cut.heal()
    await sim.runFor(1000)
    say('three')
    await sim.runFor(20_000)
    expect(seen).toEqual({ server: ['one', 'two', 'three'], client: [] })
  })

  test('a one-way cut stops one direction only, and both ends notice', async () => {
    const { sim, seen, far, say } = await linked()
    sim.network.cut('a', 'b', { oneWay: true })
    say('unheard')
    far.trySend([bytes('heard')])
    await sim.runFor(1000)
    expect(seen).toEqual({ server: [], client: ['heard'] })
    await sim.runFor(10_000)
    expect(seen).toEqual({ server: ['closed lost'], client: ['heard', 'closed lost'] })
  })

  test('a fault of one network or class leaves the others alone', async () => {
    const { sim, seen, say } = await linked()
    sim.network.cut('a', 'b', { network: ['fabric-0', 'fabric-1'] })
    sim.network.isolate('a', { class: 'bulk' })
    say('through')
    await sim.runFor(20_000)
    expect(seen.server).toEqual(['through'])
  })

  test('overlapping groups make a bridge: only who shares a group is reached', () => {
    const sim = new Simulation({ seed: 1 })
    for (const name of ['a', 'b', 'c', 'd', 'e']) sim.host(name)
    sim.network.partition([
      ['a', 'b', 'c'],
      ['c', 'd', 'e'],
    ])
    const reached = (from: string, to: string) =>
      sim.network.path({ network: 'cluster', from, to, class: 'control', fromProcess: '', toProcess: '', port: 1 })
        .state
    expect(reached('a', 'b')).toBe('open')
    expect(reached('a', 'd')).toBe('silent')
    expect(reached('c', 'd')).toBe('open')
    expect(reached('e', 'c')).toBe('open')
  })

  test('a clog holds longer than the keepalive and then releases everything', async () => {
    const { sim, seen, say } = await linked()
    const clog = sim.network.clog({ from: 'a', to: 'b' })
    say('1', '2')
    await sim.runFor(30_000)
    expect(seen).toEqual({ server: [], client: [] })
    clog.heal()
    await sim.runFor(1000)
    expect(seen).toEqual({ server: ['1', '2'], client: [] })
  })

  test('a stranded connection is given up by who dialled, and brings what it had behind what its successor brings', async () => {
    const { sim, seen, say, client } = await linked()
    const stranded = sim.network.strand({ from: 'a', bothWays: true, class: 'control' }, 500)
    say('old')
    await sim.runFor(1000)
    expect(seen).toEqual({ server: [], client: ['closed lost'] })
    sim.enter(client, () => void client.env.network.dial(AT_B, 'control').then(link => link.trySend([bytes('new')])))
    await sim.runFor(1000)
    expect(seen.server).toEqual(['new'])
    stranded.heal()
    await sim.runFor(1000)
    expect(seen.server).toEqual(['new', 'old', 'closed lost'])
  })

  test('a slow network delays, and bandwidth takes its time', async () => {
    const { sim, seen, say, near } = await linked()
    const slow = sim.network.slow({ from: 'a', to: 'b' }, { delayMs: 1000 })
    say('late')
    await sim.runFor(990)
    expect(seen.server).toEqual([])
    await sim.runFor(20)
    expect(seen.server).toEqual(['late'])
    slow.heal()
    sim.network.slow({ from: 'a' }, { bytesPerMs: 100 })
    near.trySend([filled(100_000, 65)])
    await sim.runFor(990)
    expect(seen.server.length).toBe(1)
    await sim.runFor(30)
    expect(seen.server.length).toBe(2)
  })

  test('loss is delay by retransmission, keeps the order, and breaks a connection when it is total', async () => {
    const { sim, seen, say } = await linked()
    const loss = sim.network.slow({ from: 'a', to: 'b' }, { loss: 0.3 })
    const words = Array.from({ length: 100 }, (_, i) => String(i))
    words.forEach((word, i) => void sim.after(i * 10, () => say(word)))
    await sim.runFor(1100)
    expect(seen.server.length).toBeLessThan(100)
    await sim.runFor(20_000)
    expect(seen.server).toEqual(words)
    loss.heal()
    sim.network.slow({ from: 'a', to: 'b' }, { loss: 1 })
    say('never')
    await sim.runFor(100)
    expect(seen.client).toEqual(['closed lost'])
  })

  test('a reset lets a random prefix of what is in flight arrive, and never a part of a frame', async () => {
    const prefixes = new Set<number>()
    for (let seed = 0; seed < 30; seed++) {
      const { sim, seen, say } = await linked({ seed })
      for (let i = 0; i < 5; i++) say(String(i))
      await sim.runFor(0)
      expect(sim.network.reset({ from: 'a', to: 'b' })).toBe(1)
      await sim.runFor(10)
      const arrived = seen.server.slice(0, -1)
      expect(seen.server.at(-1)).toBe('closed lost')
      expect(arrived).toEqual(['0', '1', '2', '3', '4'].slice(0, arrived.length))
      expect(seen.client).toEqual(['closed lost'])
      expect(sim.network.connectionCount).toBe(0)
      prefixes.add(arrived.length)
    }
    expect(prefixes.size).toBe(6)
  })

  test('a rule that looks inside can lose exactly one message', async () => {
    const { sim, seen, say } = await linked()
    sim.network.rule({
      to: 'b',
      verdict: cargo => (cargo.bytes.some(part => text(part) === 'finished') ? 'reset' : null),
    })
    say('page')
    await sim.runFor(10)
    say('finished')
    await sim.runFor(10)
    expect(seen).toEqual({ server: ['page', 'closed lost'], client: ['closed lost'] })
  })

  test('a host without power is silent; when it is back, its old connections are reset', async () => {
    const { sim, seen } = await linked()
    sim.host('b').crash()
    await sim.runFor(2000)
    expect(seen.client).toEqual([])
    sim.host('b').powerOn()
    await sim.runFor(4000)
    expect(seen.client).toEqual(['closed lost'])
    expect(sim.network.connectionCount).toBe(0)
  })

  test('a host without power is noticed by keepalive', async () => {
    const { sim, seen } = await linked()
    sim.host('b').crash()
    await sim.runFor(11_000)
    expect(seen.client).toEqual(['closed lost'])
  })

  test('the reset of a killed process does not pass a cut', async () => {
    const { sim, seen, server } = await linked()
    const cut = sim.network.cut('a', 'b')
    server.kill()
    await sim.runFor(3000)
    expect(seen.client).toEqual([])
    cut.heal()
    await sim.runFor(1000)
    expect(seen.client).toEqual(['closed lost'])
  })
})
