// A cluster is restored from a copy, and a storage of a mirror is gone with the coordinator: what may be asked of that volume, and
// when it may go on with the leg that is left.

import type { Json } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import { whyOf } from '../view/why.ts'
import { copyOf, restoreFrom } from './cluster-copy.ts'
import type { Command } from './commands.ts'
import { mapOf } from './map.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const volume = (bench: Bench) => bench.state.volumes.get('csv1')!
const roles = (bench: Bench) => volume(bench).legs.map(({ storage, role }) => `${storage} ${role}`)
const force = (bench: Bench, leg: string) => bench.command({ kind: 'volume-force-leg', name: 'csv1', leg })
const copied = (bench: Bench) => JSON.parse(JSON.stringify(copyOf(bench.state))) as Json
const marksOf = (generation: number, a: string, b: string) => ({
  ...{ generation, generationId: `of-${generation}` },
  legs: { 'leg-0': a, 'leg-1': b },
})

function mirrored(storages: readonly string[] = ['san-a', 'san-b'], external: readonly string[] = []): Bench {
  const bench = new Bench(external)
  for (const name of HOSTS) bench.join(name)
  bench.round(2)
  bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages })
  bench.round(4)
  bench.createVm('web')
  bench.round(4)
  expect(bench.placement('web')).toMatchObject({ phase: 'running' })
  return bench
}

interface Loss {
  readonly copy?: Json
  readonly lost?: string
  readonly hosts?: readonly string[]
  readonly external?: readonly string[]
  readonly holdBack?: (key: string) => boolean
}

/** Without one of its storages, and with these of its hosts. */
function restored(bench: Bench, { copy, lost = 'san-b', hosts = HOSTS, external = [], holdBack }: Loss = {}): Bench {
  const after = new Bench(external)
  after.holdBack = key => key.endsWith(`/${lost}`) || holdBack?.(key) === true
  for (const [key, marks] of bench.marks) after.marks.set(key, marks)
  after.store.commit(restoreFrom(copy ?? copied(bench), 0))
  after.restart()
  for (const name of hosts) after.join(name).storages = ['san-a', 'san-b', ...external].filter(each => each !== lost)
  after.now += 3_000
  after.input({ kind: 'unanswered', key: `run/${lost}`, code: 'deadline', message: 'no answer' })
  after.round(20)
  return after
}

/** The lost storage is there again, with what it was told. */
function comesBack(bench: Bench): void {
  bench.holdBack = () => false
  for (const host of bench.hosts.values()) host.storages = ['san-a', 'san-b']
}

describe('while it is not known which legs of a volume count', () => {
  it.each<readonly [string, Command]>([
    ['to take a leg away', { kind: 'volume-unmirror', name: 'csv1', leg: 'san-b' }],
    ['another leg', { kind: 'volume-mirror', name: 'csv1', storage: 'san-b' }],
    ['a resync', { kind: 'volume-resync', name: 'csv1' }],
    ['a scrub', { kind: 'volume-scrub', name: 'csv1', leg: null }],
  ])('operators are refused %s, told what is waited for, and nothing is changed', (_what, command) => {
    const bench = restored(mirrored())
    const before = JSON.stringify(volume(bench))
    expect(bench.command(command)).toMatchObject({
      refused: 'volume-unsure',
      message: expect.stringMatching(
        /^after the restore .* "csv1" count: san-b has not answered, whose leg is in sync/,
      ),
      hint: expect.stringMatching(/--force-stale san-a$/),
    })
    expect(JSON.stringify(volume(bench))).toBe(before)
    const why = () => whyOf(bench.state, 'volume', 'csv1', [], bench.now)?.now.join(' ')
    expect(why()).toContain('not known after the restore: san-b has not answered')
    comesBack(bench)
    bench.round(20)
    expect([roles(bench), volume(bench).generation]).toEqual([['san-a in-sync', 'san-b in-sync'], 1])
    expect(why()).not.toContain('not known')
    expect(bench.placement('web')).toMatchObject({ phase: 'running' })
  })

  it('a leg is not given up for a host’s word', () => {
    const bench = restored(mirrored())
    const before = JSON.stringify(volume(bench))
    const report = { volume: 'csv1', host: 'host-a', hostEpoch: 1, generation: 1, leg: 'leg-1', why: 'gone' }
    bench.ask(request => ({ kind: 'leg-lost', request, report }))
    expect(JSON.stringify(volume(bench))).toBe(before)
  })
})

