import { describe, expect, it } from 'vitest'
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
    message: { migration: 'm1', host: to, incarnation, epoch: bench.firstEpoch + 1 },
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
