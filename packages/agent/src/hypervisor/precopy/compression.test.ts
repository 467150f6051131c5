// What is compressed, on links and towards targets of different speeds.

import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { CompressionChoice } from './compression.ts'

const PIECE = MIB
/** Ms for a MiB at 1 Gbit/s. */
const GIGABIT_MS = 8.4
const LIGHT = Buffer.alloc(PIECE, 'the same line of a log, again and again\n')
const DENSE = mixed(0.6)
const NOISE = mixed(1)
const RATIOS = new Map([
  [LIGHT, 0.01],
  [DENSE, 0.6],
  [NOISE, 1],
])

/** So much of it is noise. */
function mixed(share: number): Buffer {
  const words = new Uint32Array(PIECE / 4)
  let state = 0x9e3779b9
  for (let i = 0; i < words.length; i += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = (i % 64) / 64 < share ? state : 0
  }
  return Buffer.from(words.buffer)
}

interface Way {
  readonly pieces: (n: number) => Buffer
  readonly count: number
  /** What the link needs for a MiB, all of it; 0: it is never full. */
  readonly linkMs: (n: number) => number
  /** What compressing a dense piece takes of a thread. */
  readonly packMs?: number
  /** What everything takes at least, wherever: of a target, say, or of a machine that has no more to give. */
  readonly leastMs?: (isPacked: boolean) => number
}

/** A link whose window is full holds whoever writes for as long as what is written takes; compressing goes on meanwhile. */
function sent({ pieces, count, linkMs, packMs = 5, leastMs = () => 0 }: Way) {
  const choice = new CompressionChoice()
  const packed: number[] = []
  let now = 0
  let aheadMs = 0
  choice.drained(now)
  for (let n = 0; n < count; n += 1) {
    const piece = pieces(n)
    const kind = choice.choose([piece])
    const wireBytes = kind === null ? PIECE : PIECE * RATIOS.get(piece)!
    const threadMs = kind === null ? 0 : kind === 'light' ? 0.5 : packMs
    if (kind !== null) packed.push(n)
    // What the window holds is carried while a thread compresses; then it is filled again.
    const windowMs = 2 * linkMs(n)
    const idleMs = Math.max(0, threadMs - aheadMs)
    aheadMs = Math.max(0, aheadMs - threadMs) + (wireBytes / MIB) * linkMs(n)
    const fullMs = Math.max(0, aheadMs - windowMs, leastMs(kind !== null) - threadMs)
    aheadMs = Math.min(aheadMs, windowMs)
    const before = now
    now += threadMs + (fullMs > 0 ? 0 : idleMs)
    if (kind !== null) choice.packed(kind, PIECE, threadMs)
    choice.written(wireBytes, fullMs > 0 ? now : null)
    now += fullMs
    if (fullMs > 0) choice.drained(now)
    choice.taken(PIECE, now - before)
  }
  return { ms: now, packed, between: (from: number, to: number) => packed.filter(n => n >= from && n < to).length }
}

const gigabit = () => GIGABIT_MS

test('what a link carries in no time goes as it is', () => {
  expect(sent({ count: 1_000, pieces: () => LIGHT, linkMs: () => 0 }).packed).toEqual([])
})

test('what a link of 10 Gbit/s carries goes as it is', () => {
  expect(sent({ count: 1_000, pieces: () => LIGHT, linkMs: () => 0.84 }).packed).toEqual([])
})

test('on a link of 1 Gbit/s all that is light is compressed, but where the link is measured, and takes next to no time', () => {
  const { ms, packed } = sent({ count: 500, pieces: () => LIGHT, linkMs: gigabit })
  expect(packed.length).toBeGreaterThan(450)
  expect(ms / (500 * GIGABIT_MS)).toBeLessThan(0.25)
})

test('of what is dense all is compressed that takes a thread no longer than the link takes for it then', () => {
  const { ms, packed } = sent({ count: 500, pieces: () => DENSE, linkMs: gigabit, packMs: 4 })
  expect(packed.length).toBeGreaterThan(450)
  expect(ms / (500 * GIGABIT_MS)).toBeLessThan(0.7)
})

test('of what is dense only so much is compressed as hides behind what the link carries before, and that pays still', () => {
  const { ms, packed } = sent({ count: 500, pieces: () => DENSE, linkMs: gigabit, packMs: 10 })
  expect(packed.length).toBeGreaterThan(50)
  expect(packed.length).toBeLessThan(300)
  expect(ms / (500 * GIGABIT_MS)).toBeLessThan(1)
})

test.each([18, 25, 60])('a thread of %i ms for a dense MiB makes it hardly slower: a few pieces say so', packMs => {
  const { ms } = sent({ count: 500, pieces: () => DENSE, linkMs: gigabit, packMs })
  expect(ms / (500 * GIGABIT_MS)).toBeLessThan(1.06)
})

test.each([230, 260, 300, 330])(
  'a link that becomes three times slower at piece %i is compressed for all the more',
  at => {
    const linkMs = (n: number) => (n < at ? GIGABIT_MS : 3 * GIGABIT_MS)
    expect(sent({ count: 1_000, pieces: () => DENSE, linkMs, packMs: 4 }).between(500, 1_000)).toBeGreaterThan(400)
  },
)

test('what does not shrink goes as it is, and what follows it is compressed at once', () => {
  const { between } = sent({ count: 1_000, pieces: n => (n < 500 ? NOISE : LIGHT), linkMs: gigabit })
  expect(between(0, 500)).toBe(0)
  expect(between(500, 1_000)).toBeGreaterThan(400)
})

test('where all of it goes slower with compressing than without, it is left alone for a good while', () => {
  const leastMs = (isPacked: boolean) => (isPacked ? 12 : 8)
  const { packed } = sent({ count: 500, pieces: () => DENSE, linkMs: () => 8, packMs: 3, leastMs })
  expect(packed.length).toBeGreaterThan(0)
  expect(packed.length).toBeLessThan(60)
})

test('a link that has become fast is found out, and no more is compressed for it', () => {
  const linkMs = (n: number) => (n < 500 ? GIGABIT_MS : 0.84)
  const { between } = sent({ count: 2_000, pieces: () => DENSE, linkMs, packMs: 4 })
  expect(between(0, 500)).toBeGreaterThan(400)
  expect(between(800, 2_000)).toBe(0)
})

test('a link that has become slow is found out', () => {
  const { between } = sent({ count: 1_000, pieces: () => LIGHT, linkMs: n => (n < 500 ? 0.84 : GIGABIT_MS) })
  expect(between(0, 500)).toBe(0)
  expect(between(600, 1_000)).toBeGreaterThan(300)
})
