// A mirror over two legs in memory: what is acknowledged when, what is held, and what becomes of it.

import { describe, expect, it } from 'vitest'
import { ManualTimers } from '../nbd/testing/stream-pair.ts'
import type { Generation } from './generation.ts'
import { openMirror } from './mirror.ts'
import { opener, SIZE, TestStorage } from './testing/legs.ts'
import {
  B_SYNCING,
  BOTH,
  bench,
  bytes,
  CONFIG,
  fate,
  generation,
  IO,
  ONLY_A,
  turns,
  valueAt,
} from './testing/mirror-bench.ts'

describe('MIR1: a change is acknowledged when every leg has it', () => {
  it('writes both legs before it answers', async () => {
    const { mirror, a, b } = await bench()
    b.held = []
    const write = mirror.write(0, bytes(1), { fua: true }, IO)
    expect(await fate(write)).toBe('held')
    expect(await valueAt(a, 0)).toBe(1)
    b.release()
    expect(await fate(write)).toBe('done')
    expect(await valueAt(b, 0)).toBe(1)
  })

  it('holds what a leg did not do until there is a generation without it', async () => {
    const { mirror, a, b, reports, raise } = await bench()
    b.failChanges = 'EIO'
    const write = mirror.write(0, bytes(2), { fua: true }, IO)
    expect(await fate(write)).toBe('held')
    expect(reports).toEqual(['b@1'])
    await raise(ONLY_A, a)
    expect(await fate(write)).toBe('done')
    expect(mirror.generation.number).toBe(2)
  })

  it('CSV2: writes nothing that waited for the lost leg to one that was behind, when an operator goes on with that', async () => {
    const { mirror, a, b, raise, pass } = await bench()
    await raise(ONLY_A, a)
    a.held = []
    const write = mirror.write(0, bytes(4), { fua: true }, IO)
    const read = mirror.read(8192, 4096, IO)
    expect([await fate(write), await fate(read)]).toEqual(['held', 'held'])
    const forced = generation(3, 'stale', 'in-sync')
    b.raise(forced)
    mirror.follow(forced)
    await pass(500)
    expect([await fate(write), await fate(read)]).toEqual(['EIO/none', 'EIO/none'])
    expect(await valueAt(b, 0)).toBe(0)
    // What is asked from then on is served.
    await mirror.write(0, bytes(5), { fua: true }, IO)
    expect(await valueAt(b, 0)).toBe(5)
  })

  it('asks once more where either leg has failed, each in its turn, and nobody can be told to do without one', async () => {
    const { mirror, a, b, reports, pass } = await bench()
    // Nobody hears of it: the coordinator is away.
    a.failChanges = 'ENOSPC'
    const first = mirror.write(0, bytes(1), { fua: true }, IO)
    expect(await fate(first)).toBe('held')
    a.failChanges = null
    b.held = []
    const second = mirror.write(8192, bytes(2), { fua: true }, IO)
    await pass(1_500)
    expect(new Set(reports)).toEqual(new Set(['a@1', 'b@1']))
    b.release()
    await pass(500)
    expect([await fate(first), await fate(second)]).toEqual(['done', 'done'])
    expect([await valueAt(a, 0), await valueAt(b, 8192)]).toEqual([1, 2])
    expect(mirror.generation.number).toBe(1)
  })

  it('does not acknowledge because it was told: only once the survivor lets it in', async () => {
    const { mirror, a, b, pass } = await bench()
    b.failChanges = 'EIO'
    const write = mirror.write(0, bytes(2), { fua: true }, IO)
    mirror.follow(ONLY_A)
    await pass(500)
    expect(await fate(write)).toBe('held')
    a.raise(ONLY_A)
    await pass(300)
    expect(await fate(write)).toBe('done')
  })

  it('learns of a generation from the storage that refuses the old one', async () => {
    const { mirror, a, raise, generations } = await bench()
    await raise(ONLY_A, a)
    expect(generations).toEqual([1, 2])
    await mirror.write(0, bytes(3), {}, IO)
    expect(await valueAt(a, 0)).toBe(3)
  })

  it('sends again what was under way on a leg whose connections the new generation drained', async () => {
    const { mirror, a, b, raise } = await bench()
    b.failChanges = 'EIO'
    a.held = []
    const write = mirror.write(0, bytes(4), { fua: true }, IO)
    await turns()
    a.held = null
    await raise(ONLY_A, a)
    expect(await fate(write)).toBe('done')
    expect(await valueAt(a, 0)).toBe(4)
  })

  it('refuses what every leg refuses, and reports none', async () => {
    const { mirror, a, b, reports } = await bench()
    a.failChanges = 'ENOSPC'
    b.failChanges = 'ENOSPC'
    expect(await fate(mirror.write(0, bytes(1), {}, IO))).toBe('ENOSPC/none')
    expect(reports).toEqual([])
  })

  it('gives the last in-sync leg’s error to whoever asked, and does not report that leg', async () => {
    const { mirror, a, reports } = await bench(ONLY_A)
    a.failChanges = 'EIO'
    expect(await fate(mirror.write(0, bytes(1), {}, IO))).toBe('EIO/none')
    expect(reports).toEqual([])
  })

  it('writes a syncing leg too', async () => {
    const { mirror, a, b } = await bench(B_SYNCING)
    await mirror.write(0, bytes(5), {}, IO)
    expect([await valueAt(a, 0), await valueAt(b, 0)]).toEqual([5, 5])
  })
})

