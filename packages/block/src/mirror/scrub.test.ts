// What a scrub does where two legs are not the same: it tells, and writes only what something says is right.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { afterEach, describe, expect, it } from 'vitest'
import type { BlockErrno } from '../device.ts'
import { ManualTimers } from '../nbd/testing/stream-pair.ts'
import type { Generation } from './generation.ts'
import { openMirror } from './mirror.ts'
import type { ScrubOptions } from './scrub.ts'
import { opener, TestStorage } from './testing/legs.ts'

const IO = { origin: 'scrub', deadlineAt: null }
const BLOCK = 4096
const LENGTH = 16 * BLOCK
const BOTH: Generation = { number: 1, legs: { a: 'in-sync', b: 'in-sync' } }
const ONLY_A: Generation = { number: 2, legs: { a: 'in-sync', b: 'stale' } }

const bytes = (value: number, length = BLOCK): Uint8Array[] => [new Uint8Array(length).fill(value)]
const turns = async (count = 5): Promise<void> => {
  for (let i = 0; i < count; i += 1) await new Promise(resolve => setImmediate(resolve))
}

async function bench() {
  const timers = new ManualTimers()
  const a = new TestStorage(BOTH)
  const b = new TestStorage(BOTH)
  const reports: string[] = []
  const mirror = await openMirror({
    generation: BOTH,
    open: opener({ a, b }),
    report: (leg, _, why) => reports.push(`${leg}: ${why}`),
    clock: { now: () => timers.now, wall: () => 0 },
    timers,
    config: { legDeadlineMs: 1_000, retryMs: 100 },
  })
  await mirror.write(0, bytes(1, LENGTH), {}, IO)
  const at = async (storage: TestStorage, block: number) =>
    Buffer.concat(await storage.disk.read(block * BLOCK, BLOCK, IO))[0]
  const scrub = (options: Partial<ScrubOptions> = {}) => mirror.scrub(0, LENGTH, { block: BLOCK, ...options }, IO)
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 100) {
      await timers.advance(100)
      await turns()
    }
  }
  return { mirror, a, b, at, scrub, reports, pass }
}

afterEach(() => canaries.clear())

