import { describe, expect, it } from 'vitest'
import type { Command } from './commands.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const volume = (bench: Bench) => bench.state.volumes.get('csv1')!
const roles = (bench: Bench) => volume(bench).legs.map(({ storage, role }) => `${storage} ${role}`)
const force = (bench: Bench, leg: string) => bench.command({ kind: 'volume-force-leg', name: 'csv1', leg })
const mirror = (bench: Bench, storage: string) => bench.command({ kind: 'volume-mirror', name: 'csv1', storage })

function withVolume(storages: readonly string[], external: readonly string[] = []): Bench {
  const bench = new Bench(external)
  for (const name of HOSTS) bench.join(name)
  bench.round(2)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages })
  bench.round(4)
  return bench
}

function lose(bench: Bench, leg: string): void {
  const report = {
    volume: 'csv1',
    host: 'host-a',
    hostEpoch: 1,
    generation: volume(bench).generation,
    leg,
    why: 'gone',
  }
  bench.ask(request => ({ kind: 'leg-lost', request, report }))
  bench.round()
}

describe('what operators ask of legs is refused', () => {
  it.each<readonly [string, () => Bench, Command, string]>([
    [
      'a third leg',
      () => withVolume(['san-a', 'san-b'], ['nas']),
      { kind: 'volume-mirror', name: 'csv1', storage: 'nas' },
      'mirrored',
    ],
    [
      'a leg where a former one is not gone yet',
      () => {
        const bench = withVolume(['san-a', 'san-b'])
        bench.holdBack = key => key.startsWith('unlun/')
        bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-b' })
        bench.round(2)
        return bench
      },
      { kind: 'volume-mirror', name: 'csv1', storage: 'san-b' },
      'leg-going',
    ],
    [
      'a leg while the volume is made',
      () => {
        const bench = new Bench()
        for (const name of HOSTS) bench.join(name)
        bench.round(2)
        bench.holdBack = key => key.startsWith('lun/')
        bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a'] })
        return bench
      },
      { kind: 'volume-mirror', name: 'csv1', storage: 'san-b' },
      'not-ready',
    ],
    [
      'to be forced, one that never had everything',
      () => {
        const bench = withVolume(['san-a'])
        bench.holdBack = key => key.startsWith('lun/')
        mirror(bench, 'san-b')
        return bench
      },
      { kind: 'volume-force-leg', name: 'csv1', leg: 'san-b' },
      'never-in-sync',
    ],
    [
      'to be forced, one while a silent host may write the other',
      () => {
        const bench = withVolume(['san-a', 'san-b'])
        lose(bench, 'leg-1')
        bench.hosts.get('host-c')!.beating = false
        bench.round(10)
        return bench
      },
      { kind: 'volume-force-leg', name: 'csv1', leg: 'san-b' },
      'host-not-attested',
    ],
  ])('%s, and nothing is changed', (_what, make, command, code) => {
    const bench = make()
    const before = JSON.stringify(volume(bench))
    expect(bench.command(command).refused).toBe(code)
    expect(JSON.stringify(volume(bench))).toBe(before)
  })
})

it('a leg without epochs that was taken away is gone when what was sent to it has had its time, and only then given anew', () => {
  const bench = withVolume(['san-a', 'nas'], ['nas'])
  expect(roles(bench)).toEqual(['san-a in-sync', 'nas in-sync'])
  bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'nas' })
  const at = bench.now
  bench.round(1)
  expect(mirror(bench, 'nas').refused).toBe('leg-going')
  while (volume(bench).retired.length > 0 && bench.now < at + 20_000) bench.round()
  expect(bench.now - at).toBeGreaterThanOrEqual(bench.state.cluster.settings.ioDeadlineMs)
  expect(bench.now - at).toBeLessThan(bench.state.cluster.settings.ioDeadlineMs + 2_000)
  expect(mirror(bench, 'nas').refused).toBeUndefined()
})

describe('a leg is forced', () => {
  it('that was catching up, and it is said that it has old and new side by side', () => {
    const bench = withVolume(['san-a', 'san-b'])
    lose(bench, 'leg-1')
    bench.sync = { done: false, disks: 1, synced: 0 }
    while (!roles(bench).includes('san-b syncing')) bench.round()
    expect(force(bench, 'san-b').body).toMatchObject({ leg: 'leg-1', mixed: true })
    expect(roles(bench)).toEqual(['san-a stale', 'san-b in-sync'])
  })

  it('when the other’s storage is lost together with a host, on whose death an operator’s word is had', () => {
    const bench = withVolume(['san-a', 'san-b'])
    bench.createVm('web')
    bench.round(4)
    const { host } = bench.placement('web')!
    lose(bench, 'leg-1')
    bench.holdBack = key => key.endsWith('/san-a')
    for (const each of bench.hosts.values()) each.storages = ['san-b']
    bench.hosts.get(host)!.beating = false
    bench.round(40)
    expect(bench.state.hosts.get(host)?.phase).toBe('fencing')
    expect(force(bench, 'san-b').refused).toBe('volume-in-use')
    bench.command({ kind: 'host-confirm-dead', name: host })
    expect(force(bench, 'san-b').body).toMatchObject({ volume: 'csv1', leg: 'leg-1' })
    bench.round(40)
    expect(bench.placement('web')).toMatchObject({ phase: 'running' })
    expect(bench.placement('web')?.host).not.toBe(host)
  })
})