describe('leg loss', () => {
  it('reports a leg that is slower than its deadline while the other serves', async () => {
    const { mirror, b, reports, pass } = await bench()
    b.held = []
    const write = mirror.write(0, bytes(1), {}, IO)
    await pass(900)
    expect(reports).toEqual([])
    await pass(200)
    expect(new Set(reports)).toEqual(new Set(['b@1']))
    expect(await fate(write)).toBe('held')
  })

  it('reports a leg that can’t be opened, again and again until there is another generation', async () => {
    const { b, a, reports, pass, raise } = await bench()
    b.down = true
    for (const leg of [...b.open]) leg.die('the storage is gone')
    await pass(1_500)
    expect(new Set(reports)).toEqual(new Set(['b@1']))
    expect(reports.length).toBeGreaterThan(2)
    await raise(ONLY_A, a)
    const before = reports.length
    await pass(2_000)
    expect(reports.length).toBe(before)
  })

  it('reports neither leg when both are away', async () => {
    const { a, b, reports, pass } = await bench()
    for (const storage of [a, b]) {
      storage.down = true
      for (const leg of [...storage.open]) leg.die('gone')
    }
    await pass(5_000)
    expect(reports).toEqual([])
  })

  it('goes on by itself when the leg comes back in time', async () => {
    const { mirror, b, reports, pass } = await bench()
    b.down = true
    for (const leg of [...b.open]) leg.die('gone')
    const write = mirror.write(0, bytes(6), {}, IO)
    await pass(300)
    expect(await fate(write)).toBe('held')
    b.down = false
    await pass(300)
    expect(await fate(write)).toBe('done')
    expect(await valueAt(b, 0)).toBe(6)
    expect(reports).toEqual([])
  })
})