describe('the leg that is left is forced (IO1, FEN1)', () => {
  it('where every host has ended what it ran: it is the only one in sync, above all that any storage told, and all starts again', () => {
    const before = mirrored()
    const copy = copied(before)
    before.marks.set('san-a/csv1', marksOf(5, 'in-sync', 'in-sync'))
    const bench = restored(before, { copy })
    expect(bench.orders.some(({ message }) => message === 'vm.start')).toBe(false)
    expect(force(bench, 'san-a').body).toEqual({ volume: 'csv1', leg: 'leg-0' })
    expect(volume(bench)).toMatchObject({
      unsure: false,
      legs: [{ role: 'in-sync' }, { role: 'stale', lastInSync: null }],
    })
    expect(volume(bench).generation).toBeGreaterThan(1_000_000)
    bench.round(20)
    for (const { name, epoch } of bench.state.hosts.values()) {
      bench.input({ kind: 'unanswered', key: `admit/${name}/${epoch}/san-b`, code: 'deadline', message: 'no answer' })
    }
    bench.round(20)
    expect(bench.marks.get('san-a/csv1')).toMatchObject({ generation: volume(bench).generation })
    expect(bench.orders.some(({ message }) => message === 'vm.start')).toBe(true)
    expect(bench.placement('web')).toMatchObject({ phase: 'running' })
  })

  it('its first owner takes away what hosts have marked; nothing is attached before that, and nothing taken away afterwards', () => {
    const before = mirrored()
    const copy = copied(before)
    before.marks.set('san-a/csv1', marksOf(5, 'in-sync', 'in-sync'))
    const bench = restored(before, { copy })
    force(bench, 'san-a')
    bench.ownersSay = { state: 'opening' }
    const inMap = () => mapOf(bench.state).volumes.find(({ name }) => name === 'csv1')
    bench.round(20)
    for (const { name, epoch } of bench.state.hosts.values()) {
      bench.input({ kind: 'unanswered', key: `admit/${name}/${epoch}/san-b`, code: 'deadline', message: 'no answer' })
    }
    bench.round(20)
    expect(inMap()).toMatchObject({ forced: 1, emptySlots: true })
    expect(bench.orders.some(({ message }) => message === 'vm.start')).toBe(false)
    bench.ownersSay = { state: 'serving' }
    bench.round(20)
    expect(inMap()).toMatchObject({ forced: 1 })
    expect(inMap()).not.toHaveProperty('emptySlots')
    expect(bench.orders.some(({ message }) => message === 'vm.start')).toBe(true)
  })

  it('and the other one, which went on alone before it was lost, is copied whole when it comes back: it is never believed', () => {
    const before = mirrored()
    const copy = copied(before)
    before.marks.set('san-b/csv1', marksOf(9, 'stale', 'in-sync'))
    const bench = restored(before, { copy })
    force(bench, 'leg-0')
    bench.round(4)
    const forced = volume(bench).generation
    comesBack(bench)
    bench.sync = { done: false, disks: 1, synced: 0 }
    bench.round(40)
    expect(roles(bench)).toEqual(['san-a in-sync', 'san-b syncing'])
    expect(volume(bench).legs[1]).toMatchObject({ lastInSync: null })
    expect(bench.marks.get('san-b/csv1')?.generation).toBeGreaterThan(forced)
    // Nor by the next restore, from whatever copy.
    const again = restored(bench, { copy, lost: 'nobody' })
    again.round(20)
    expect(roles(again)[0]).toBe('san-a in-sync')
    expect(volume(again).generation).toBeGreaterThan(forced)
  })

  it('which has old and new side by side: that is said', () => {
    const before = mirrored()
    before.marks.set('san-b/csv1', marksOf(6, 'in-sync', 'syncing'))
    expect(force(restored(before, { lost: 'san-a' }), 'san-b').body).toMatchObject({ leg: 'leg-1', mixed: true })
  })

  it('on a storage that keeps no marks, as the copy has it', () => {
    const bench = restored(mirrored(['san-b', 'nas'], ['nas']), { external: ['nas'] })
    expect(roles(bench)).toEqual(['san-b in-sync', 'nas in-sync'])
    bench.round(10)
    expect(force(bench, 'nas').body).toEqual({ volume: 'csv1', leg: 'leg-1' })
    expect(roles(bench)).toEqual(['san-b stale', 'nas in-sync'])
  })

  it('after hosts are lost, too, when an operator says that they are off, also of one that ran nothing', () => {
    const bench = restored(mirrored(), { hosts: ['host-a'] })
    bench.round(20)
    for (const name of ['host-b', 'host-c']) {
      expect(force(bench, 'san-a')).toMatchObject({
        refused: 'host-not-attested',
        message: expect.stringContaining(name),
      })
      bench.command({ kind: 'host-confirm-dead', name })
    }
    expect(force(bench, 'san-a').body).toMatchObject({ leg: 'leg-0' })
  })
})

describe('a leg is not forced', () => {
  function refusal(bench: Bench, leg: string): string | undefined {
    const before = JSON.stringify(volume(bench))
    const { refused } = force(bench, leg)
    expect(JSON.stringify(volume(bench))).toBe(before)
    return refused
  }

  it('whose own storage has not told', () => {
    expect(refusal(restored(mirrored()), 'san-b')).toBe('leg-not-heard')
  })

  it('that never had everything', () => {
    const before = mirrored(['san-a'])
    before.command({ kind: 'volume-mirror', name: 'csv1', storage: 'san-b' })
    const copy = copied(before)
    expect(refusal(restored(before, { copy, lost: 'san-a' }), 'san-b')).toBe('never-in-sync')
    // Nor while it gets everything for the first time.
    before.marks.set('san-b/csv1', marksOf(1, 'in-sync', 'syncing'))
    expect(refusal(restored(before, { copy, lost: 'san-a' }), 'san-b')).toBe('never-in-sync')
  })

  it('whose storage has not acknowledged the fence of a host', () => {
    const bench = restored(mirrored(), { holdBack: key => /^fence\/host-b\/.*\/san-a$/.test(key) })
    expect(refusal(bench, 'san-a')).toBe('fence-owed')
  })

  it('while a host has not ended what it ran', () => {
    const bench = restored(mirrored())
    const host = bench.hosts.get('host-c')!
    host.clean = false
    host.epoch = 1
    bench.state.liveHosts.get('host-c')!.clean = false
    expect(refusal(bench, 'san-a')).toBe('host-not-clean')
  })

  it('because a guardian attests the death of an agent that may have had a successor', () => {
    const before = mirrored()
    const { host } = before.placement('web')!
    const bench = restored(before, { hosts: HOSTS.filter(name => name !== host) })
    bench.round(20)
    bench.input({ kind: 'attest', request: 9_001, host, incarnation: 1 })
    expect(bench.state.hosts.get(host)?.fence).toMatchObject({ attestedIncarnation: 1 })
    expect(refusal(bench, 'san-a')).toBe('host-not-attested')
  })
})
