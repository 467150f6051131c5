import { describe, expect, it } from 'vitest'
import { Bench } from './testing.ts'

describe('admission', () => {
  it('a new host is admitted at epoch 1 and gets leases only then', () => {
    const bench = new Bench()
    bench.holdBack = key => key.startsWith('admit/')
    bench.join('host-a')
    expect(bench.beat('host-a')).toMatchObject({ status: 'wait', leaseMs: 0 })
    bench.answer('admit/host-a/1/san-a', { admitted: 1, fenced: 0 })
    bench.answer('admit/host-a/1/san-b', { admitted: 1, fenced: 0 })
    bench.round()
    expect(bench.beat('host-a')).toMatchObject({ status: 'admitted', epoch: 1, leaseMs: 3000 })
  })

  it('a coordinator with an older state than the cluster admits nobody', () => {
    const bench = new Bench()
    bench.holdBack = key => key === 'admit/host-a/1/san-a'
    bench.join('host-a')
    expect(() => bench.answer('admit/host-a/1/san-a', { admitted: 7, fenced: 6 })).toThrow(
      /storage san-a has seen epoch 7 of host host-a, known here: 1; .*restore/,
    )
    expect(bench.state.hosts.get('host-a')?.phase).toBe('admitting')
  })
})

describe('a host that falls silent (FEN1)', () => {
  it.each([
    ['is deleted', false],
    ['was stopped before it is deleted', true],
  ])('gives a disk back once more that a late word of it has attached, so that its VM can go that %s', (_, stopped) => {
    const bench = Bench.cluster()
    const { host } = bench.placement('web')!
    bench.hosts.get(host)!.beating = false
    if (stopped) {
      // Where it cannot start again it stays lost until then.
      for (const [name, other] of bench.hosts) if (name !== host) other.storages = []
      while (bench.state.vms.get('web')?.lost == null) bench.round()
      bench.command({ kind: 'vm-stop', name: 'web' })
      expect(bench.state.vms.get('web')?.lost).toBeNull()
      for (const other of bench.hosts.values()) other.storages = ['san-a', 'san-b']
      bench.round(4)
      bench.orders.length = 0
    }
    const asked: string[] = []
    bench.holdBack = key => {
      asked.push(key)
      return key.startsWith('disk-delete/')
    }
    bench.command({ kind: 'vm-delete', name: 'web' })
    for (let i = 0; i < 60 && !asked.some(key => key.startsWith('disk-delete/')); i += 1) bench.round()
    const key = asked.find(each => each.startsWith('disk-delete/'))!
    expect(asked.filter(each => each === `recover/csv1/${host}/1`)).toHaveLength(stopped ? 0 : 1)
    // As a restore leaves it: an instance that this coordinator does not know of may be above the one that was lost.
    bench.state.vms.set('web', { ...bench.state.vms.get('web')!, epoch: bench.firstEpoch + 1_000 })
    bench.input({ kind: 'unanswered', key, code: 'disk-attached', message: `it is attached to web on ${host}` })
    bench.round(2)
    expect(asked.filter(each => each === `recover/csv1/${host}/1`)).toHaveLength(stopped ? 1 : 2)
    const [release] = bench.orders.filter(order => order.key.startsWith('recover/')).slice(-1)
    const ended = [{ disk: 'web-0', vm: 'web', epoch: bench.firstEpoch }]
    expect(release?.body).toEqual({ volume: 'csv1', host, hostEpoch: 1, ended })
    expect(bench.state.recoveries.size).toBe(0)
    bench.holdBack = () => false
    bench.answer(key, {})
    bench.round(2)
    expect(bench.state.vms.has('web')).toBe(false)
  })

  it('is fenced on the storage of its VMs, waited out, and only then its VMs start elsewhere', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    const silentAt = bench.now
    bench.hosts.get(from)!.beating = false
    while (bench.placement('web')?.host === from || bench.placement('web') === null) {
      bench.round()
      if (bench.now > silentAt + 20_000) throw new Error('no failover')
    }
    expect(bench.now - silentAt).toBeGreaterThanOrEqual(3_000 * 1.04)
    expect(bench.placement('web')).toMatchObject({ epoch: bench.firstEpoch + 1 })
    const kinds = bench.kindsTraced()
    expect(kinds.indexOf('decision.fence')).toBeLessThan(kinds.indexOf('decision.fenced'))
    expect(kinds.indexOf('decision.fenced')).toBeLessThan(kinds.indexOf('failover.start'))
    const failover = bench.traces.find(event => event.kind === 'failover.start')
    expect(failover?.body).toMatchObject({ from, attested: false, legs: ['san-a'] })
  })

  it('gets no lease once its fence has begun, though storage has not answered yet', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.holdBack = key => key.startsWith('fence/')
    bench.hosts.get(from)!.beating = false
    bench.round(6)
    expect(bench.state.hosts.get(from)?.phase).toBe('fencing')
    expect(bench.beat(from)).toMatchObject({ status: 'fenced', leaseMs: 0 })
    bench.round(40)
    expect(bench.placement('web')?.host).toBe(from)
  })

  it('is not fenced while a peer hears it: only its link to the coordinator is cut', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    for (const [name, host] of bench.hosts) if (name !== from) host.peers = [{ host: from, heardAgoMs: 100 }]
    bench.round(100)
    expect(bench.state.liveHosts.get(from)?.verdict).toBe('link-cut')
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
    expect(bench.placement('web')?.host).toBe(from)
  })

  it('is left alone for a while when storage still sees it, then fenced', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    bench.lastSeenMs = () => 100
    bench.round(20)
    expect(bench.state.liveHosts.get(from)?.verdict).toBe('isolated')
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
    bench.round(60)
    expect(bench.state.hosts.get(from)?.phase).not.toBe('admitted')
  })

  it('says of a host that is as empty as the one chosen that the other comes first, not that it is fuller', () => {
    const bench = Bench.cluster()
    const place = bench.traces.find(event => event.kind === 'decision.place')!
    const { rejected } = place.body as { rejected: { why: string }[] }
    expect(rejected.map(({ why }) => why)).toEqual([
      expect.stringMatching(/^as little of its memory is taken, but host-\w comes first$/),
      expect.stringMatching(/comes first$/),
    ])
  })

  it('goes on isolated when no other host that is in contact and reaches its storage could take a VM of it', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    bench.lastSeenMs = () => 100
    for (const [name, host] of bench.hosts) if (name !== from) host.storages = ['san-b']
    bench.round(200)
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
    expect(bench.placement('web')?.host).toBe(from)
    const decisions = bench.traces.filter(event => event.kind === 'decision.not-fenced')
    expect(decisions).toHaveLength(1)
    expect(decisions[0]?.body).toMatchObject({
      subject: from,
      rejected: [{ why: 'it does not reach san-a' }, { why: 'it does not reach san-a' }],
    })
    expect(bench.state.liveHosts.get(from)?.whyNotFenced).toContain('does not reach san-a')
    const other = [...bench.hosts.keys()].find(name => name !== from)!
    bench.hosts.get(other)!.storages = ['san-a', 'san-b']
    bench.round(3)
    expect(bench.state.hosts.get(from)?.phase).not.toBe('admitted')
    expect(bench.state.liveHosts.get(from)?.whyNotFenced).toBeNull()
  })

  it('is not fenced when no other host is left: the coordinator may be the one that is cut off', () => {
    const bench = Bench.cluster()
    for (const host of bench.hosts.values()) host.beating = false
    bench.round(100)
    for (const host of bench.state.hosts.values()) expect(host.phase).toBe('admitted')
  })

  it('saves the wait, not the fence, when its guardian attests', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    bench.input({ kind: 'agent-down', host: from, incarnation: 1 })
    bench.ask(request => ({ kind: 'attest', request, host: from, incarnation: 1 }))
    bench.round()
    expect(bench.placement('web')?.host).not.toBe(from)
    expect(bench.traces.find(event => event.kind === 'failover.start')?.body).toMatchObject({ attested: true })
    expect(bench.state.hosts.get(from)?.fence?.acknowledged).toContain('san-a')
  })

  it('is not taken for dead on an operator’s word while anything has just heard it', () => {
    const heard: ((bench: Bench, host: string) => void)[] = [
      bench => {
        bench.lastSeenMs = () => 100
      },
      (bench, host) => {
        for (const [name, other] of bench.hosts) if (name !== host) other.peers = [{ host, heardAgoMs: 50 }]
      },
    ]
    const alive = ['it has just asked san-a, san-b', 'host-b, host-c has heard it a moment ago']
    for (const [i, hear] of heard.entries()) {
      const bench = Bench.cluster()
      const host = bench.placement('web')?.host ?? ''
      const confirm = () => bench.command({ kind: 'host-confirm-dead', name: host })
      expect(confirm()).toMatchObject({ refused: 'host-alive', message: expect.stringContaining('heard a moment ago') })
      bench.hosts.get(host)!.beating = false
      hear(bench, host)
      bench.round(5)
      expect(confirm()).toMatchObject({ refused: 'host-alive', hint: 'power it off first' })
      expect(confirm().message).toContain(
        alive[i]?.replace('host-b, host-c', [...bench.hosts.keys()].filter(name => name !== host).join(', ')),
      )
      expect(bench.state.hosts.get(host)?.fence).toBeNull()
      bench.lastSeenMs = () => 100_000
      for (const other of bench.hosts.values()) other.peers = []
      bench.round(5)
      expect(confirm().refused).toBeUndefined()
    }
  })

  it('an attestation of an older incarnation than the VM was placed with is dropped', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.ask(request => ({ kind: 'attest', request, host: from, incarnation: 0 }))
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
  })

  it('waits a whole lease again after the coordinator was restarted while it fenced', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    bench.round(5)
    bench.restart()
    const restartedAt = bench.now
    while (bench.placement('web')?.host === from || bench.placement('web') === null) {
      bench.round()
      if (bench.now > restartedAt + 30_000) throw new Error('no failover')
    }
    expect(bench.now - restartedAt).toBeGreaterThanOrEqual(3_000 * 1.04)
  })

  it('comes back: is told that it is fenced, kills, and is admitted at the next epoch', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.hosts.get(from)!.beating = false
    bench.round(20)
    bench.hosts.get(from)!.beating = true
    bench.join(from)
    bench.round(4)
    expect(bench.state.hosts.get(from)).toMatchObject({ phase: 'admitted', epoch: 2 })
    expect(bench.hosts.get(from)?.machines).toEqual([])
  })

  it('its volume goes to another owner when that one, which only peers reach, is found not to serve it', () => {
    const bench = Bench.cluster()
    const owner = bench.state.volumes.get('csv1')?.owner?.host ?? ''
    const from = bench.placement('web')?.host ?? ''
    if (from === owner) {
      const to = [...bench.hosts.keys()].find(name => name !== owner)!
      bench.command({ kind: 'volume-own', name: 'csv1', host: to })
      bench.round(4)
    }
    const cutOff = bench.state.volumes.get('csv1')?.owner?.host ?? ''
    bench.hosts.get(cutOff)!.beating = false
    for (const [name, host] of bench.hosts) if (name !== cutOff) host.peers = [{ host: cutOff, heardAgoMs: 10 }]
    bench.round(6)
    bench.holdBack = key => key.startsWith('recover/')
    bench.ask(request => ({ kind: 'attest', request, host: from, incarnation: 1 }))
    bench.round(30)
    // As long as nobody says otherwise, the owner is taken to serve it.
    expect(bench.state.volumes.get('csv1')?.owner?.host).toBe(cutOff)
    bench.input({ kind: 'unanswered', key: `recover/csv1/${from}/1`, code: 'owner-away', message: 'it is failed here' })
    bench.holdBack = () => false
    bench.round(30)
    expect(bench.state.volumes.get('csv1')?.owner?.host).not.toBe(cutOff)
    expect(bench.placement('web')?.phase).toBe('running')
  })

  it('nothing of a volume starts before what the lost host left there is recovered', () => {
    const bench = Bench.cluster()
    const from = bench.placement('web')?.host ?? ''
    bench.holdBack = key => key.startsWith('recover/')
    bench.hosts.get(from)!.beating = false
    bench.round(40)
    expect(bench.placement('web')).toBe(null)
    bench.holdBack = () => false
    bench.answer(`recover/csv1/${from}/1`, {})
    bench.round(2)
    expect(bench.placement('web')?.phase).toBe('running')
  })
})
