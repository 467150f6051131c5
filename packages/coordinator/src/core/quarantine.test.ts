import { describe, expect, it } from 'vitest'
import { Bench } from './testing.ts'

const HOUR_MS = 3_600_000

/** The agent dies, its guardian says so and starts another, which joins. */
function crashAgent(bench: Bench, name: string): void {
  const host = bench.hosts.get(name)!
  const { incarnation } = host
  host.beating = false
  bench.input({ kind: 'agent-down', host: name, incarnation })
  bench.ask(request => ({ kind: 'attest', request, host: name, incarnation }))
  bench.round(2)
  bench.join(name, incarnation + 1)
  bench.round(6)
}

/** Hours pass in which nothing happens but time. */
function pass(bench: Bench, ms: number): void {
  bench.now += ms
  for (const name of bench.hosts.keys()) bench.beat(name)
  bench.round(2)
}

const quarantined = (bench: Bench) =>
  [...bench.state.hosts.values()].filter(host => host.quarantine !== null).map(host => host.name)

function quarantine(bench: Bench, name: string): void {
  while (!quarantined(bench).includes(name)) crashAgent(bench, name)
}

describe('a host that fails again and again', () => {
  it('is quarantined at its third failure within an hour, whether it had VMs or not', () => {
    const bench = Bench.cluster()
    const victim = bench.placement('web')!.host
    crashAgent(bench, victim)
    expect(bench.placement('web')?.host).not.toBe(victim)
    crashAgent(bench, victim)
    expect(quarantined(bench)).toEqual([])
    crashAgent(bench, victim)
    expect(quarantined(bench)).toEqual([victim])
    expect(bench.kindsTraced()).toContain('decision.quarantine')
  })

  it('one death counts once, though its guardian, a newer agent and silence all tell of it', () => {
    const bench = Bench.cluster()
    const victim = bench.placement('web')!.host
    bench.hosts.get(victim)!.beating = false
    bench.round(12)
    bench.ask(request => ({ kind: 'attest', request, host: victim, incarnation: 1 }))
    bench.join(victim, 2)
    bench.round(6)
    expect(bench.state.hosts.get(victim)).toMatchObject({ phase: 'admitted', failures: [{ incarnation: 1 }] })
  })

  it('silence counts once each time, though nothing ran there to be fenced for', () => {
    const bench = Bench.cluster()
    const idle = ['host-a', 'host-b', 'host-c'].find(name => name !== bench.placement('web')?.host)!
    for (let i = 0; i < 3; i++) {
      bench.hosts.get(idle)!.beating = false
      bench.round(20)
      expect(bench.state.hosts.get(idle)?.failures).toHaveLength(i + 1)
      bench.hosts.get(idle)!.beating = true
      bench.round(2)
    }
    expect(bench.state.hosts.get(idle)).toMatchObject({ phase: 'admitted', epoch: 1 })
    expect(quarantined(bench)).toEqual([idle])
  })

  it('failures more than an hour apart do not add up', () => {
    const bench = Bench.cluster()
    crashAgent(bench, 'host-a')
    crashAgent(bench, 'host-a')
    pass(bench, HOUR_MS)
    crashAgent(bench, 'host-a')
    expect(quarantined(bench)).toEqual([])
    expect(bench.state.hosts.get('host-a')?.failures).toHaveLength(1)
  })

  it('does not get VMs back and forth: they stay on the hosts that stand', () => {
    const bench = Bench.cluster()
    const victim = bench.placement('web')!.host
    quarantine(bench, victim)
    const moves = new Set<string>()
    for (let i = 0; i < 6; i++) {
      crashAgent(bench, victim)
      moves.add(bench.placement('web')!.host)
    }
    expect(moves.size).toBe(1)
    expect(moves).not.toContain(victim)
  })
})

