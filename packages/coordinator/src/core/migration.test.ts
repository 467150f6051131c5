import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import { Bench } from './testing.ts'

function migrating(): { bench: Bench; from: string; to: string; id: string } {
  const bench = Bench.cluster()
  const from = bench.placement('web')?.host ?? ''
  const to = ['host-a', 'host-b', 'host-c'].find(name => name !== from) ?? ''
  expect(bench.command({ kind: 'vm-migrate', name: 'web', to, id: 'm1' }).refused).toBeUndefined()
  return { bench, from, to, id: 'm1' }
}

function switching(): ReturnType<typeof migrating> {
  const run = migrating()
  run.bench.input({ kind: 'migration-progress', migration: run.id, converged: true })
  expect(run.bench.state.migrations.get(run.id)?.phase).toBe('switching')
  return run
}

const loadedBy = (bench: Bench, to: string, incarnation = 1) =>
  bench.ask(request => ({
    kind: 'migration-loaded',
    request,
    message: { migration: 'm1', vm: 'web', host: to, incarnation, epoch: bench.firstEpoch + 1 },
  })) as { outcome: string }

describe('a migration (MIG1, MIG2)', () => {
  it('orders the source to send, then the target to receive, then the switch, and commits when all is loaded', () => {
    const { bench, from, to } = switching()
    const messages = bench.orders.filter(order => order.message.startsWith('migration.')).map(o => [o.message, o.host])
    expect(messages).toEqual([
      ['migration.send', from],
      ['migration.receive', to],
      ['migration.switch', from],
    ])
    expect(loadedBy(bench, to)).toEqual({ outcome: 'committed' })
    expect(bench.placement('web')).toMatchObject({ host: to, epoch: bench.firstEpoch + 1, phase: 'running' })
    expect(bench.store.get('vms/web')).toMatchObject({ placement: { host: to, epoch: bench.firstEpoch + 1 } })
  })

  it('a commit is not made twice, and is told again to who asks', () => {
    const { bench, to } = switching()
    loadedBy(bench, to)
    expect(loadedBy(bench, to)).toEqual({ outcome: 'committed' })
    expect(bench.kindsTraced().filter(kind => kind === 'migration.committed')).toHaveLength(1)
  })

  it('what was aborted stays aborted, though the target says that it has loaded', () => {
    const { bench, from, to } = switching()
    bench.command({ kind: 'vm-cancel', name: 'web' })
    expect(loadedBy(bench, to)).toEqual({ outcome: 'aborted' })
    expect(bench.placement('web')).toMatchObject({ host: from, epoch: bench.firstEpoch })
    expect(bench.state.vms.get('web')?.epoch).toBe(bench.firstEpoch + 1)
  })

  it('an abort burns the epoch: the next placement is above it', () => {
    const { bench } = switching()
    bench.command({ kind: 'vm-cancel', name: 'web' })
    const to = bench.orders.find(order => order.message === 'migration.receive')?.host ?? ''
    bench.command({ kind: 'vm-migrate', name: 'web', to, id: 'm2' })
    expect(bench.state.migrations.get('m2')?.epoch).toBe(bench.firstEpoch + 2)
  })

  it('another incarnation of the target than the one chosen cannot commit it', () => {
    const { bench, to } = switching()
    expect(loadedBy(bench, to, 2)).toEqual({ outcome: 'pending' })
  })

  it('a dead source whose last page got through: the commit stands', () => {
    const { bench, from, to } = switching()
    bench.holdBack = key => key.startsWith('fence/')
    bench.hosts.get(from)!.beating = false
    bench.round(4)
    expect(loadedBy(bench, to)).toEqual({ outcome: 'committed' })
    bench.holdBack = () => false
    bench.round(20)
    expect(bench.placement('web')).toMatchObject({ host: to, epoch: bench.firstEpoch + 1 })
  })

  it('a dead target before the commit: aborted, and the VM stays', () => {
    const { bench, from, to } = switching()
    bench.input({ kind: 'agent-down', host: to, incarnation: 1 })
    bench.join(to, 2)
    bench.round()
    expect(bench.state.migrations.get('m1')?.phase).toBe('aborted')
    expect(bench.placement('web')).toMatchObject({ host: from, epoch: bench.firstEpoch })
  })

  it('a dead source before anything was loaded: aborted, then failed over at an epoch above the burnt one', () => {
    const { bench, from } = migrating()
    bench.hosts.get(from)!.beating = false
    bench.round(40)
    expect(bench.state.migrations.get('m1')?.phase).toBe('aborted')
    expect(bench.placement('web')?.host).not.toBe(from)
    expect(bench.placement('web')?.epoch).toBe(bench.firstEpoch + 2)
  })

  it('survives a restart of the coordinator in the middle of the switch', () => {
    const { bench, to } = switching()
    bench.restart()
    bench.round()
    expect(loadedBy(bench, to)).toEqual({ outcome: 'committed' })
  })

  it('that takes too long to switch is aborted', () => {
    const { bench } = switching()
    bench.round(30)
    expect(bench.state.migrations.get('m1')?.phase).toBe('aborted')
  })
})

