// A mirror over two legs in memory, with its time in the test's hands.

import type { BlockErrno } from '../../device.ts'
import { ManualTimers } from '../../nbd/testing/stream-pair.ts'
import type { Generation, LegRole } from '../generation.ts'
import { type MirrorDevice, openMirror } from '../mirror.ts'
import { opener, TestStorage } from './legs.ts'

export const IO = { origin: 'test', deadlineAt: null }
export const CONFIG = { legDeadlineMs: 1_000, retryMs: 100 }

export const generation = (number: number, a: LegRole, b: LegRole): Generation => ({ number, legs: { a, b } })
export const BOTH = generation(1, 'in-sync', 'in-sync')
export const ONLY_A = generation(2, 'in-sync', 'stale')
export const B_SYNCING = generation(3, 'in-sync', 'syncing')

export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise(resolve => setImmediate(resolve))
}

export interface Bench {
  readonly mirror: MirrorDevice
  readonly a: TestStorage
  readonly b: TestStorage
  readonly timers: ManualTimers
  readonly reports: string[]
  readonly generations: number[]
  raise(generation: Generation, ...at: TestStorage[]): Promise<void>
  pass(ms: number): Promise<void>
}

export async function bench(first: Generation = BOTH): Promise<Bench> {
  const timers = new ManualTimers()
  const a = new TestStorage(first)
  const b = new TestStorage(first)
  const reports: string[] = []
  const generations: number[] = []
  const mirror = await openMirror({
    generation: first,
    open: opener({ a, b }),
    report: (leg, number) => reports.push(`${leg}@${number}`),
    onGeneration: ({ number }) => generations.push(number),
    clock: { now: () => timers.now, wall: () => 0 },
    timers,
    config: CONFIG,
  })
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 100) {
      await timers.advance(100)
      await turns()
    }
  }
  return {
    mirror,
    a,
    b,
    timers,
    reports,
    generations,
    pass,
    raise: async (next, ...at) => {
      for (const storage of at) storage.raise(next)
      await pass(300)
    },
  }
}

export const bytes = (value: number, length = 4096): Uint8Array[] => [new Uint8Array(length).fill(value)]

export async function valueAt(storage: TestStorage, offset: number): Promise<number> {
  return Buffer.concat(await storage.disk.read(offset, 512, IO))[0]!
}

/** `done`, an errno, or `held`. */
export async function fate(promise: Promise<unknown>): Promise<string> {
  const settled = promise.then(
    () => 'done',
    error => `${(error as { errno: BlockErrno }).errno}/${(error as { outcome: string }).outcome}`,
  )
  await turns()
  return Promise.race([settled, Promise.resolve('held')])
}
