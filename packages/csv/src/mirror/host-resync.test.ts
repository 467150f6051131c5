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

function resyncing(busy: () => boolean) {
  const timers = new HandTimers()
  const copies: { offset: number; length: number }[] = []
  const owner = async (kind: string) => (kind === 'volume.sync-plan' ? { ranges: [0, REGIONS * MIB], next: null } : {})
  const resync = new HostResync({
    volume: 'csv1',
    host: 'host-a',
    regionBytes: MIB,
    owner: owner as unknown as OwnerCall,
    copy: async (offset, length) => {
      copies.push({ offset, length })
    },
    pace: { bytesPerSecond: () => MIB, busy },
    env: { clock: timers, timers, trace: new Records() },
  })
  const holding = () => ({ volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1, committed: false })
  resync.add({ id: 'web', holding, covers: () => () => true })
  resync.follow(SYNCING, new Set())
  return { timers, copies, copied: () => copies.reduce((sum, { length }) => sum + length, 0) }
}

describe('a resync', () => {
  it('takes whole regions, without a pause, while no guest is at work', async () => {
    const { timers, copies } = resyncing(() => false)
    await timers.advance(0)
    expect(copies).toEqual(Array.from({ length: REGIONS }, (_, i) => ({ offset: i * MIB, length: MIB })))
  })

  it('beside guests goes no faster than its rate, and in pieces that nobody waits long for', async () => {
    const { timers, copies, copied } = resyncing(() => true)
    await timers.advance(2_500)
    expect(copied()).toBe(3 * MIB)
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
})
