import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import { Bench } from './testing.ts'

describe('the copy of the cluster on its volumes', () => {
  it('brings a lost coordinator back: VMs, epochs above all that was, and every host fenced first', () => {
    const lost = Bench.cluster()
    const copy = JSON.parse(JSON.stringify(copyOf(lost.state))) as Json
    const restored = new Bench()
    restored.store.commit(restoreFrom(copy))
    restored.restart()
    expect(restored.state.cluster.term).toBeGreaterThan(lost.state.cluster.term + 1_000)
    for (const host of restored.state.hosts.values()) expect(host.phase).toBe('fencing')
    for (const name of ['host-a', 'host-b', 'host-c']) restored.join(name)
    restored.round(20)
    expect(restored.placement('web')?.phase).toBe('running')
    expect(restored.placement('web')?.epoch).toBeGreaterThan(1_000)
    expect(restored.state.volumes.get('csv1')?.owner?.epoch).toBeGreaterThan(1_000)
  })

  it('a silent host of a restored cluster is waited out before its VMs start elsewhere', () => {
    const lost = Bench.cluster()
    const from = lost.placement('web')?.host ?? ''
    const restored = new Bench()
    restored.store.commit(restoreFrom(JSON.parse(JSON.stringify(copyOf(lost.state))) as Json))
    restored.restart()
    const startedAt = restored.now
    for (const name of ['host-a', 'host-b', 'host-c']) if (name !== from) restored.join(name)
    while (restored.placement('web') === null || restored.placement('web')?.host === from) {
      restored.round()
      if (restored.now > startedAt + 30_000) throw new Error('never restarted')
    }
    expect(restored.now - startedAt).toBeGreaterThanOrEqual(3_000 * 1.04)
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

  it('something that is no copy is refused', () => {
    for (const value of [null, {}, { format: 2 }, 'copy'] as Json[]) {
      expect(() => restoreFrom(value)).toThrow(expect.objectContaining({ code: 'bad-copy' }))
    }
  })
})
