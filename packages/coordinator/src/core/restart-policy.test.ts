import { describe, expect, it } from 'vitest'
import { vmView } from '../view/vms.ts'
import { whyOf } from '../view/why.ts'
import type { RestartPolicy } from './restart-policy.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']

function cluster(restart: Partial<RestartPolicy> = {}): Bench {
  const bench = Bench.cluster()
  const answer = bench.command({
    kind: 'vm-create',
    name: 'db',
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
    disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }],
    start: true,
    priority: 0,
    host: null,
    restart,
  })
  expect(answer.refused).toBeUndefined()
  bench.round(4)
  return bench
}

const vm = (bench: Bench) => bench.state.vms.get('db')!

/** Its host reports that nothing of it is left; the rounds until it is placed again, at most `rounds`. */
function ends(bench: Bench, state: 'crashed' | 'failed', rounds = 60): number {
  const { host, epoch } = bench.placement('db')!
  const machines = bench.hosts.get(host)!
  machines.machines = machines.machines.map(m => (m.vm === 'db' ? { ...m, state, why: 'as the test wants' } : m))
  for (let i = 1; i <= rounds; i++) {
    bench.round()
    if ((bench.placement('db')?.epoch ?? epoch) > epoch) {
      bench.round(2)
      return i
    }
  }
  return Number.POSITIVE_INFINITY
}

function loseHost(bench: Bench): string {
  const name = bench.placement('db')!.host
  const host = bench.hosts.get(name)!
  const { incarnation } = host
  host.beating = false
  bench.input({ kind: 'agent-down', host: name, incarnation })
  bench.ask(request => ({ kind: 'attest', request, host: name, incarnation }))
  bench.round(2)
  bench.join(name, incarnation + 1)
  bench.round(6)
  return name
}

describe('a machine that crashes', () => {
  it('is started in place again, after a backoff that doubles up to its bound', () => {
    const bench = cluster({ backoffMs: 1_000, backoffMaxMs: 4_000 })
    const { host } = bench.placement('db')!
    const rounds = [1, 2, 3, 4].map(() => ends(bench, 'crashed'))
    expect(rounds).toEqual([3, 5, 9, 9])
    expect(bench.placement('db')).toMatchObject({ host, phase: 'running' })
  })

  it('is given up when it crashes more often than it may be restarted, and says so everywhere, until it is started', () => {
    const bench = cluster({ maxRestarts: 2, backoffMs: 10, backoffMaxMs: 10 })
    ends(bench, 'crashed')
    ends(bench, 'crashed')
    expect(ends(bench, 'crashed', 100)).toBe(Number.POSITIVE_INFINITY)
    expect(vm(bench)).toMatchObject({ desired: 'running', placement: null, gaveUp: expect.stringContaining('3 times') })
    const view = vmView(bench.state, vm(bench), bench.now)
    expect(view).toMatchObject({ state: 'failed', whyNot: expect.stringContaining('stellwerk vm start db') })
    expect(whyOf(bench.state, 'vm', 'db', [], bench.now)?.now.join(' ')).toContain('it crashed 3 times')
    expect(bench.kindsTraced()).toContain('decision.vm-given-up')
    bench.restart()
    bench.round(20)
    expect(bench.placement('db')).toBeNull()
    expect(bench.command({ kind: 'vm-start', name: 'db', host: null }).body).toEqual({ vm: 'db' })
    bench.round(4)
    expect(bench.placement('db')?.phase).toBe('running')
    expect(vm(bench)).toMatchObject({ crashes: [], gaveUp: null })
  })

  it('that was given up can be stopped, and is then stopped', () => {
    const bench = cluster({ maxRestarts: 0 })
    ends(bench, 'crashed', 10)
    expect(vm(bench).gaveUp).not.toBeNull()
    bench.command({ kind: 'vm-stop', name: 'db' })
    bench.round(2)
    expect(vmView(bench.state, vm(bench), bench.now).state).toBe('stopped')
  })

  it('is not given up for crashes that lie further apart than the window', () => {
    const bench = cluster({ maxRestarts: 1, windowMs: 30_000, backoffMs: 10, backoffMaxMs: 10 })
    for (let i = 0; i < 5; i++) {
      expect(ends(bench, 'crashed')).toBeLessThan(10)
      bench.round(70)
    }
    expect(vm(bench).crashes.length).toBeLessThanOrEqual(1)
  })
})

describe('what happens to its hosts is not held against its restarts', () => {
  it('a VM outlives any number of lost hosts by default', () => {
    const bench = cluster({ maxRestarts: 0 })
    for (let i = 0; i < 20; i++) {
      loseHost(bench)
      expect(bench.placement('db')?.phase).toBe('running')
    }
    expect(vm(bench)).toMatchObject({ crashes: [], relocations: [], gaveUp: null })
  })

  it('a host that cannot run it is left for another, and nothing is counted as a crash', () => {
    const bench = cluster({ maxRestarts: 0 })
    const { host } = bench.placement('db')!
    ends(bench, 'failed')
    expect(bench.placement('db')?.host).not.toBe(host)
    expect(vm(bench)).toMatchObject({ crashes: [], gaveUp: null })
  })

  it('where no other host fits, a host that could not run it is tried again', () => {
    const bench = cluster()
    const { host } = bench.placement('db')!
    for (const name of HOSTS) if (name !== host) bench.hosts.get(name)!.storages = []
    bench.round(2)
    expect(ends(bench, 'failed')).toBeLessThan(20)
    expect(bench.placement('db')?.host).toBe(host)
  })

  it('relocations may be bounded: then it is given up when its host is lost for good', () => {
    const bench = cluster({ maxRelocations: 1 })
    const first = loseHost(bench)
    expect(bench.placement('db')?.host).not.toBe(first)
    expect(vm(bench).relocations).toHaveLength(1)
    const { host } = bench.placement('db')!
    bench.hosts.get(host)!.beating = false
    bench.round(40)
    expect(vm(bench)).toMatchObject({ placement: null, gaveUp: expect.stringContaining(`its host ${host} was lost`) })
    expect(bench.command({ kind: 'vm-start', name: 'db', host: null }).refused).toBeUndefined()
    bench.round(4)
    expect(bench.placement('db')?.phase).toBe('running')
  })

  it('a VM that may not be relocated is started on its host, if that could not run it for a while', () => {
    const bench = cluster({ maxRelocations: 0 })
    const { host } = bench.placement('db')!
    ends(bench, 'failed')
    expect(bench.placement('db')).toMatchObject({ host, phase: 'running' })
  })
})

it('a policy that contradicts itself is refused', () => {
  const bench = Bench.cluster()
  const create = (restart: Partial<RestartPolicy>) =>
    bench.command({
      kind: 'vm-create',
      name: 'odd',
      spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
      disks: [],
      start: false,
      priority: 0,
      host: null,
      restart,
    })
  expect(create({ backoffMs: 60_000 })).toMatchObject({ refused: 'bad-policy' })
  expect(create({ backoffMs: 60_000, backoffMaxMs: 60_000 }).body).toEqual({ vm: 'odd' })
})