describe('a scrub', () => {
  it('finds nothing where nothing differs, and writes nothing', async () => {
    const { a, b, scrub } = await bench()
    // A change of either leg would fail.
    a.failChanges = 'EIO' as BlockErrno
    b.failChanges = 'EIO' as BlockErrno
    expect(await scrub()).toEqual([])
  })

  it('tells what differs, as one where it hangs together, and copies neither over the other', async () => {
    const { b, at, scrub, a } = await bench()
    await b.disk.write(2 * BLOCK, bytes(2, 512), {}, IO)
    await b.disk.write(3 * BLOCK, bytes(2, 512), {}, IO)
    await a.disk.write(9 * BLOCK, bytes(3, 512), {}, IO)
    expect(await scrub()).toEqual([
      { kind: 'differs', offset: 2 * BLOCK, length: 2 * BLOCK, legs: ['a', 'b'], repaired: null, why: null },
      { kind: 'differs', offset: 9 * BLOCK, length: BLOCK, legs: ['a', 'b'], repaired: null, why: null },
    ])
    expect([await at(a, 2), await at(b, 2), await at(a, 9), await at(b, 9)]).toEqual([1, 2, 3, 1])
  })

  it('is seen to copy from the bad leg where that bug is planted', async () => {
    canaries.add('scrub-from-bad-copy')
    const { a, b, at, scrub } = await bench()
    await b.disk.write(2 * BLOCK, bytes(2), {}, IO)
    await scrub()
    expect(await at(a, 2)).toBe(2)
  })

  it('writes anew from the other leg what a leg cannot read, and only that', async () => {
    const { a, b, at, scrub } = await bench()
    a.latent.add(5)
    await a.disk.write(5 * BLOCK, bytes(0), {}, IO)
    b.latent.add(15)
    expect(await scrub()).toMatchObject([
      { kind: 'unreadable', offset: 5 * BLOCK, length: BLOCK, legs: ['a'], repaired: { leg: 'a', from: 'b' } },
      { kind: 'unreadable', offset: 15 * BLOCK, length: BLOCK, legs: ['b'], repaired: { leg: 'b', from: 'a' } },
    ])
    expect(await at(a, 5)).toBe(1)
    expect([...a.latent, ...b.latent]).toEqual([])
    expect(await scrub()).toEqual([])
  })

  it('tells what no leg can read, and reports no leg for it', async () => {
    const { a, b, scrub, reports, pass } = await bench()
    a.latent.add(5)
    b.latent.add(5)
    expect(await scrub()).toMatchObject([{ kind: 'unreadable', legs: ['a', 'b'], repaired: null }])
    await pass(500)
    expect(reports).toEqual([])
  })

  it('reports a leg that cannot take anew what it could not read', async () => {
    const { b, scrub, reports, pass } = await bench()
    b.latent.add(5)
    b.hopeless = true
    expect(await scrub()).toMatchObject([{ kind: 'unreadable', legs: ['b'], repaired: null }])
    await pass(200)
    expect(reports[0]).toMatch(/^b: it did not take 4096 bytes anew/)
  })

  it('copies from the leg whose checksum holds, and not where neither or both do', async () => {
    const { a, b, at, scrub } = await bench()
    await a.disk.write(2 * BLOCK, bytes(9), {}, IO)
    await b.disk.write(4 * BLOCK, bytes(9), {}, IO)
    await b.disk.write(6 * BLOCK, bytes(7), {}, IO)
    await b.disk.write(8 * BLOCK, bytes(8), {}, IO)
    const judge: ScrubOptions['judge'] = (_, copies) => {
      if (copies.some(copy => copy[0] === 8)) return 'either'
      const good = copies.flatMap((copy, i) => (copy[0] === 9 ? [] : [i]))
      return good.length === 1 ? good[0]! : null
    }
    expect(await scrub({ judge })).toMatchObject([
      { offset: 2 * BLOCK, repaired: { leg: 'a', from: 'b', by: 'checksum' } },
      { offset: 4 * BLOCK, repaired: { leg: 'b', from: 'a', by: 'checksum' } },
      { offset: 6 * BLOCK, repaired: null },
    ])
    expect([await at(a, 2), await at(b, 4), await at(b, 6), await at(b, 8)]).toEqual([1, 1, 7, 8])
  })

  it('copies from the leg an operator named, but not against a checksum', async () => {
    const { a, b, at, scrub } = await bench()
    await b.disk.write(2 * BLOCK, bytes(2), {}, IO)
    await b.disk.write(4 * BLOCK, bytes(9), {}, IO)
    const judge: ScrubOptions['judge'] = (_, copies) => {
      const good = copies.findIndex(copy => copy[0] !== 9)
      return copies.some(copy => copy[0] === 9) ? good : null
    }
    expect(await scrub({ goodLeg: 'b', judge })).toMatchObject([
      { offset: 2 * BLOCK, repaired: { leg: 'a', from: 'b', by: 'operator' } },
      { offset: 4 * BLOCK, repaired: { leg: 'b', from: 'a', by: 'checksum' } },
    ])
    expect([await at(a, 2), await at(b, 4)]).toEqual([2, 1])
  })

  it('waits for what is in flight there, and what comes waits for it', async () => {
    const { mirror, b, scrub } = await bench()
    b.held = []
    const order: string[] = []
    const first = mirror.write(0, bytes(3), {}, IO).then(() => order.push('first write'))
    const scrubbed = scrub().then(found => order.push(`scrub ${found.length}`))
    await turns()
    const second = mirror.write(BLOCK, bytes(4), {}, IO).then(() => order.push('second write'))
    await turns()
    expect(order).toEqual([])
    b.release()
    await Promise.all([first, scrubbed, second])
    expect(order).toEqual(['first write', 'scrub 0', 'second write'])
  })

  it('ends, having written nothing, when the generation changes', async () => {
    const { mirror, a, b, at, scrub } = await bench()
    await b.disk.write(0, bytes(2), {}, IO)
    b.held = []
    const ended = scrub({ goodLeg: 'b' }).then(
      () => 'done',
      (error: Error) => error.message,
    )
    await turns()
    a.raise(ONLY_A)
    mirror.follow(ONLY_A)
    await turns()
    b.release()
    expect(await ended).not.toBe('done')
    expect(await at(a, 0)).toBe(1)
  })

  it('reports a leg that does not answer it while the other does', async () => {
    const { b, scrub, reports, pass } = await bench()
    b.held = []
    const ended = scrub().catch(() => undefined)
    await pass(1_500)
    expect(reports[0]).toBe('b: a scrub was not answered within 1000 ms')
    b.release()
    await ended
  })
})
