import { describe, expect, it } from 'vitest'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']

function withVolumes(count: number): Bench {
  const bench = new Bench()
  for (const name of HOSTS) bench.join(name)
  bench.round(2)
  for (let i = 0; i < count; i += 1) {
    bench.command({ kind: 'volume-create', name: `csv${i}`, id: `v${i}`, sizeBytes: 2 ** 30, storages: ['san-a'] })
    bench.round(3)
  }
  return bench
}

const owned = (bench: Bench) =>
  HOSTS.map(host => [...bench.state.volumes.values()].filter(({ owner }) => owner?.host === host).length)

describe('the ownership of volumes', () => {
  it('is spread evenly over the hosts', () => {
    expect(owned(withVolumes(6))).toEqual([2, 2, 2])
    expect([...owned(withVolumes(4))].sort()).toEqual([1, 1, 2])
  })

  it('of a host that is lost, or drained, is spread over the others', () => {
    const lost = withVolumes(6)
    lost.hosts.get('host-a')!.beating = false
    lost.round(20)
    expect(owned(lost)).toEqual([0, 3, 3])
    const drained = withVolumes(6)
    drained.command({ kind: 'host-drain', name: 'host-b', why: 'its disks are changed' })
    drained.round(20)
    expect(owned(drained)).toEqual([3, 0, 3])
  })

  it('goes to no host that does not reach all of the volume', () => {
    const bench = withVolumes(3)
    for (const name of ['host-a', 'host-b']) bench.hosts.get(name)!.storages = ['san-b']
    bench.hosts.get('host-a')!.beating = false
    bench.round(20)
    expect(bench.state.volumes.get('csv0')?.owner?.host).toBe('host-c')
  })
})
