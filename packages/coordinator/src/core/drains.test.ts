// A host is taken out of service in order: it gets nothing more, what it has goes to others, and what can't go says why.

import { describe, expect, it } from 'vitest'
import { hostView } from '../view/hosts.ts'
import { Bench } from './testing.ts'

const drain = (bench: Bench, name: string) => bench.command({ kind: 'host-drain', name, why: 'its disks are changed' })
const resume = (bench: Bench, name: string) => bench.command({ kind: 'host-resume', name })
const view = (bench: Bench, name: string) => hostView(bench.state, bench.state.hosts.get(name)!, bench.now)
const vm = (bench: Bench) => bench.state.vms.get('web')!

describe('a host that is drained', () => {
  it('has its VMs moved live to others, and its volumes owned by others', () => {
    const bench = Bench.cluster()
    const host = vm(bench).placement!.host
    bench.command({ kind: 'volume-own', name: 'csv1', host })
    bench.round(4)
    expect(bench.state.volumes.get('csv1')?.owner?.host).toBe(host)
    expect(drain(bench, host)).toMatchObject({ body: { host, vms: ['web'] } })
    bench.round(1)
    expect(view(bench, host)).toMatchObject({ state: 'draining', drain: { why: 'its disks are changed' } })
    bench.round(20)
    const migration = [...bench.state.migrations.values()][0]
    expect(migration).toMatchObject({ vm: 'web', source: { host } })
    expect(migration?.id).toMatch(/^drain-/)
    expect(bench.state.volumes.get('csv1')?.owner?.host).not.toBe(host)
    expect(bench.kindsTraced()).toContain('decision.drain')
  })

  it('gets nothing more: no VM that starts, no migration, also after a restart of the coordinator, until it is resumed', () => {
    const bench = Bench.cluster()
    const host = vm(bench).placement!.host
    const idle = ['host-a', 'host-b', 'host-c'].find(name => name !== host)!
    drain(bench, idle)
    bench.restart()
    bench.round(4)
    const to = (name: string) => bench.command({ kind: 'vm-migrate', name: 'web', to: name, id: 'm' })
    expect(to(idle)).toMatchObject({ refused: 'host-unfit', message: expect.stringContaining('it is being drained') })
    expect(view(bench, idle)).toMatchObject({ state: 'drained', drain: { left: [] } })
    expect(resume(bench, idle)).toMatchObject({ body: { host: idle } })
    expect(resume(bench, idle)).toMatchObject({ refused: 'not-quarantined' })
    expect(view(bench, idle)).toMatchObject({ state: 'up', drain: null })
    expect(to(idle)).toMatchObject({ body: { to: idle } })
  })

  it('keeps what nobody else can take, and says why', () => {
    const bench = Bench.cluster()
    const host = vm(bench).placement!.host
    for (const name of ['host-a', 'host-b', 'host-c']) drain(bench, name)
    bench.round(6)
    expect(vm(bench).placement).toMatchObject({ host, phase: 'running' })
    expect(view(bench, host)).toMatchObject({
      state: 'draining',
      drain: {
        left: [{ vm: 'web', why: expect.stringMatching(/no other host can take VM "web": .*it is being drained/) }],
      },
    })
    const other = ['host-a', 'host-b', 'host-c'].find(name => name !== host)!
    resume(bench, other)
    bench.round(6)
    expect([...bench.state.migrations.values()].at(-1)).toMatchObject({ vm: 'web', target: { host: other } })
  })

  it('is in service again when it was removed and came back', () => {
    const bench = Bench.cluster()
    const host = vm(bench).placement!.host
    const idle = ['host-a', 'host-b', 'host-c'].find(name => name !== host)!
    drain(bench, idle)
    bench.command({ kind: 'host-remove', name: idle })
    expect(bench.state.hosts.get(idle)).not.toHaveProperty('drain')
  })

  it.each(['nobody', ''])('there is no host "%s"', name => {
    expect(drain(Bench.cluster(), name)).toMatchObject({ refused: 'unknown-host' })
  })
})
