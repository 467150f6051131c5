// A trace followed while it is written: each record once, in order, whatever the polls find half written or rotated.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { expect, test } from 'vitest'
import { MemoryFiles } from '../testing/memory-files.ts'
import { SegmentEncoder } from './segment-encoder.ts'
import { TraceTail } from './tail.ts'

const record = (seq: number): TraceRecord => ({
  hlc: { wallMs: seq, counter: 0 },
  ...{ at: seq, process: 'san-a', seq, level: 'decision', kind: 'storage.fenced', body: { epoch: seq } },
})

const pathOf = (number: number) => `trace/${String(number).padStart(8, '0')}.trace`

/** Segments of so many records each. */
function segments(counts: readonly number[]): Buffer[] {
  let seq = 0
  return counts.map(count => {
    const parts: Buffer[] = []
    const sink = { begin: () => undefined, append: (bytes: Uint8Array) => void parts.push(Buffer.from(bytes)) }
    const encoder = new SegmentEncoder({ process: 'san-a', cluster: 'c' }, sink)
    for (let i = 0; i < count; i++) encoder.write(record(++seq))
    encoder.flush()
    return Buffer.concat(parts)
  })
}

const poll = async (tail: TraceTail) => (await Array.fromAsync(tail.poll())).flat().map(({ seq }) => seq)

test('however the bytes come, each record comes once and in order', async () => {
  const files = new MemoryFiles()
  const errors: unknown[] = []
  const onError = (error: unknown) => void errors.push(error)
  const tail = new TraceTail(files, 'trace', { onDamaged: onError, onGap: onError })
  expect(await poll(tail)).toEqual([])
  const heard: number[] = []
  for (const [i, bytes] of segments([7, 0, 5, 9]).entries()) {
    for (let end = 0; end < bytes.length; end += 13) {
      files.contents.set(pathOf(i + 1), bytes.subarray(0, end))
      heard.push(...(await poll(tail)))
    }
    files.contents.set(pathOf(i + 1), bytes)
  }
  heard.push(...(await poll(tail)))
  expect(heard).toEqual(Array.from({ length: 21 }, (_, i) => i + 1))
  expect(await poll(tail)).toEqual([])
  expect(errors).toEqual([])
  expect(files.opened).toBe(0)
})

test('segments that are rotated out between two polls are a gap, told of once', async () => {
  const files = new MemoryFiles()
  const gaps: string[] = []
  const tail = new TraceTail(files, 'trace', { onGap: error => gaps.push(error.message) })
  const [first, , third] = segments([3, 3, 3])
  files.contents.set(pathOf(1), first!)
  expect(await poll(tail)).toEqual([1, 2, 3])
  files.contents.delete(pathOf(1))
  files.contents.set(pathOf(3), third!)
  expect(await poll(tail)).toEqual([7, 8, 9])
  expect(await poll(tail)).toEqual([])
  expect(gaps).toEqual(['3 trace records are missing before number 7'])
})

test('what is damaged is told of once, however often it is looked at', async () => {
  const files = new MemoryFiles()
  const damages: string[] = []
  const tail = new TraceTail(files, 'trace', { onDamaged: error => damages.push(error.message) })
  const [bytes] = segments([3])
  // The length of the second record.
  const at = bytes!.length - 2 * ((bytes!.length - segments([1])[0]!.length) / 2)
  bytes!.fill(0xee, at, at + 8)
  files.contents.set(pathOf(1), bytes!)
  expect(await poll(tail)).toEqual([1])
  expect(await poll(tail)).toEqual([])
  expect(damages).toEqual([expect.stringMatching(/the length is wrong/)])
})
