// Zeroes that a mirror is to write fast, over legs that can't all.

import { describe, expect, it } from 'vitest'
import { type Bench, bench, bytes, fate, IO, ONLY_A, turns, valueAt } from './testing/mirror-bench.ts'

describe('MIR1: zeroes that are to be written fast', () => {
  const FAST = { fua: true, fast: true } as const

  async function written(): Promise<Bench> {
    const made = await bench()
    await made.mirror.write(0, bytes(7), {}, IO)
    return made
  }

  it('are refused where no leg can, and nothing has changed', async () => {
    const { mirror, a, b, reports, pass } = await written()
    a.isSlowToZero = true
    b.isSlowToZero = true
    expect(await fate(mirror.zero(0, 4096, FAST, IO))).toBe('ENOTSUP/none')
    await pass(2_000)
    expect([await valueAt(a, 0), await valueAt(b, 0), reports]).toEqual([7, 7, []])
  })

  it.each(['a', 'b'] as const)(
    'are written slowly by %s when only the other can: it is not given up for it',
    async slow => {
      const { mirror, a, b, reports, pass } = await written()
      const legs = { a, b }
      legs[slow].isSlowToZero = true
      expect(await fate(mirror.zero(0, 4096, FAST, IO))).toBe('done')
      await pass(2_000)
      expect([await valueAt(a, 0), await valueAt(b, 0), reports]).toEqual([0, 0, []])
      expect(mirror.generation.number).toBe(1)
    },
  )

  it('wait for what the other leg says before they are refused or written', async () => {
    const { mirror, a, b } = await written()
    a.isSlowToZero = true
    b.held = []
    const zero = mirror.zero(0, 4096, FAST, IO)
    expect([await fate(zero), await valueAt(a, 0)]).toEqual(['held', 7])
    b.release()
    expect([await fate(zero), await valueAt(a, 0), await valueAt(b, 0)]).toEqual(['done', 0, 0])
  })

  it('are written slowly where the other leg fails: that one is in trouble, not the slow one', async () => {
    const { mirror, a, b, reports, raise } = await written()
    a.isSlowToZero = true
    b.failChanges = 'EIO'
    const zero = mirror.zero(0, 4096, FAST, IO)
    expect(await fate(zero)).toBe('held')
    expect([reports, await valueAt(a, 0)]).toEqual([['b@1'], 0])
    await raise(ONLY_A, a)
    expect(await fate(zero)).toBe('done')
  })

  it('are refused by the only leg that is left when it cannot, whatever the one that was given up has done', async () => {
    const { mirror, a, b, raise, pass } = await written()
    a.isSlowToZero = true
    b.held = []
    const zero = mirror.zero(0, 4096, FAST, IO)
    zero.catch(() => undefined)
    await pass(500)
    await raise(ONLY_A, a)
    expect([await fate(zero), await valueAt(a, 0)]).toEqual(['ENOTSUP/none', 7])
  })

  it('are of unknown outcome when a leg that may have done it before its connection broke will not do it fast again', async () => {
    const { mirror, a, b, pass } = await written()
    a.isSlowToZero = true
    b.held = []
    const zero = mirror.zero(0, 4096, FAST, IO)
    zero.catch(() => undefined)
    await turns()
    b.isSlowToZero = true
    b.held = null
    for (const leg of [...b.open]) leg.die('the connection broke')
    await pass(500)
    expect(await fate(zero)).toBe('ENOTSUP/unknown')
  })
})
