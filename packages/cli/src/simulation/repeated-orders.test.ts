// Requests that come twice: the process behind the link serves each twice, and whoever asked is answered once.

import '@stellwerk/protocol/messages/all.ts'
import type { Identity, Session } from '@stellwerk/protocol/session.ts'
import { dialSession, listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { Simulation } from '@stellwerk/runtime/sim/simulation.ts'
import { describe, expect, test } from 'vitest'
import { RepeatedOrders } from './repeated-orders.ts'

const AT_B: Address = { network: 'cluster', host: 'b', port: 7000 }
const STOP = { epoch: 1, host: 'b', incarnation: 1 }

/** A session from `a` to `b`, which writes down what it is asked and answers with nothing. */
async function asking(share: number, whose: string) {
  const sim = new Simulation({ seed: 1 })
  const repeated = new RepeatedOrders(new SimRandom('test'))
  if (share > 0) repeated.begin(whose, share)
  const served: string[] = []
  const answers: string[] = []
  const closed: string[] = []
  const identity = (node: string): Identity => ({ cluster: 'c', node, role: 'agent', incarnation: 1, credential: 't' })
  sim.program('server', async env => {
    const admit = () => ({ ok: true }) as const
    await listenSessions(repeated.environment('b', env), AT_B, identity('b'), admit, session => {
      session.onClose(code => void closed.push(code))
      session.onMessage(({ kind, body }, reply) => {
        served.push(kind === 'vm.stop' ? (body as { vm: string }).vm : kind)
        if (reply.wanted) reply.ok({})
      })
    })
  })
  sim.program('client', async env => {
    env.timers.after(5, () => {
      void dialSession(repeated.environment('a', env), AT_B, 'control', identity('a')).then(session => {
        open = session
      })
    })
  })
  let open: Session | undefined
  sim.host('b').spawn('server', 'b/p', null)
  const client = sim.host('a').spawn('client', 'a/p', null)
  await sim.runUntil(() => open !== undefined, 1_000)
  const ask = (kind: string, name: string, body: object) =>
    sim.enter(client, () => {
      void open?.request(kind, body, 5_000).then(
        () => answers.push(name),
        (error: unknown) => answers.push(`${name}: ${String(error)}`),
      )
    })
  const stop = (vm: string) => ask('vm.stop', vm, { ...STOP, vm, graceMs: 0 })
  return { sim, repeated, served, answers, closed, stop, ask }
}

describe('a request', () => {
  test.each(['a', 'b'])('comes twice on the links of host %s, and its sender hears one answer', async whose => {
    const { sim, repeated, served, answers, closed, stop } = await asking(1, whose)
    const names = Array.from({ length: 20 }, (_, i) => `vm-${i}`)
    for (const [i, name] of names.entries()) sim.after(i * 50, () => stop(name))
    await sim.runFor(5_000)
    expect(repeated.repeated).toBe(20)
    expect(served.length).toBe(40)
    expect(new Set(served)).toEqual(new Set(names))
    // Later ones of others came between.
    expect(served.slice(0, 2)).toEqual(['vm-0', 'vm-1'])
    expect([...answers].sort()).toEqual([...names].sort())
    expect(closed).toEqual([])
  })

  test('comes once when the fault is over, on the same link, whose numbers go on', async () => {
    const { sim, repeated, served, answers, closed, stop } = await asking(1, 'a')
    stop('one')
    await sim.runFor(2_000)
    repeated.end('a')
    stop('two')
    await sim.runFor(2_000)
    expect(served).toEqual(['one', 'one', 'two'])
    expect(answers).toEqual(['one', 'two'])
    expect(closed).toEqual([])
  })

  test('that no sender repeats comes once', async () => {
    const { sim, served, answers, ask } = await asking(1, 'a')
    ask('vm.input', 'input', { ...STOP, vm: 'v', line: 'status' })
    await sim.runFor(2_000)
    expect(served).toEqual(['vm.input'])
    expect(answers).toEqual(['input'])
  })

  test('comes once on links of hosts that the fault spares', async () => {
    const { sim, served, answers, stop } = await asking(1, 'c')
    stop('one')
    await sim.runFor(2_000)
    expect(served).toEqual(['one'])
    expect(answers).toEqual(['one'])
  })
})
