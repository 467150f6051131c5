// A link as a byte stream: how what is written becomes frames, and what holds a sender.

import { expect, test } from 'vitest'
import { bulkStream } from './bulk-stream.ts'
import type { Session } from './session.ts'
import { SessionPort } from './session-port.ts'
import { linkPair } from './testing/memory-link.ts'

async function settle(): Promise<void> {
  for (let i = 0; i < 200; i += 1) await Promise.resolve()
}

function streams(joinBelowBytes: number) {
  const { a, b, cut } = linkPair({ class: 'bulk' })
  const port = (link: typeof a) =>
    new SessionPort(
      link,
      () => undefined,
      () => undefined,
    )
  const session = (link: typeof a) => {
    const made = port(link)
    return { detach: () => made, peer: { address: 'there' } } as unknown as Session
  }
  return { near: bulkStream(session(a), { joinBelowBytes }), far: bulkStream(session(b)), cut }
}

test('joins short neighbours, leaves longer parts as they are, and cuts those that no frame holds', async () => {
  const { near, far } = streams(100)
  const frames: number[] = []
  const bytes: number[] = []
  far.onData(chunk => {
    frames.push(chunk.byteLength)
    bytes.push(chunk[0]!, chunk.at(-1)!)
  })
  const part = (length: number, fill: number) => new Uint8Array(length).fill(fill)
  near.write([part(28, 1), part(99, 2), part(0, 9), part(4096, 3), part(28, 4), part(2 * 1024 * 1024 + 7, 5)])
  await settle()
  expect(frames).toEqual([127, 4096, 28, ...Array.from({ length: 8 }, () => 256 * 1024), 7])
  expect(bytes).toEqual([1, 2, 3, 3, 4, 4, ...Array.from({ length: 18 }, () => 5)])
})

test('a receiver that pauses holds the sender, and a lost link ends both at once', async () => {
  const { near, far, cut } = streams(0)
  const closed: string[] = []
  near.onClose(error => closed.push(`near ${error?.message ?? 'in order'}`))
  far.onClose(error => closed.push(`far ${error?.message ?? 'in order'}`))
  far.onData(() => undefined)
  far.pause()
  const block = new Uint8Array(1024 * 1024)
  let written = 0
  while (near.write([block]) && written < 100) written += 1
  await settle()
  expect(written).toBeLessThan(10)
  expect(near.bufferedBytes).toBeGreaterThan(0)
  cut()
  await settle()
  expect(closed.length).toBe(2)
  expect(closed.every(line => line.includes('gone'))).toBe(true)
})

test('a receiver that pauses after each frame lets the sender go on after each few, and all of much more than a window passes', async () => {
  const { near, far } = streams(0)
  const part = new Uint8Array(256 * 1024)
  const total = 64
  let written = 0
  const write = (): void => {
    while (written < total) {
      written += 1
      if (!near.write([part])) return
    }
  }
  near.onDrain(write)
  const ahead: number[] = []
  let received = 0
  far.onData(() => {
    received += 1
    ahead.push(written - received)
    far.pause()
  })
  write()
  while (received < total) {
    const before = received
    far.resume()
    await settle()
    expect(received).toBeGreaterThan(before)
  }
  // Held by the window, and let go in small parts of it.
  expect(Math.max(...ahead)).toBeLessThanOrEqual(9)
  expect(Math.min(...ahead.slice(0, -10))).toBeGreaterThanOrEqual(5)
})

test('what came before anybody listened is delivered after the call that listens, and in order', async () => {
  const { near, far } = streams(0)
  near.write([new Uint8Array([1])])
  await settle()
  const got: number[] = []
  far.onData(chunk => got.push(chunk[0]!))
  expect(got).toEqual([])
  near.write([new Uint8Array([2])])
  await settle()
  expect(got).toEqual([1, 2])
})
