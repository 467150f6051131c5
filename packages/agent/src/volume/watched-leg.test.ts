import type { BlockDevice } from '@stellwerk/block/device.ts'
import { BlockError, FULL_CAPS } from '@stellwerk/block/device.ts'
import { expect, it } from 'vitest'
import { WatchedLeg } from './watched-leg.ts'

const IO = { origin: 'test', deadlineAt: null }

/** A leg whose requests are answered when the test says so. */
function watchedLeg() {
  const clock = { time: 1_000 }
  const asked: { origin: string; resolve: (data: Uint8Array[]) => void; reject: (error: Error) => void }[] = []
  const device = {
    size: 1 << 20,
    limits: { minimum: 512, preferred: 4096, maximum: 1 << 20 },
    caps: FULL_CAPS,
    read: (_offset: number, _length: number, { origin }: { origin: string }) =>
      new Promise<Uint8Array[]>((resolve, reject) => {
        asked.push({ origin, resolve, reject })
      }),
    onState: () => undefined,
  } as unknown as BlockDevice
  const leg = new WatchedLeg(device, { now: () => clock.time } as never)
  const settled = () => new Promise(resolve => setImmediate(resolve))
  return { leg, clock, asked, settled }
}

it('has served since a moment when it has answered anything after it, and is asked something if it has nothing to do', async () => {
  const { leg, clock, asked, settled } = watchedLeg()
  const since = clock.time
  expect(leg.hasServedSince(since)).toBe(false)
  expect(leg.hasServedSince(since)).toBe(false)
  expect(asked.map(({ origin }) => origin)).toEqual(['leg-watch'])
  clock.time += 5_000
  expect([leg.waitsMs, leg.troubledSince]).toEqual([5_000, since])
  asked[0]!.resolve([])
  await settled()
  expect(leg.hasServedSince(since)).toBe(true)
  expect(leg.hasServedSince(clock.time + 1)).toBe(false)
})

it('has not while what it is to answer waits there, as with a fault that all legs have', async () => {
  const { leg, clock, asked } = watchedLeg()
  void leg.read(0, 512, IO)
  clock.time += 4_000
  expect(leg.hasServedSince(1_000)).toBe(false)
  expect(asked).toHaveLength(1)
})

it('has not once it has failed, be it in the question itself', async () => {
  const { leg, clock, asked, settled } = watchedLeg()
  leg.hasServedSince(clock.time)
  clock.time += 10
  asked[0]!.reject(new BlockError('EIO', 'none', 'the disk is gone'))
  await settled()
  clock.time += 10
  expect([leg.failure, leg.troubledSince, leg.hasServedSince(0)]).toEqual(['the disk is gone', 1_000, false])
})

it.each([
  [
    'a read that is made from another leg instead',
    'volume-owner-copy',
    new BlockError('EIO', 'none', 'a bad spot'),
    false,
  ],
  ['such a read that the link, and no spot, has failed', 'volume-owner-copy', lost(), true],
  ['the owner’s own', 'volume-owner', new BlockError('EIO', 'none', 'a bad spot'), true],
  ['a scrub’s', 'scrub', lost(), false],
])('%s, by %s: whether it is its failure', async (_, origin, error, counts) => {
  const { leg, asked, settled } = watchedLeg()
  leg.read(0, 512, { origin, deadlineAt: null }).catch(() => undefined)
  asked[0]!.reject(error)
  await settled()
  expect(leg.failure !== null).toBe(counts)
})

function lost(): BlockError {
  return new BlockError('EIO', 'none', 'the link is gone', { retryable: true })
}
