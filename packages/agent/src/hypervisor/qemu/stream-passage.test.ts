// QEMU's stream from one end to the other: in order whatever is compressed, compressed only where the link is what holds it up, and
// never much of it in memory.

import type { ByteStream, Compute } from '@stellwerk/runtime/environment.ts'
import { createCompute } from '@stellwerk/runtime/node/compute.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { createPipe } from '../precopy/pipe.ts'
import { createRealEnvironment } from '../testing/real-environment.ts'
import { changed } from '../testing/streams.ts'
import { type Framed, StreamDecoder } from './stream-format.ts'
import { StreamReceiver } from './stream-receiver.ts'
import { PIECE_BYTES, StreamSender } from './stream-sender.ts'

const CHUNK = 64 * 1024
const settle = () => new Promise(resolve => setImmediate(() => setImmediate(resolve)))

/** A clock that the link alone moves, by so many milliseconds for each MiB; and how often anything was compressed. */
function bench(msPerMib: number, takes = true) {
  const real = createCompute()
  let now = 0
  let compressed = 0
  const compute: Compute = {
    ...real,
    compress: data => {
      compressed += 1
      return takes ? real.compress(data) : Promise.reject(new Error('the pool is full'))
    },
  }
  const env = createRealEnvironment(compute)
  return {
    env: { ...env, clock: { ...env.clock, now: () => now } },
    /** All that passes takes its time. */
    link: (source: ByteStream): ByteStream =>
      changed(source, chunk => {
        now += (chunk.length / MIB) * msPerMib
        return chunk
      }),
    compressed: () => compressed,
  }
}

/** Text is half as long as zstd; every chunk is another. */
function content(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => Buffer.alloc(CHUNK, `a line of the file ${i}, again and again\n`))
}

async function passed(msPerMib: number, chunks: readonly Uint8Array[], takes = true) {
  const { env, link, compressed } = bench(msPerMib, takes)
  const pipe = createPipe('link')
  let space = Promise.withResolvers<void>()
  let most = 0
  const sender = new StreamSender(env, pipe.writer, () => space.resolve())
  const into = createPipe('into QEMU')
  const received: Uint8Array[] = []
  const loaded = new StreamReceiver(env.compute, link(pipe.reader), into.writer).run()
  into.reader.onData(chunk => received.push(chunk))
  let ahead = 0
  for (const chunk of chunks) {
    space = Promise.withResolvers()
    ahead += chunk.length
    most = Math.max(most, ahead)
    if (sender.take(chunk)) continue
    await space.promise
    ahead = 0
  }
  await sender.idle()
  sender.end({ n: 7 })
  const { stateChecksum, trailer } = await loaded
  await settle()
  expect(stateChecksum).toBe(sender.checksum)
  expect(trailer).toEqual({ n: 7 })
  expect(Buffer.concat(received).equals(Buffer.concat(chunks))).toBe(true)
  return { compressed: compressed(), most, shrinksTo: sender.shrinksTo, linkMs: sender.linkMs(MIB) }
}

test('a link that holds it up gets it compressed; the content, its order and its checksum are the same', async () => {
  const { compressed, most, shrinksTo, linkMs } = await passed(8, content(800))
  // By which a pause is forecast.
  expect(shrinksTo).toBeLessThan(0.5)
  expect(linkMs).toBeGreaterThan(4)
  expect(linkMs).toBeLessThan(16)
  expect(compressed).toBeGreaterThan(10)
  // One piece on its way to the link, one that is ready or being compressed, and one that gathers: then QEMU is held.
  expect(most).toBeLessThanOrEqual(3 * PIECE_BYTES + CHUNK)
})

test('a link that takes no time gets it as it is', async () => {
  expect(await passed(0, content(400))).toMatchObject({ compressed: 0, shrinksTo: 1, linkMs: 0 })
})

test('what does not shrink is not compressed', async () => {
  expect(await passed(8, Array.from({ length: 600 }, noise))).toMatchObject({ compressed: 0 })
})

test('what a pool has no room for goes as it is', async () => {
  const { compressed } = await passed(8, content(800), false)
  expect(compressed).toBeGreaterThan(10)
})

/** Of a small generator: what zstd makes no shorter. */
function noise(): Uint8Array {
  const bytes = new Uint32Array(CHUNK / 4)
  let state = 0x9e3779b9 + noises++
  for (let i = 0; i < bytes.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[i] = state
  }
  return Buffer.from(bytes.buffer)
}
let noises = 0

test('what is thrown away leaves no half of a piece and no end, and takes all that still comes', async () => {
  const { env } = bench(8)
  const pipe = createPipe('link')
  let spaces = 0
  const sender = new StreamSender(env, pipe.writer, () => spaces++)
  const [chunk = Buffer.alloc(0)] = content(1)
  while (sender.take(chunk));
  await settle()
  while (sender.take(chunk));
  spaces = 0
  sender.discard()
  expect(spaces).toBe(1)
  expect(Array.from({ length: 100 }, () => sender.take(chunk))).not.toContain(false)
  const decoder = new StreamDecoder()
  let bytes = 0
  const found: Framed[] = []
  pipe.reader.onData(each => {
    bytes += each.length
    found.push(...decoder.take(each))
  })
  await sender.idle()
  await settle()
  const lengths = found.map(each => (each.kind === 'piece' ? each.sentBytes : Number.NaN))
  expect(lengths.length).toBeGreaterThan(1)
  // The magic, and of each piece its head and all of its body.
  expect(bytes).toBe(lengths.reduce((sum, each) => sum + 24 + each, 8))
  expect(() => sender.end({})).toThrow()
})

test('nothing passes that stands behind what was refused', async () => {
  const { env } = bench(0)
  const link = createPipe('link')
  const into = createPipe('into QEMU')
  let received = 0
  into.reader.onData(() => received++)
  const loaded = new StreamReceiver(env.compute, link.reader, into.writer).run()
  link.writer.write([Buffer.from('SWQEMU9\n')])
  const whole = createPipe('a whole stream')
  whole.reader.onData(chunk => link.writer.write([chunk]))
  const sender = new StreamSender(env, whole.writer, () => undefined)
  sender.take(content(1)[0]!)
  await sender.idle()
  sender.end({ n: 7 })
  await expect(loaded).rejects.toMatchObject({ code: 'corrupt-data' })
  await settle()
  expect(received).toBe(0)
})

test('a damaged piece, packed or not, and a stream that is cut are refused, and nothing of the piece passes', async () => {
  const { env } = bench(0)
  for (const [damage, code] of [
    [(chunk: Uint8Array) => Uint8Array.from(chunk, byte => byte ^ 1), 'corrupt-data'],
    [() => null, 'stream-lost'],
  ] as const) {
    const pipe = createPipe('link')
    const sender = new StreamSender(env, pipe.writer, () => undefined)
    const into = createPipe('into QEMU')
    let received = 0
    into.reader.onData(() => received++)
    const link = changed(pipe.reader, chunk => (chunk.length === CHUNK ? damage(chunk) : chunk))
    const loaded = new StreamReceiver(env.compute, link, into.writer).run()
    sender.take(content(1)[0]!)
    await expect(loaded).rejects.toMatchObject({ code })
    expect(received).toBe(0)
  }
})