describe('a migration of which a side was not told how it ended (MIG2, VM1)', () => {
  const ask = (bench: Bench, host: string, epoch = bench.firstEpoch) =>
    bench.ask(request => ({
      kind: 'migration-ask',
      request,
      message: { migration: 'm1', vm: 'web', host, incarnation: 1, epoch },
    }))

  /** Committed; the source has heard nothing of it and is cut off from the coordinator alone; the target has died. */
  function sourceUntold(): ReturnType<typeof migrating> {
    const run = switching()
    const { bench, from, to } = run
    const third = [...bench.hosts.keys()].find(name => name !== from && name !== to)!
    bench.hosts.get(from)!.beating = false
    for (const name of [third, to]) bench.hosts.get(name)!.peers = [{ host: from, heardAgoMs: 10 }]
    loadedBy(bench, to)
    bench.input({ kind: 'agent-down', host: from, incarnation: 1 })
    bench.round(4)
    bench.input({ kind: 'agent-down', host: to, incarnation: 1 })
    bench.hosts.get(to)!.beating = false
    bench.ask(request => ({ kind: 'attest', request, host: to, incarnation: 1 }))
    bench.round(6)
    expect(bench.placement('web')).toMatchObject({ host: third, phase: 'running' })
    expect(bench.state.hosts.get(from)?.phase).toBe('admitted')
    expect(bench.state.migrations.get('m1')?.phase).toBe('done')
    return run
  }

  function endOthers(bench: Bench, count: number): void {
    for (let i = 0; i < count; i++) {
      const other = { ...bench.state.migrations.get('m1')!, id: `a${i}`, phase: 'done' as const, seq: 1_000_000 + i }
      bench.state.migrations.set(other.id, other)
    }
  }

  function migrateAnother(bench: Bench, id: string): void {
    bench.createVm(`vm-of-${id}`)
    bench.round(4)
    expect(bench.command({ kind: 'vm-migrate', name: `vm-of-${id}`, to: null, id }).refused).toBeUndefined()
  }

  it('is not forgotten while that side may have the VM yet, also not after a restart of the coordinator', () => {
    const { bench, from, to } = sourceUntold()
    bench.join(to, 2)
    bench.round(4)
    endOthers(bench, 300)
    migrateAnother(bench, 'm2')
    expect(bench.state.migrations.has('m1')).toBe(true)
    bench.restart()
    bench.round(40)
    endOthers(bench, 300)
    migrateAnother(bench, 'm3')
    expect(ask(bench, from)).toEqual({ outcome: 'committed' })
  })

  it('is told again once that side is back, and then forgotten as soon as others, the oldest first', () => {
    const { bench, from, to } = sourceUntold()
    bench.join(to, 2)
    bench.hosts.get(from)!.beating = true
    bench.orders.splice(0)
    bench.round(5)
    expect(bench.orders.filter(o => o.message === 'migration.commit').map(o => o.host)).toContain(from)
    const message = { migration: 'm1', vm: 'web', host: from, incarnation: 1, statistics: {} }
    bench.ask(request => ({ kind: 'migration-done', request, message }))
    // By name they stand before it; it is older.
    endOthers(bench, 200)
    migrateAnother(bench, 'm2')
    expect(bench.state.migrations.has('m1')).toBe(false)
    expect(bench.state.migrations.size).toBe(201)
  })

  it('that is forgotten all the same was committed, unless who asks has the VM', () => {
    const { bench, from, to } = sourceUntold()
    bench.state.migrations.delete('m1')
    expect(ask(bench, from)).toEqual({ outcome: 'committed' })
    const here = bench.placement('web')!
    expect(ask(bench, here.host, here.epoch)).toEqual({ outcome: 'aborted' })
    expect(ask(bench, here.host, here.epoch - 1)).toEqual({ outcome: 'committed' })
    // The target that asks is not placed there any more either: it never runs.
    expect(loadedBy(bench, to)).toEqual({ outcome: 'aborted' })
  })

  it('and that a restored coordinator knows nothing of lets nobody run whose host it has not admitted', () => {
    const { bench, from, to } = switching()
    const before = JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
    loadedBy(bench, to)
    const after = JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
    const answers = [before, after].map(copy => {
      const restored = new Bench()
      restored.store.commit(restoreFrom(copy, 0))
      restored.restart()
      restored.round(1)
      return ask(restored, from, bench.firstEpoch)
    })
    // Of an older copy it still has the VM, but the fence of its host decides.
    expect(answers).toEqual([{ outcome: 'pending' }, { outcome: 'committed' }])
  })
})

