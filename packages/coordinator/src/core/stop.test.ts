// An orderly stop as it is decided: how long the guest has, who may shorten it, and that it is carried through.
import { describe, expect, it } from 'vitest'
import { Bench } from './testing.ts'

/** Stop orders as they went out; the bench does not obey them. */
function cluster() {
  const bench = Bench.cluster()
  bench.holdBack = key => key.startsWith('stop/')
  const graces = () =>
    bench.orders.filter(order => order.message === 'vm.stop').map(order => (order.body as { graceMs: number }).graceMs)
  return { bench, graces }
}

describe('a stop', () => {
  it('gives the guest the time of the settings, or what the operator says', () => {
    const { bench, graces } = cluster()
    bench.command({ kind: 'vm-stop', name: 'web' })
    expect(graces()).toEqual([5_000])
    bench.command({ kind: 'vm-stop', name: 'web', graceMs: 60_000 })
    expect(graces()).toEqual([5_000, 60_000])
  })

  it('is forced at once by a second order, without waiting for the first to be answered', () => {
    const { bench, graces } = cluster()
    bench.command({ kind: 'vm-stop', name: 'web' })
    bench.command({ kind: 'vm-stop', name: 'web', graceMs: 0 })
    expect(graces()).toEqual([5_000, 0])
    bench.round(10)
    expect(
      graces()
        .slice(2)
        .every(grace => grace === 0),
    ).toBe(true)
  })

  it('keeps its time when the VM is to run again meanwhile, and over a restart of the coordinator', () => {
    const { bench, graces } = cluster()
    bench.command({ kind: 'vm-stop', name: 'web', graceMs: 7_000 })
    bench.command({ kind: 'vm-start', name: 'web', host: null })
    bench.restart()
    bench.round(6)
    expect(graces().length).toBeGreaterThan(1)
    expect(new Set(graces())).toEqual(new Set([7_000]))
  })

  it('for good does not ask: what is to be deleted has nothing to save', () => {
    const { bench, graces } = cluster()
    bench.command({ kind: 'vm-delete', name: 'web' })
    expect(graces()).toEqual([0])
  })

  it('of the whole cluster asks every guest, and what is to run stays wanted', () => {
    const { bench, graces } = cluster()
    bench.command({ kind: 'cluster-halt' })
    expect(graces()).toEqual([5_000])
    expect(bench.state.vms.get('web')?.desired).toBe('running')
  })
})
