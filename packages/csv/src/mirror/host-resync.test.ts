// How a host copies what a leg misses: as fast as it goes while nobody is at work, in small pieces and at its rate beside
// guests. That the right regions are copied, resync.test.ts proves.

import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import type { OwnerCall } from '../owner/request.ts'
import { Records } from '../testing/fixture.ts'
import { HandTimers } from '../testing/host-fixture.ts'
import { generation } from '../testing/mirror-fixture.ts'
import { HostResync } from './host-resync.ts'

const REGIONS = 4
const SYNCING = generation(3, ['in-sync', 'syncing'], [null, 1])

const done = (): PromiseWithResolvers<void> => {
  const gate = Promise.withResolvers<void>()
  gate.resolve()
  return gate
}

function resyncing(busy: () => boolean, reading = done(), writing = done()) {
  const timers = new HandTimers()
  const copies: { offset: number; length: number }[] = []
  const owner = async (kind: string) => (kind === 'volume.sync-plan' ? { ranges: [0, REGIONS * MIB], next: null } : {})
  const resync = new HostResync({
    volume: 'csv1',
    host: 'host-a',
    regionBytes: MIB,
    owner: owner as unknown as OwnerCall,
    copy: async (offset, length, mayWrite) => {
      await reading.promise
      if (!mayWrite()) throw new Error('not wanted')
      copies.push({ offset, length })
      await writing.promise
      return []
    },
    pace: { bytesPerSecond: () => MIB, busy },
    env: { clock: timers, timers, trace: new Records() },
  })
  const holding = () => ({ volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1, committed: false })
  const disk = {
    id: 'web',
    holding,
    covers: () => () => true,
    departures: { count: 0, mayCopy: () => 'yes' as const, forget: () => undefined },
  }
  resync.add(disk)
  resync.follow(SYNCING, new Set())
  return { resync, disk, timers, copies, copied: () => copies.reduce((sum, { length }) => sum + length, 0) }
}

describe('a resync', () => {
  it('takes whole regions, without a pause, while no guest is at work', async () => {
    const { timers, copies } = resyncing(() => false)
    await timers.advance(0)
    expect(copies).toEqual(Array.from({ length: REGIONS }, (_, i) => ({ offset: i * MIB, length: MIB })))
  })

  it('beside guests goes no faster than its rate, and in pieces that nobody waits long for', async () => {
    const { resync, timers, copies, copied } = resyncing(() => true)
    await timers.advance(2_500)
    expect(copied()).toBe(3 * MIB)
    expect(resync.progress?.copiedBytes).toBe(3 * MIB)
    await timers.advance(60_000)
    expect(copied()).toBe(REGIONS * MIB)
    expect(copies.map(({ offset }) => offset)).toEqual(copies.map((_, i) => i * 128 * KIB))
  })

  it('goes on at full speed when the guests have come to rest', async () => {
    let busy = true
    const { timers, copied } = resyncing(() => busy)
    await timers.advance(500)
    expect(copied()).toBe(MIB)
    busy = false
    await timers.advance(500)
    expect(copied()).toBe(REGIONS * MIB)
  })

  it('MIR1: of a disk that is given up nothing is written any more, not even what was read before', async () => {
    const reading = Promise.withResolvers<void>()
    const { resync, disk, timers, copies } = resyncing(() => false, reading)
    await timers.advance(0)
    await resync.remove(disk)
    reading.resolve()
    await timers.advance(60_000)
    expect(copies).toEqual([])
    // It comes back: everything is copied.
    resync.add(disk)
    await timers.advance(1_000)
    expect(copies.length).toBe(REGIONS)
  })

  it('MIR1: a disk is given up only when what is being written of it is', async () => {
    const writing = Promise.withResolvers<void>()
    const { resync, disk, timers, copies } = resyncing(() => false, done(), writing)
    await timers.advance(0)
    expect(copies.length).toBeGreaterThan(0)
    let over = false
    void resync.remove(disk).then(() => {
      over = true
    })
    await timers.advance(10_000)
    expect(over).toBe(false)
    writing.resolve()
    await timers.advance(0)
    expect(over).toBe(true)
  })

  it('a disk that comes back while it was being copied is copied from the beginning', async () => {
    const { resync, disk, timers, copies } = resyncing(() => true)
    await timers.advance(1_500)
    const before = copies.length
    expect(before).toBeGreaterThan(0)
    void resync.remove(disk)
    resync.add(disk)
    await timers.advance(60_000)
    expect(copies.slice(before).map(({ offset }) => offset)).toContain(0)
    expect(copies.slice(before).reduce((sum, { length }) => sum + length, 0)).toBe(REGIONS * MIB)
  })
})