describe('a machine that lives where nothing on record has it (VM1)', () => {
  it('is ordered to stop, again until it is gone', () => {
    const bench = Bench.cluster()
    const other = [...bench.hosts.keys()].find(name => name !== bench.placement('web')?.host)!
    bench.holdBack = key => key.startsWith('stray/')
    bench.hosts.get(other)!.machines = [{ vm: 'web', epoch: bench.firstEpoch - 1, state: 'running', why: null }]
    bench.round(20)
    const stops = bench.orders.filter(order => order.message === 'vm.stop')
    expect(stops.length).toBeGreaterThan(1)
    for (const { host, body } of stops) {
      expect(host).toBe(other)
      expect(body).toMatchObject({ vm: 'web', epoch: bench.firstEpoch - 1, graceMs: 0 })
    }
    expect(bench.placement('web')?.phase).toBe('running')
  })

  it('is left alone when it is an end of a migration under way, or when its report merely crossed an order', () => {
    const { bench, from, to } = migrating()
    const { machines } = bench.hosts.get(to)!
    bench.hosts.get(to)!.machines = [{ vm: 'web', epoch: bench.firstEpoch + 1, state: 'incoming', why: null }]
    bench.round(10)
    bench.input({ kind: 'migration-progress', migration: 'm1', converged: true })
    loadedBy(bench, to)
    bench.hosts.get(to)!.machines = [{ vm: 'web', epoch: bench.firstEpoch + 1, state: 'running', why: null }]
    for (const host of [from, to]) {
      const message = { migration: 'm1', vm: 'web', host, incarnation: 1, statistics: {} }
      bench.ask(request => ({ kind: 'migration-done', request, message }))
    }
    bench.round()
    expect(bench.state.migrations.get('m1')?.phase).toBe('done')
    bench.hosts.get(from)!.machines = machines
    bench.round(10)
    expect(bench.orders.filter(order => order.message === 'vm.stop')).toEqual([])
  })
})

describe('bad input to a migration changes nothing', () => {
  const refusals: [string, (bench: Bench, from: string) => string | null | undefined, string][] = [
    ['to the same host', (_, from) => from, 'same-host'],
    ['to an unknown host', () => 'host-z', 'unknown-host'],
  ]
  for (const [what, to, code] of refusals) {
    it(what, () => {
      const bench = Bench.cluster()
      const from = bench.placement('web')?.host ?? ''
      const before = JSON.stringify([...bench.store.values])
      expect(bench.command({ kind: 'vm-migrate', name: 'web', to: to(bench, from) ?? null, id: 'm1' }).refused).toBe(
        code,
      )
      expect(JSON.stringify([...bench.store.values])).toBe(before)
    })
  }

  it('of an unknown VM, of a stopped VM, to a dead host', () => {
    const bench = Bench.cluster()
    expect(bench.command({ kind: 'vm-migrate', name: 'nobody', to: null, id: 'm' }).refused).toBe('unknown-vm')
    const from = bench.placement('web')?.host ?? ''
    const dead = ['host-a', 'host-b', 'host-c'].find(name => name !== from) ?? ''
    bench.hosts.get(dead)!.beating = false
    bench.round(5)
    expect(bench.command({ kind: 'vm-migrate', name: 'web', to: dead, id: 'm' }).refused).toBe('host-unfit')
    bench.command({ kind: 'vm-stop', name: 'web' })
    expect(bench.command({ kind: 'vm-migrate', name: 'web', to: null, id: 'm' }).refused).toBe('not-running')
  })
})
