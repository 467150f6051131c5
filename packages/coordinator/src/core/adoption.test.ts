// Machines that have outlived their agent: taken over where they are, ended where nobody wants them, waited for where nothing else
// is known (VM1, FEN1).

import { expect, it } from 'vitest'
import { whyOf } from '../view/why.ts'
import { Bench, type BenchHost } from './testing.ts'

const HOST = 'host-a'

/** The agent of the VM's host has died, and its guardian says that the VM's machine lives on. */
function abandoned(holdBack: (key: string) => boolean = () => false) {
  const bench = Bench.cluster()
  bench.holdBack = holdBack
  const before = bench.placement('web')
  expect(before?.host).toBe(HOST)
  const host = bench.hosts.get(HOST) as BenchHost
  host.beating = false
  const attest = (survivors: string[], incarnation = 1) =>
    bench.ask(request => ({ kind: 'attest', request, host: HOST, incarnation, survivors }))
  attest(['web'])
  const record = () => bench.state.hosts.get(HOST)
  const decided = (kind: string) => bench.traces.filter(each => each.kind === `decision.${kind}`)
  /** The next agent, which has found the machine. */
  const next = (incarnation = 2): BenchHost => {
    const fresh = bench.join(HOST, incarnation)
    fresh.survivors = [{ vm: 'web', epoch: before?.epoch ?? 0 }]
    return fresh
  }
  const ordered = (message: string) => bench.orders.filter(each => each.host === HOST && each.message === message)
  return { attest, before, bench, decided, next, ordered, record }
}

it('the next agent takes it over, at a higher placement epoch and at the host’s new one, and it is started nowhere else', () => {
  const { before, bench, decided, next, ordered, record } = abandoned()
  bench.round(2)
  expect(record()).toMatchObject({ phase: 'fenced', fence: { attestedIncarnation: 1, survivors: ['web'] } })
  expect(bench.placement('web')).toEqual(before)
  expect(whyOf(bench.state, 'host', HOST, [], bench.now)?.now.join('\n')).toMatch(
    /web had a machine there that outlived its agent/,
  )
  next()
  bench.round(8)
  expect(record()).toMatchObject({ phase: 'admitted', epoch: 2, fence: null })
  expect(bench.placement('web')).toMatchObject({ host: HOST, hostEpoch: 2, incarnation: 2, phase: 'running' })
  expect(bench.placement('web')?.epoch).toBeGreaterThan(before?.epoch ?? 0)
  expect(ordered('vm.start').at(-1)?.body).toMatchObject({ vm: 'web', adopts: before?.epoch, hostEpoch: 2 })
  expect(decided('adopt')).toHaveLength(1)
  expect([decided('vm-lost'), bench.kindsTraced().includes('failover.start')]).toEqual([[], false])
})

it('it is told to take it over only when what the old epoch had left on its volume is recovered', () => {
  const { before, bench, next, ordered } = abandoned()
  bench.holdBack = key => key.startsWith('recover/')
  next()
  bench.round(4)
  expect(bench.placement('web')).toMatchObject({ host: HOST, phase: 'starting', adopts: before?.epoch })
  expect(ordered('vm.start').filter(({ body }) => (body as { adopts?: number }).adopts)).toEqual([])
  bench.holdBack = () => false
  bench.round(8)
  expect(bench.placement('web')).toMatchObject({ host: HOST, phase: 'running' })
})

it('one that its guardian has ended is started elsewhere at once', () => {
  const { attest, bench } = abandoned()
  bench.round()
  attest([])
  bench.round()
  expect(bench.placement('web')?.host).not.toBe(HOST)
})

it('of one incarnation a word that comes late brings nobody back', () => {
  const { attest, record } = abandoned(key => key.startsWith('fence/'))
  attest([])
  attest(['web'])
  expect(record()?.fence).toMatchObject({ attestedIncarnation: 1 })
  expect(record()?.fence?.survivors).toBeUndefined()
  attest(['web'], 2)
  expect(record()?.fence).toMatchObject({ attestedIncarnation: 2, survivors: ['web'] })
})

it('while nobody says more of it, it is waited for as if nothing had been attested', () => {
  const { before, bench } = abandoned()
  const since = bench.now
  while (bench.placement('web')?.host === HOST) bench.round()
  expect(bench.now - since).toBeGreaterThanOrEqual(3_000)
  expect(bench.placement('web')?.epoch).toBeGreaterThan(before?.epoch ?? 0)
})

it('one that is to be stopped is ended by the next agent, which is admitted after it', () => {
  const { bench, next, ordered, record } = abandoned()
  bench.command({ kind: 'vm-stop', name: 'web' })
  next()
  bench.round(2)
  expect(ordered('vm.stop').at(-1)?.body).toMatchObject({ vm: 'web', incarnation: 2, graceMs: 0 })
  bench.round(3)
  expect([bench.placement('web'), record()?.phase]).toEqual([null, 'admitted'])
})

it('an agent that has not found it reports that it is gone, and it starts elsewhere without a penalty', () => {
  const { before, bench, next } = abandoned()
  bench.holdBack = key => key.startsWith('start/')
  const fresh = next()
  bench.round(3)
  const adopting = bench.placement('web')
  expect(adopting).toMatchObject({ host: HOST, adopts: before?.epoch })
  fresh.survivors = []
  fresh.machines = [{ vm: 'web', epoch: adopting?.epoch ?? 0, state: 'failed', why: 'its machine is not here' }]
  bench.holdBack = () => false
  bench.round(2)
  expect(bench.placement('web')?.host).not.toBe(HOST)
  expect(bench.state.vms.get('web')?.failures).toBe(0)
})

it('VM2: one of an earlier placement is never taken over: another has written to its disks since', () => {
  const { bench, next, ordered, record } = abandoned()
  const fresh = next()
  fresh.survivors = [{ vm: 'web', epoch: (fresh.survivors?.[0]?.epoch ?? 0) - 1 }]
  bench.round(2)
  expect(ordered('vm.stop').at(-1)?.body).toMatchObject({ vm: 'web', incarnation: 2, graceMs: 0 })
  bench.round(6)
  expect(bench.traces.filter(each => each.kind === 'decision.adopt')).toEqual([])
  expect(record()?.phase).toBe('admitted')
})

it('one that nobody wants any more is ended on an admitted host, too', () => {
  const { bench, next, ordered } = abandoned()
  bench.holdBack = key => key.startsWith('start/') || key.startsWith('stop/') || key.startsWith('left/')
  const fresh = next()
  bench.round(8)
  expect(bench.placement('web')).toMatchObject({ host: HOST, phase: 'starting' })
  // Its agent has said that it is stopped, and yet it is there.
  const left = fresh.survivors?.[0]
  bench.command({ kind: 'vm-stop', name: 'web' })
  fresh.machines = [{ vm: 'web', epoch: bench.placement('web')?.epoch ?? 0, state: 'stopped', why: null }]
  bench.round(2)
  expect(bench.placement('web')).toBeNull()
  expect(ordered('vm.stop').at(-1)?.body).toMatchObject({ vm: 'web', epoch: left?.epoch })
})

it('an attestation of those before the agent that has the host now fences nobody', () => {
  const bench = abandoned()
  bench.next()
  bench.bench.round(8)
  expect(bench.record()).toMatchObject({ phase: 'admitted', epoch: 2, givenTo: 2 })
  bench.bench.state.vms.set('web', { ...bench.bench.state.vms.get('web')!, placement: null })
  bench.attest([], 1)
  expect(bench.record()).toMatchObject({ phase: 'admitted', epoch: 2 })
})
