import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { volumeView } from '../view/volumes.ts'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import { Bench } from './testing.ts'

const ANY_VM = {
  kind: 'vm-create',
  ...{ disks: [], start: false, priority: 0, host: null },
  spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
} as const

describe('the copy of the cluster on its volumes', () => {
  it('brings a lost coordinator back: VMs, epochs above all that was, and every host fenced first', () => {
    const lost = Bench.cluster()
    const copy = JSON.parse(JSON.stringify(copyOf(lost.state))) as Json
    const restored = new Bench()
    restored.store.commit(restoreFrom(copy, 0))
    restored.restart()
    expect(restored.state.cluster.term).toBeGreaterThan(lost.state.cluster.term + 1_000)
    for (const host of restored.state.hosts.values()) expect(host.phase).toBe('fenced')
    for (const name of ['host-a', 'host-b', 'host-c']) restored.join(name)
    restored.round(20)
    expect(restored.placement('web')?.phase).toBe('running')
    expect(restored.placement('web')?.epoch).toBeGreaterThan(1_000)
    expect(restored.state.volumes.get('csv1')?.owner?.epoch).toBeGreaterThan(1_000)
  })

  it('a restored state is at a whole revision above that of the copy, also by a clock that was set back', () => {
    const copyAt = (revision: number) =>
      JSON.parse(JSON.stringify({ ...copyOf(Bench.cluster().state), revision })) as Json
    const revisionOf = (revision: number, wallMs: number) => {
      const restored = new Bench()
      restored.store.commit(restoreFrom(copyAt(revision), wallMs))
      restored.restart()
      return restored.state.revision
    }
    const once = revisionOf(40, 1_750_000_000_000.25)
    expect(Number.isSafeInteger(once)).toBe(true)
    expect(once).toBeGreaterThan(1_000_000)
    expect(revisionOf(once, 5)).toBeGreaterThan(once + 1_000)
    expect(revisionOf(40, 1_750_000_000_001.5)).toBeGreaterThan(once)
  })

  it('a VM that is made anew after a restore begins above every placement epoch that its name has had', () => {
    const lost = Bench.cluster()
    const restored = new Bench()
    restored.store.commit(restoreFrom(JSON.parse(JSON.stringify(copyOf(lost.state))) as Json, lost.now))
    restored.restart()
    for (const name of ['host-a', 'host-b', 'host-c']) restored.join(name)
    restored.round(20)
    const before = restored.placement('web')?.epoch ?? 0
    restored.command({ kind: 'vm-delete', name: 'web' })
    restored.round(10)
    expect(restored.state.vms.has('web')).toBe(false)
    restored.restart()
    restored.createVm('web')
    restored.round(10)
    expect(restored.placement('web')?.epoch).toBeGreaterThan(before)
  })

  it('a silent host of a restored cluster is waited out before its VMs start elsewhere', () => {
    const lost = Bench.cluster()
    const from = lost.placement('web')?.host ?? ''
    const restored = new Bench()
    restored.store.commit(restoreFrom(JSON.parse(JSON.stringify(copyOf(lost.state))) as Json, lost.now))
    restored.restart()
    const startedAt = restored.now
    for (const name of ['host-a', 'host-b', 'host-c']) if (name !== from) restored.join(name)
    while (restored.placement('web') === null || restored.placement('web')?.host === from) {
      restored.round()
      if (restored.now > startedAt + 30_000) throw new Error('never restarted')
    }
    expect(restored.now - startedAt).toBeGreaterThanOrEqual(3_000 * 1.04)
  })

  /** A copy that is a second old: since then, the VM has moved to `silent`, of which nothing is heard now. */
  function restoredWithout(silent: (from: string) => string) {
    const lost = Bench.cluster()
    const from = lost.placement('web')?.host ?? ''
    const restored = new Bench()
    restored.store.commit(restoreFrom(JSON.parse(JSON.stringify(copyOf(lost.state))) as Json, lost.now))
    restored.restart()
    // So that nothing else makes it wait.
    restored.state.cluster = {
      ...restored.state.cluster,
      settings: { ...restored.state.cluster.settings, startGraceMs: 0 },
    }
    restored.lastSeenMs = () => 0
    const away = silent(from)
    for (const name of ['host-a', 'host-b', 'host-c']) if (name !== away) restored.join(name)
    const again = () => (restored.placement('web')?.epoch ?? 0) > 1_000
    const startedAt = restored.now
    const waited = (): number => {
      while (!again()) {
        restored.round()
        if (restored.now > startedAt + 30_000) throw new Error('never restarted')
      }
      return restored.now - startedAt
    }
    return { restored, away, waited }
  }
  const another = (from: string) => ['host-a', 'host-b', 'host-c'].find(name => name !== from) ?? ''

  it('may be older than a move of a VM: nothing starts before every host is waited out, not only the copied one (FEN1)', () => {
    const { restored, away, waited } = restoredWithout(another)
    restored.round(3)
    expect(restored.placement('web')).toBeNull()
    expect(restored.state.liveVms.get('web')?.whyNot).toContain(`anything may run on ${away}`)
    expect(waited()).toBeGreaterThanOrEqual(3_000 * 1.04)
  })

  it('whose hosts all report that they are clean keeps nothing waiting', () => {
    expect(restoredWithout(() => 'nobody').waited()).toBeLessThan(3_000)
  })

  it('is written by the owner of each volume when something has changed, and not again', () => {
    const bench = Bench.cluster()
    const copies: string[] = []
    bench.holdBack = key => {
      if (key.startsWith('copy/')) copies.push(key)
      return false
    }
    bench.round(6)
    const quiet = copies.length
    bench.round(20)
    expect(copies.length).toBe(quiet)
    bench.createVm('other')
    bench.round(10)
    expect(copies.length).toBeGreaterThan(quiet)
  })

  it('that has become too large for a volume is told, and until it fits again no VM is added', () => {
    const bench = Bench.cluster()
    bench.holdBack = key => key.startsWith('copy/')
    bench.createVm('large')
    bench.round(4)
    const message = '1050000 bytes do not fit the volume’s cluster copy'
    bench.input({ kind: 'unanswered', key: 'copy/csv1', code: 'cluster-copy-too-large', message })
    const warning = () => volumeView(bench.state, bench.state.volumes.get('csv1')!, null, bench.now).warning
    expect(warning()).toContain(message)
    bench.createVm('more')
    expect(bench.state.vms.has('more')).toBe(false)
    expect(bench.command({ ...ANY_VM, name: 'more' })).toMatchObject({
      refused: 'cluster-copy-full',
      message: expect.stringContaining(message),
    })
    bench.command({ kind: 'vm-delete', name: 'large' })
    bench.holdBack = () => false
    bench.round(10)
    expect(warning()).toBeNull()
    bench.createVm('more')
    expect(bench.state.vms.has('more')).toBe(true)
  })

  it('of a volume that nobody serves any more keeps no VM from being added elsewhere', () => {
    const bench = Bench.cluster()
    bench.holdBack = key => key.startsWith('copy/')
    bench.createVm('large')
    bench.round(4)
    bench.input({ kind: 'unanswered', key: 'copy/csv1', code: 'frame-too-large', message: 'too large' })
    expect(bench.command({ ...ANY_VM, name: 'more' }).refused).toBe('cluster-copy-full')
    bench.ownersSay = { state: 'opening' }
    bench.round()
    expect(bench.command({ ...ANY_VM, name: 'more' }).refused).toBeUndefined()
  })

  it('something that is no copy is refused', () => {
    for (const value of [null, {}, { format: 2 }, 'copy'] as Json[]) {
      expect(() => restoreFrom(value, 0)).toThrow(expect.objectContaining({ code: 'bad-copy' }))
    }
  })
})
