// The legs of a mirrored volume: given up, held up, taken back; and what an operator may do with them.

import type { LunShown } from '@stellwerk/protocol/messages/storage.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { judgeMarks, type LegMarks, marksHeard } from './leg-verification.ts'
import { StepOutput } from './output.ts'
import type { VolumeRecord } from './state.ts'
import { Bench } from './testing.ts'

const SIZE = 2 ** 30

function volume(bench: Bench): VolumeRecord {
  return bench.state.volumes.get('csv1')!
}

/** In beats. */
function pass(bench: Bench, ms: number): void {
  bench.round(Math.ceil(ms / bench.state.cluster.settings.heartbeatMs))
}

const roles = (bench: Bench): string =>
  volume(bench)
    .legs.map(leg => `${leg.storage} ${leg.role}`)
    .join(', ')

/** Three hosts, and a mirrored volume with a VM on it. */
function mirrored(): Bench {
  const bench = new Bench()
  for (const host of ['host-a', 'host-b', 'host-c']) bench.join(host)
  pass(bench, 1_000)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: SIZE, storages: ['san-a', 'san-b'] })
  pass(bench, 3_000)
  bench.createVm('web-1')
  pass(bench, 3_000)
  expect(bench.state.vms.get('web-1')?.placement?.phase).toBe('running')
  return bench
}

function lose(bench: Bench, leg: string, more: { generation?: number; host?: string } = {}): void {
  const host = more.host ?? bench.state.vms.get('web-1')?.placement?.host ?? 'host-a'
  const hostEpoch = bench.state.hosts.get(host)?.epoch ?? 0
  const generation = more.generation ?? volume(bench).generation
  const report = { host, hostEpoch, volume: 'csv1', generation, leg, why: 'it does not answer' }
  bench.input({ kind: 'leg-lost', request: 9_000, report })
}

afterEach(() => canaries.clear())