describe('in quarantine', () => {
  it('a host is admitted and leased, its VMs stay, and no VM comes to it', () => {
    const bench = Bench.cluster()
    quarantine(bench, 'host-a')
    quarantine(bench, 'host-b')
    expect(bench.beat('host-a')).toMatchObject({ status: 'admitted', leaseMs: 3000 })
    for (const name of ['db', 'mail']) bench.createVm(name)
    bench.round(4)
    expect([bench.placement('db')?.host, bench.placement('mail')?.host]).toEqual(['host-c', 'host-c'])
    const migrate = (to: string | null) => bench.command({ kind: 'vm-migrate', name: 'db', to, id: `m-${to}` })
    expect(migrate('host-a')).toMatchObject({ refused: 'host-quarantined', hint: expect.stringContaining('resume') })
    expect(migrate(null)).toMatchObject({ refused: 'no-host', message: expect.stringContaining('in quarantine') })
  })

  it('the VM that runs there when it begins is not moved', () => {
    const bench = Bench.cluster()
    const home = bench.placement('web')!.host
    const live = bench.state.hosts.get(home)!
    bench.state.hosts.set(home, { ...live, quarantine: { sinceMs: bench.now, untilMs: bench.now + HOUR_MS, why: 'x' } })
    bench.round(20)
    expect(bench.placement('web')).toMatchObject({ host: home, phase: 'running' })
  })

  it('as a last resort a VM is placed there, and the decision says so', () => {
    const bench = Bench.cluster()
    for (const name of ['host-a', 'host-b', 'host-c']) quarantine(bench, name)
    bench.createVm('db')
    bench.round(4)
    expect(bench.placement('db')).not.toBeNull()
    const decision = bench.traces.findLast(event => event.kind === 'decision.place')?.body
    expect(decision).toMatchObject({ subject: 'db', why: expect.stringContaining('last resort') })
  })

  it('it ends when its time is over, or an operator resumes the host, and then the count begins anew', () => {
    const bench = Bench.cluster()
    quarantine(bench, 'host-a')
    quarantine(bench, 'host-b')
    expect(bench.command({ kind: 'host-resume', name: 'host-b' }).body).toEqual({ host: 'host-b' })
    expect(bench.state.hosts.get('host-b')).toMatchObject({ quarantine: null, failures: [] })
    expect(bench.command({ kind: 'host-resume', name: 'host-b' })).toMatchObject({ refused: 'not-quarantined' })
    expect(bench.command({ kind: 'host-resume', name: 'nobody' })).toMatchObject({ refused: 'unknown-host' })
    pass(bench, 2 * HOUR_MS - 60_000)
    expect(quarantined(bench)).toEqual(['host-a'])
    pass(bench, 60_000)
    expect(quarantined(bench)).toEqual([])
    expect(bench.kindsTraced().filter(kind => kind === 'decision.quarantine-over')).toHaveLength(2)
  })

  it('it outlives the coordinator, and a wall clock set back meanwhile does not make it longer', () => {
    const bench = Bench.cluster()
    quarantine(bench, 'host-a')
    bench.restart()
    expect(quarantined(bench)).toEqual(['host-a'])
    const until = bench.state.hosts.get('host-a')!.quarantine!.untilMs
    bench.now -= 24 * HOUR_MS
    bench.restart()
    expect(bench.state.hosts.get('host-a')?.quarantine?.untilMs).toBe(bench.now + 2 * HOUR_MS)
    expect(until).toBeGreaterThan(bench.now + 2 * HOUR_MS)
  })

  it('the owner of a volume is another host, if there is one', () => {
    const bench = Bench.cluster()
    const owner = bench.state.volumes.get('csv1')!.owner!.host
    const heir = ['host-a', 'host-b', 'host-c'].find(name => name !== owner)!
    quarantine(bench, heir)
    bench.hosts.get(owner)!.beating = false
    bench.input({ kind: 'agent-down', host: owner, incarnation: bench.hosts.get(owner)!.incarnation })
    bench.round(30)
    expect([owner, heir]).not.toContain(bench.state.volumes.get('csv1')?.owner?.host)
  })
})
