import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { volumeView } from '../view/volumes.ts'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import { load } from './load.ts'
import { Bench } from './testing.ts'

const remove = (bench: Bench, force = false) => bench.command({ kind: 'volume-delete', name: 'csv1', force })
const isThere = (bench: Bench) => bench.state.volumes.has('csv1')
const whyNot = (bench: Bench) => volumeView(bench.state, bench.state.volumes.get('csv1')!, null, bench.now).whyNot
const unluns = (bench: Bench, asked: string[]) => {
  bench.holdBack = key => {
    asked.push(key)
    return key.startsWith('unlun/')
  }
}

function empty(): Bench {
  const bench = Bench.cluster()
  bench.command({ kind: 'vm-delete', name: 'web' })
  bench.round(6)
  expect(bench.state.vms.has('web')).toBe(false)
  return bench
}

const HOSTS = ['host-a', 'host-b', 'host-c']

/** The coordinator starts again with a configuration in which this storage is not. */
function without(bench: Bench, storage: string): void {
  const left = [...bench.state.storages.keys()].filter(name => name !== storage)
  const storages = left.map(name => ({ name, portals: [], control: [] }))
  bench.state = load(bench.store, 'test', bench.state.cluster.settings, storages, bench.now, bench.now, 'later')
  bench.input({ kind: 'tick' })
  expect([...bench.state.storages.keys()]).toEqual(left)
  for (const name of HOSTS) bench.join(name)
  bench.round(6)
}

describe('a volume that is deleted', () => {
  it('goes with its LUNs, and its name can be used again', () => {
    const bench = empty()
    const asked: string[] = []
    unluns(bench, asked)
    expect(remove(bench).body).toEqual({ volume: 'csv1' })
    bench.round(4)
    expect(bench.state.volumes.get('csv1')).toMatchObject({ phase: 'deleting', owner: null, legs: [] })
    expect(whyNot(bench)).toBe('san-a has not deleted its LUN yet')
    expect(asked).toContain('unlun/csv1/san-a/csv1/v1')
    // By the id, too: the name may be another LUN's when the order comes.
    expect(bench.state.volumes.get('csv1')?.retired).toEqual([{ storage: 'san-a', lun: 'csv1', id: 'v1' }])
    expect(remove(bench).refused).toBe('being-deleted')
    bench.holdBack = () => false
    bench.answer('unlun/csv1/san-a/csv1/v1', {})
    bench.round(2)
    expect(isThere(bench)).toBe(false)
    expect(bench.store.get('volumes/csv1')).toBeUndefined()
    bench.command({ kind: 'volume-create', name: 'csv1', id: 'v2', sizeBytes: 2 ** 30, storages: ['san-b'] })
    bench.round(4)
    bench.createVm('again')
    bench.round(4)
    expect(bench.placement('again')).toMatchObject({ phase: 'running' })
  })

  it('is refused while a VM has a disk there, and nothing is changed', () => {
    const bench = Bench.cluster()
    const before = bench.state.volumes.get('csv1')
    expect(remove(bench)).toMatchObject({
      refused: 'volume-in-use',
      message: 'VM "web" has a disk on volume "csv1"',
      hint: 'delete it first: stellwerk vm delete web',
    })
    expect(remove(bench, true)).toMatchObject({
      refused: 'volume-in-use',
      hint: 'stop it first: stellwerk vm stop web',
    })
    expect(bench.command({ kind: 'volume-delete', name: 'csv9', force: false }).refused).toBe('unknown-volume')
    expect(bench.state.volumes.get('csv1')).toBe(before)
  })

  it('keeps its LUNs while a host that may have it open has not heard of it', () => {
    const bench = empty()
    const asked: string[] = []
    bench.holdBack = key => {
      asked.push(key)
      return key.startsWith('map/host-b/')
    }
    remove(bench)
    bench.round(20)
    expect(asked.filter(key => key.startsWith('unlun/'))).toEqual([])
    expect(whyNot(bench)).toBe('host-b may still have it open')
    // Also by a coordinator that takes over meanwhile.
    bench.restart()
    bench.round(20)
    expect(whyNot(bench)).toBe('host-b may still have it open')
    // Fenced where the LUN is, it can write there no more.
    bench.hosts.get('host-b')!.beating = false
    bench.round(40)
    expect(isThere(bench)).toBe(false)
  })

  it('takes stopped VMs along if it is forced, and nothing is started there', () => {
    const bench = Bench.cluster()
    bench.command({ kind: 'vm-stop', name: 'web' })
    bench.round(4)
    expect(remove(bench).refused).toBe('volume-in-use')
    expect(remove(bench, true).body).toEqual({ volume: 'csv1' })
    bench.createVm('late')
    bench.round(4)
    expect([...bench.state.vms.keys()]).toEqual([])
    expect(isThere(bench)).toBe(false)
  })
})

describe('a volume whose storage is gone for good', () => {
  function gone(): Bench {
    const bench = Bench.cluster()
    bench.holdBack = key => key.endsWith('/san-a') || key.startsWith('unlun/')
    for (const host of bench.hosts.values()) host.storages = ['san-b']
    bench.hosts.get(bench.placement('web')!.host)!.beating = false
    bench.round(40)
    expect(bench.placement('web')).not.toBeNull()
    return bench
  }

  it('is deleted by force, and the host that had a VM there is admitted again', () => {
    const bench = gone()
    const { host } = bench.placement('web')!
    expect(bench.state.hosts.get(host)?.phase).toBe('fencing')
    expect(remove(bench, true).body).toEqual({ volume: 'csv1' })
    expect([...bench.state.vms.keys(), ...bench.state.recoveries.keys()]).toEqual([])
    bench.hosts.get(host)!.beating = true
    bench.join(host)
    bench.round(6)
    bench.input({ kind: 'unanswered', key: `admit/${host}/2/san-a`, code: 'deadline', message: 'no answer' })
    bench.round(6)
    expect(bench.state.hosts.get(host)).toMatchObject({ phase: 'admitted', epoch: 2 })
    expect(whyNot(bench)).toBe('san-a has not deleted its LUN yet')
  })

  it('is forgotten when that storage is taken out of the configuration', () => {
    const bench = gone()
    const { host } = bench.placement('web')!
    remove(bench, true)
    bench.hosts.get(host)!.beating = true
    bench.join(host)
    bench.round(6)
    without(bench, 'san-a')
    expect(isThere(bench)).toBe(false)
  })

  it('and so is one that has only a former leg of a volume, which cannot be deleted any more', () => {
    const bench = new Bench()
    for (const name of HOSTS) bench.join(name)
    bench.round(2)
    bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a', 'san-b'] })
    bench.round(6)
    bench.holdBack = key => key.startsWith('unlun/')
    bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-a' })
    bench.round(6)
    expect(bench.state.volumes.get('csv1')?.retired).toMatchObject([{ storage: 'san-a' }])
    without(bench, 'san-a')
    expect(bench.state.volumes.get('csv1')).toMatchObject({ retired: [], legs: [{ storage: 'san-b' }] })
    bench.holdBack = () => false
    bench.createVm('web')
    bench.round(6)
    expect(bench.placement('web')?.phase).toBe('running')
  })

  it('goes on going after a restore from a copy', () => {
    const bench = gone()
    remove(bench, true)
    const copy = JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
    const restored = new Bench()
    restored.store.commit(restoreFrom(copy, 0))
    restored.restart()
    for (const name of ['host-a', 'host-b', 'host-c']) restored.join(name)
    restored.round(40)
    expect(isThere(restored)).toBe(false)
    expect([...restored.state.recoveries.keys()]).toEqual([])
  })
})