describe('a mirrored volume', () => {
  it('begins in generation 1 with both legs in sync, told to both storages before it is laid out', () => {
    const bench = mirrored()
    expect(volume(bench)).toMatchObject({ generation: 1, phase: 'ready', generationOwed: [] })
    expect(bench.marks.get('san-b/csv1')).toMatchObject({ generation: 1 })
  })

  it('gives up a leg that a host has lost: durable first, then told to the survivor only', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
    expect(volume(bench).legs[1]).toMatchObject({ lastInSync: 1 })
    expect(bench.marks.get('san-a/csv1')).toMatchObject({ generation: 2 })
    expect(bench.marks.get('san-b/csv1')).toMatchObject({ generation: 1 })
  })

  it('never gives up its last in-sync leg', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    lose(bench, 'leg-0')
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
  })

  it('drops a report of an older generation', () => {
    const bench = mirrored()
    lose(bench, 'leg-1', { generation: 0 })
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
    canaries.add('old-report-obeyed')
    lose(bench, 'leg-1', { generation: 0 })
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
  })

  it('drops a report of a host that is fenced', () => {
    const bench = mirrored()
    const host = 'host-b'
    const report = { host, hostEpoch: 77, volume: 'csv1', generation: 1, leg: 'leg-1', why: 'x' }
    bench.input({ kind: 'leg-lost', request: 9_000, report })
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
  })

  it('keeps a leg that more of the hosts at work reach, for a while', () => {
    const bench = mirrored()
    for (const host of bench.hosts.values()) host.storages = ['san-b']
    pass(bench, 1_000)
    lose(bench, 'leg-1')
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
    for (let i = 0; i < 12 && volume(bench).generation === 1; i++) {
      pass(bench, 1_000)
      lose(bench, 'leg-1')
    }
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
  })

  it('keeps it anew for that while when the last such report has long passed', () => {
    const bench = mirrored()
    const { legDeadlineMs } = bench.state.cluster.settings
    for (const host of bench.hosts.values()) host.storages = ['san-b']
    pass(bench, 1_000)
    lose(bench, 'leg-1')
    pass(bench, legDeadlineMs)
    lose(bench, 'leg-1')
    pass(bench, 10 * legDeadlineMs)
    lose(bench, 'leg-1')
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
    for (const _ of [1, 2, 3]) {
      expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
      pass(bench, legDeadlineMs)
      lose(bench, 'leg-1')
    }
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
  })

  it('resyncs a leg once its storage answers, and counts it when its owner says that it has everything', () => {
    const bench = mirrored()
    bench.sync = { done: false, disks: 1, synced: 0 }
    lose(bench, 'leg-1')
    pass(bench, 4_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
    expect(bench.marks.get('san-b/csv1')).toMatchObject({ generation: 3 })
    pass(bench, 4_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
    bench.sync = { done: true, disks: 1, synced: 1 }
    pass(bench, 2_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
    expect(volume(bench).generation).toBe(4)
  })

  it('does not resync a leg that no host reaches, nor while a host at work is not in contact', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    for (const host of bench.hosts.values()) host.storages = ['san-a']
    pass(bench, 6_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
    expect(bench.state.liveVolumes.get('csv1')?.why).toBe('no host reaches san-b')
  })

  it('does not resync a leg whose storage has not been told of a fence', () => {
    const bench = withOwedFence()
    pass(bench, 10_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
    bench.holdBack = () => false
    bench.sync = { done: true, disks: 1, synced: 1 }
    pass(bench, 10_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
  })

  it('the canary resync-with-owed-fence is seen by that test', () => {
    canaries.add('resync-with-owed-fence')
    const bench = withOwedFence()
    pass(bench, 10_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
  })
})

/** The VM's host is lost, and started elsewhere; san-b does not acknowledge the fence. */
function withOwedFence(): Bench {
  const bench = mirrored()
  bench.holdBack = key => key.startsWith('fence/') && key.endsWith('/san-b')
  const at = bench.state.vms.get('web-1')!.placement!.host
  bench.hosts.get(at)!.beating = false
  pass(bench, 12_000)
  // The fence waited for san-b until its leg was given up.
  expect(roles(bench)).toMatch(/^san-a in-sync, san-b (stale|syncing)$/)
  expect(bench.state.vms.get('web-1')?.placement).toMatchObject({ phase: 'running' })
  expect(bench.state.vms.get('web-1')?.placement?.host).not.toBe(at)
  return bench
}

it('a leg whose storage came back blank is not resynced: everything would wait for a LUN that is not there', () => {
  const bench = mirrored()
  bench.holdBack = key => key === 'there/csv1/leg-1'
  lose(bench, 'leg-1')
  pass(bench, 2_000)
  bench.input({
    kind: 'unanswered',
    key: 'there/csv1/leg-1',
    code: 'unknown-lun',
    message: 'there is no LUN csv1 here',
  })
  pass(bench, 60_000)
  expect(roles(bench)).toBe('san-a in-sync, san-b stale')
  expect(bench.state.liveVolumes.get('csv1')?.why).toContain('san-b has lost its LUN')
  bench.holdBack = () => false
  pass(bench, 8_000)
  expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
})

it('a leg whose storage cannot serve its LUN is not resynced again and again, and says why, until it can', () => {
  const bench = mirrored()
  bench.holdBack = key => key === 'there/csv1/leg-1'
  lose(bench, 'leg-1')
  const { generation } = bench.state.volumes.get('csv1')!
  pass(bench, 2_000)
  const message = 'lun-failed LUN csv1: the LUN’s data has 5 bytes, not 9'
  bench.input({ kind: 'unanswered', key: 'there/csv1/leg-1', code: 'lun-failed', message })
  pass(bench, 60_000)
  expect(bench.state.volumes.get('csv1')?.generation).toBe(generation)
  expect(bench.state.liveVolumes.get('csv1')?.why).toMatch(/^san-b can't serve its LUN \(lun-failed .* 5 bytes/)
  bench.holdBack = () => false
  pass(bench, 8_000)
  expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
})

describe('operators', () => {
  it('make a leg on a storage that may be another than it was: it is told which hosts are admitted before it is synced', () => {
    const bench = mirrored()
    bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-b' })
    pass(bench, 2_000)
    bench.holdBack = key => key.startsWith('admit/host-b/')
    bench.command({ kind: 'volume-mirror', name: 'csv1', storage: 'san-b' })
    pass(bench, 8_000)
    expect(bench.state.hosts.get('host-b')).toMatchObject({ phase: 'admitted', admitOwed: ['san-b'] })
    expect(roles(bench)).toBe('san-a in-sync, san-b stale')
    bench.holdBack = () => false
    pass(bench, 8_000)
    expect(bench.state.hosts.get('host-b')).toMatchObject({ admitOwed: [] })
    expect(roles(bench)).toBe('san-a in-sync, san-b syncing')
  })

  it('take a leg away and make another, online', () => {
    const bench = mirrored()
    expect(bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-b' }).body).toMatchObject({ leg: 'leg-1' })
    expect(roles(bench)).toBe('san-a in-sync')
    pass(bench, 2_000)
    expect(volume(bench).retired).toEqual([])
    bench.sync = { done: true, disks: 1, synced: 1 }
    expect(bench.command({ kind: 'volume-mirror', name: 'csv1', storage: 'san-b' }).body).toMatchObject({
      leg: 'leg-2',
    })
    pass(bench, 8_000)
    expect(roles(bench)).toBe('san-a in-sync, san-b in-sync')
    expect(volume(bench).legs[1]).toMatchObject({ leg: 'leg-2', index: 1 })
  })

  it.each([
    ['an unknown volume', { kind: 'volume-mirror', name: 'nope', storage: 'san-b' }, 'unknown-volume'],
    ['an unknown storage', { kind: 'volume-mirror', name: 'csv1', storage: 'nope' }, 'unknown-storage'],
    ['the storage of a leg that is there', { kind: 'volume-mirror', name: 'csv1', storage: 'san-a' }, 'same-leg'],
    ['an unknown leg', { kind: 'volume-unmirror', name: 'csv1', leg: 'nope' }, 'unknown-leg'],
    ['nothing to resync', { kind: 'volume-resync', name: 'csv1' }, 'in-sync'],
    ['forcing what is in sync', { kind: 'volume-force-leg', name: 'csv1', leg: 'san-a' }, 'in-sync'],
  ] as const)('are refused %s, and nothing is changed', (_what, command, code) => {
    const bench = mirrored()
    const before = JSON.stringify(volume(bench))
    expect(bench.command(command).refused).toBe(code)
    expect(JSON.stringify(volume(bench))).toBe(before)
  })

  it('are refused the last in-sync leg, and forcing a stale one while a VM has a disk there', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    expect(bench.command({ kind: 'volume-unmirror', name: 'csv1', leg: 'san-a' }).refused).toBe('last-leg')
    expect(bench.command({ kind: 'volume-force-leg', name: 'csv1', leg: 'san-b' }).refused).toBe('volume-in-use')
  })

  it('force a stale leg while what a VM had in flight waits for the other, once its guest has ended', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    bench.holdBack = key => key.startsWith('stop/')
    bench.command({ kind: 'vm-stop', name: 'web-1' })
    const machine = [...bench.hosts.values()].flatMap(host => host.machines).find(({ vm }) => vm === 'web-1')!
    for (const [state, code] of [
      ['running', 'volume-in-use'],
      ['stopping', 'volume-in-use'],
      ['draining', undefined],
    ] as const) {
      for (const host of bench.hosts.values()) {
        host.machines = host.machines.map(each => (each.vm === 'web-1' ? { ...machine, state } : each))
      }
      pass(bench, 2_000)
      expect(bench.command({ kind: 'volume-force-leg', name: 'csv1', leg: 'san-b' }).refused, state).toBe(code)
    }
    expect(volume(bench).legs).toMatchObject([{ role: 'stale', lastInSync: null }, { role: 'in-sync' }])
  })

  it('force a stale leg once nothing runs there; the other one is copied whole', () => {
    const bench = mirrored()
    lose(bench, 'leg-1')
    bench.command({ kind: 'vm-stop', name: 'web-1' })
    pass(bench, 8_000)
    bench.command({ kind: 'volume-force-leg', name: 'csv1', leg: 'san-b' })
    expect(volume(bench).legs).toMatchObject([{ role: 'stale', lastInSync: null }, { role: 'in-sync' }])
  })
})

describe('after a restore, by what storages were told last', () => {
  const record = {
    name: 'csv1',
    generation: 3,
    unsure: true,
    legs: [
      { leg: 'leg-0', storage: 'san-a', lun: 'csv1', index: 0, role: 'in-sync', lastInSync: null, lunOwed: false },
      { leg: 'leg-1', storage: 'san-b', lun: 'csv1', index: 1, role: 'in-sync', lastInSync: null, lunOwed: false },
    ],
  } as unknown as VolumeRecord
  const told = (generation: number, a: string, b: string): LegMarks =>
    ({ generation, id: 'x', legs: { 'leg-0': a, 'leg-1': b } }) as LegMarks

  it('a volume is at the highest generation found, where all that is in sync in it answers', () => {
    const marks = new Map([
      ['san-a', told(5, 'in-sync', 'stale')],
      ['san-b', told(4, 'in-sync', 'in-sync')],
    ])
    expect(judgeMarks(record, marks)).toMatchObject({
      generation: 5,
      unsure: false,
      legs: [{ role: 'in-sync' }, { role: 'stale', lastInSync: null }],
    })
  })

  it('a leg that came in sync and was never told so is copied anew from the one that was told: neither waits for the other', () => {
    const marks = new Map([
      ['san-a', told(5, 'in-sync', 'in-sync')],
      ['san-b', told(4, 'in-sync', 'syncing')],
    ])
    expect(judgeMarks(record, marks)).toMatchObject({
      generation: 5,
      legs: [{ role: 'in-sync' }, { role: 'stale', lastInSync: null }],
    })
  })

  it('a generation that only the storage of the leg that catches up was told is not waited for: another one follows', () => {
    const marks = new Map([
      ['san-a', told(4, 'in-sync', 'stale')],
      ['san-b', told(5, 'in-sync', 'syncing')],
    ])
    expect(judgeMarks(record, marks)).toMatchObject({
      untold: { generation: 5, legs: [{ role: 'in-sync' }, { role: 'stale', lastInSync: null }] },
    })
    const bench = mirrored()
    const before = volume(bench)
    bench.state.volumes.set('csv1', { ...before, unsure: true, generation: 3 })
    const out = new StepOutput(bench.state, 0)
    for (const [storage, told] of [...marks].reverse()) {
      const lun = { lun: 'csv1', id: before.id, generation: told.generation, generationId: told.id, legs: told.legs }
      marksHeard(bench.state, 'csv1', storage, [lun as unknown as LunShown], out)
    }
    expect(volume(bench)).toMatchObject({ generation: 6, unsure: false, generationOwed: ['san-a'] })
    // Another LUN under that name says nothing of this volume.
    bench.state.volumes.set('csv1', { ...before, unsure: true })
    marksHeard(bench.state, 'csv1', 'san-a', [{ lun: 'csv1', id: 'other', generation: 9 } as unknown as LunShown], out)
    expect(volume(bench).unsure).toBe(true)
  })

  it('a volume that was being made a mirror has what its one leg had: the copy says which that is', () => {
    const [a, b] = record.legs
    const made = {
      ...record,
      generation: 0,
      legs: [a, { ...b, role: 'stale', lunOwed: true }],
    } as unknown as VolumeRecord
    const own = { generation: 0, id: null, legs: {} }
    expect(judgeMarks(made, new Map([['san-a', own]]))).toMatchObject({
      ...{ generation: 0, unsure: false, legs: [{ role: 'in-sync' }, { role: 'stale' }] },
    })
    expect(judgeMarks(made, new Map([['san-b', own]]))).toMatch(/san-a has not answered/)
    expect(judgeMarks(record, new Map([['san-a', own]]))).toMatch(/no storage knows a generation of it/)
  })

  it('a leg that was left behind is not taken for the volume', () => {
    expect(judgeMarks(record, new Map([['san-b', told(4, 'in-sync', 'in-sync')]]))).toMatch(/san-a has not answered/)
    expect(judgeMarks(record, new Map())).toMatch(/no storage has told/)
  })
})