describe('reads', () => {
  it('go to one in-sync leg, and never to a syncing one', async () => {
    const { mirror, a, b } = await bench(B_SYNCING)
    await mirror.read(0, 4096, IO)
    a.failReads = 'EIO'
    expect(await fate(mirror.read(0, 4096, IO))).toBe('EIO/none')
    expect([a.reads, b.reads]).toEqual([2, 0])
  })

  it('are answered by the other leg on an error, which is then written anew', async () => {
    const { mirror, a, b } = await bench()
    await mirror.write(0, bytes(7), {}, IO)
    await a.disk.write(0, bytes(0), {}, IO)
    a.failReads = 'EIO'
    const read = Buffer.concat(await mirror.read(0, 4096, IO))
    expect(read[0]).toBe(7)
    await turns()
    expect(await valueAt(a, 0)).toBe(7)
    expect(b.reads).toBeGreaterThan(0)
  })

  it('are answered once what a leg could not read is written anew: a drain must wait for that', async () => {
    const { mirror, a, b, pass } = await bench()
    await mirror.write(0, bytes(7), {}, IO)
    a.latent.add(0)
    const reading = mirror.read(0, 4096, IO)
    // Everything after the answers that A cannot read it.
    await Promise.resolve()
    a.held = []
    await pass(500)
    expect([await fate(reading), b.reads]).toEqual(['held', 2])
    a.release()
    expect(await fate(reading)).toBe('done')
    expect(a.latent.size).toBe(0)
  })

  it('report a leg that takes nothing anew in time, and are answered when there is a generation without it', async () => {
    const { mirror, a, b, reports, pass, raise } = await bench()
    await mirror.write(0, bytes(7), {}, IO)
    a.latent.add(0)
    const reading = mirror.read(0, 4096, IO)
    await Promise.resolve()
    a.held = []
    await pass(1_200)
    expect([await fate(reading), new Set(reports)]).toEqual(['held', new Set(['a@1'])])
    await raise(generation(2, 'stale', 'in-sync'), b)
    expect(await fate(reading)).toBe('done')
  })

  it('are asked of the other leg when one does not answer', async () => {
    const { mirror, a, pass } = await bench()
    await mirror.write(0, bytes(8), {}, IO)
    a.held = []
    const read = mirror.read(0, 4096, IO)
    await pass(700)
    expect(await fate(read)).toBe('done')
  })

  it('go to the other leg at once when the paths of the one that has them are gone', async () => {
    const { mirror, a, b } = await bench()
    await mirror.write(0, bytes(8), {}, IO)
    a.held = []
    const read = mirror.read(0, 4096, IO)
    expect(await fate(read)).toBe('held')
    for (const leg of a.open) leg.tell('waiting')
    expect(await fate(read)).toBe('done')
    expect([a.reads, b.reads]).toEqual([1, 1])
    // The late answer of the first is of no consequence.
    a.release()
    await turns()
    expect(Buffer.concat(await mirror.read(0, 4096, IO))[0]).toBe(8)
  })

  it('go to the first leg whose paths come back, where both had lost theirs', async () => {
    const { mirror, a, b } = await bench()
    for (const leg of [...a.open, ...b.open]) leg.tell('waiting')
    a.held = []
    const read = mirror.read(0, 4096, IO)
    expect(await fate(read)).toBe('held')
    for (const leg of b.open) leg.tell('up')
    expect(await fate(read)).toBe('done')
  })

  it('stay where they are while the other leg is only catching up', async () => {
    const { mirror, a, b } = await bench(B_SYNCING)
    a.held = []
    const read = mirror.read(0, 4096, IO)
    for (const leg of a.open) leg.tell('waiting')
    expect(await fate(read)).toBe('held')
    a.release()
    expect(await fate(read)).toBe('done')
    expect(b.reads).toBe(0)
  })

  it('wait while no leg is there', async () => {
    const { mirror, a, pass } = await bench(ONLY_A)
    a.down = true
    for (const leg of [...a.open]) leg.die('gone')
    const read = mirror.read(0, 4096, IO)
    await pass(3_000)
    expect(await fate(read)).toBe('held')
    a.down = false
    await pass(300)
    expect(await fate(read)).toBe('done')
  })
})

describe('copying, with the range to itself', () => {
  it('makes a range of the syncing leg equal', async () => {
    const { mirror, a, b } = await bench(B_SYNCING)
    await a.disk.write(8192, bytes(9), {}, IO)
    await mirror.copy(8192, 4096, IO)
    expect(await valueAt(b, 8192)).toBe(9)
  })

  it('waits for what is in flight there, and what comes waits for it', async () => {
    const { mirror, a, b } = await bench(B_SYNCING)
    b.held = []
    const first = mirror.write(0, bytes(1), {}, IO)
    await turns()
    const copy = mirror.copy(0, 4096, IO)
    const second = mirror.write(0, bytes(2), {}, IO)
    const elsewhere = mirror.write(65_536, bytes(3), {}, IO)
    await turns()
    expect(await valueAt(a, 65_536)).toBe(3)
    expect(await valueAt(a, 0)).toBe(1)
    b.release()
    await Promise.all([first, copy, second, elsewhere])
    expect([await valueAt(a, 0), await valueAt(b, 0)]).toEqual([2, 2])
  })

  it('reports a leg that does not take it: what waits for the range is in nobody else’s eye', async () => {
    const { mirror, a, b, reports, raise, pass } = await bench(B_SYNCING)
    b.held = []
    const copied = fate(mirror.copy(0, 4096, IO))
    const write = mirror.write(0, bytes(1), {}, IO)
    await pass(CONFIG.legDeadlineMs - 100)
    expect(reports).toEqual([])
    await pass(400)
    expect(reports).toContain(`b@${B_SYNCING.number}`)
    await raise(generation(B_SYNCING.number + 1, 'in-sync', 'stale'), a)
    expect(await copied).not.toBe('done')
    await write
    expect(await valueAt(a, 0)).toBe(1)
  })

  it('of the only leg that is written to asks nothing, whether it can be read there or not', async () => {
    const { mirror, a } = await bench(generation(5, 'in-sync', 'stale'))
    a.failReads = 'EIO'
    await mirror.copy(0, 4096, IO)
    expect(a.reads).toBe(0)
  })

  it('ends when the generation changes', async () => {
    const { mirror, a, b, raise } = await bench(B_SYNCING)
    b.held = []
    const copy = mirror.copy(0, 4096, IO)
    const ended = fate(copy)
    await turns()
    await raise(generation(4, 'in-sync', 'stale'), a)
    expect(await ended).not.toBe('done')
    await mirror.write(0, bytes(1), {}, IO)
    expect(await valueAt(a, 0)).toBe(1)
  })
})

it('rejects with an unknown outcome what was under way when it was aborted', async () => {
  const { mirror, b } = await bench()
  b.held = []
  const write = mirror.write(0, bytes(1), {}, IO)
  await turns()
  mirror.abort('the host is fenced')
  expect(await fate(write)).toBe('ESHUTDOWN/unknown')
  expect(await fate(mirror.write(0, bytes(1), {}, IO))).toBe('ESHUTDOWN/none')
  expect(SIZE).toBe(mirror.size)
})

it('outlives any number of replaced legs, whatever a request has in hand meanwhile', async () => {
  const timers = new ManualTimers()
  const storages: { [leg: string]: TestStorage } = { a: new TestStorage(BOTH), 'leg-0': new TestStorage(BOTH) }
  const first: Generation = { number: 1, legs: { a: 'in-sync', 'leg-0': 'in-sync' } }
  for (const storage of Object.values(storages)) storage.raise(first)
  const mirror = await openMirror({
    ...{ generation: first, open: opener(storages), report: () => undefined, timers, config: CONFIG },
    clock: { now: () => timers.now, wall: () => 0 },
  })
  for (let i = 1; i <= 100; i += 1) {
    // Held by the leg that goes: done when there is a generation without it.
    const gone = storages[`leg-${i - 1}`]!
    gone.held = []
    const write = mirror.write(0, bytes(i), {}, IO)
    await turns()
    expect(await fate(write)).toBe('held')
    const [syncing, synced] = (['syncing', 'in-sync'] as const).map(
      (role, j): Generation => ({ number: 2 * i + j, legs: { a: 'in-sync', [`leg-${i}`]: role } }),
    )
    storages[`leg-${i}`] = new TestStorage(syncing!)
    for (const next of [syncing!, synced!]) {
      for (const storage of [storages['a']!, storages[`leg-${i}`]!]) storage.raise(next)
      mirror.follow(next)
      await timers.advance(300)
      await turns()
    }
    expect(mirror.generation.number).toBe(2 * i + 1)
    expect(await fate(write)).toBe('done')
    for (const leg of ['a', `leg-${i}`]) expect(await valueAt(storages[leg]!, 0)).toBe(i)
  }
})
