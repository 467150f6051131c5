// Byte streams between simulated hosts: order, pieces, half-close, back-pressure, breaks.

import { expect, test } from 'vitest'
import type { Address, ByteStream, Environment } from '../environment.ts'
import { errorCode } from '../errors.ts'
import { Simulation, type SimulationOptions } from './simulation.ts'
import { bytes, filled, run, sleep, text } from './test-support.ts'

const AT_B: Address = { network: 'cluster', host: 'b', port: 7000 }

async function streams(
  serve: (stream: ByteStream, env: Environment) => void,
  use: (stream: ByteStream, env: Environment) => void,
  options: Partial<SimulationOptions> = {},
) {
  const sim = new Simulation({ seed: 1, ...options })
  const server = run(sim, 'b/server', async env => {
    await env.network.listenStream(AT_B, stream => serve(stream, env))
  })
  const client = run(sim, 'a/client', async env => {
    await sleep(env, 5)
    use(await env.network.dialStream(AT_B), env)
  })
  return { sim, server, client }
}

const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31) % 251)

function gather(stream: ByteStream) {
  const got = { chunks: [] as number[], bytes: [] as Uint8Array[], ended: false, closed: [] as (string | null)[] }
  stream.onData(chunk => {
    got.chunks.push(chunk.byteLength)
    got.bytes.push(chunk)
  })
  stream.onEnd(() => {
    got.ended = true
  })
  stream.onClose(error => void got.closed.push(error === null ? null : errorCode(error)))
  return got
}

test('carry bytes in order, in other pieces than they were written in', async () => {
  const data = pattern(300_000)
  for (const [fragmentation, most] of [
    [1, 1000],
    [0, 5],
  ] as const) {
    let got: ReturnType<typeof gather> | null = null
    const { sim } = await streams(
      stream => {
        got = gather(stream)
      },
      stream => {
        stream.write([data.subarray(0, 10), data.subarray(10)])
        stream.end()
      },
      { network: { fragmentation } },
    )
    await sim.runFor(1000)
    const { chunks, bytes, ended } = got as unknown as ReturnType<typeof gather>
    expect(Buffer.concat(bytes).equals(data)).toBe(true)
    expect(ended).toBe(true)
    expect(chunks.length > 5).toBe(fragmentation === 1)
    expect(chunks.length).toBeLessThanOrEqual(most)
  }
})

test('half-close: each side ends its half, then both are closed without an error', async () => {
  let near: ReturnType<typeof gather> | null = null
  let far: ReturnType<typeof gather> | null = null
  const { sim } = await streams(
    stream => {
      far = gather(stream)
      stream.onEnd(() => {
        stream.write([bytes('answer')])
        stream.end()
      })
    },
    stream => {
      near = gather(stream)
      stream.write([bytes('question')])
      stream.end()
    },
  )
  await sim.runFor(100)
  const [a, b] = [near, far] as unknown as ReturnType<typeof gather>[]
  expect([text(Buffer.concat(a?.bytes ?? [])), a?.ended, a?.closed]).toEqual(['answer', true, [null]])
  expect([text(Buffer.concat(b?.bytes ?? [])), b?.closed]).toEqual(['question', [null]])
  expect(sim.network.connectionCount).toBe(0)
})

test('back-pressure: a reader that pauses makes the writer wait, resuming drains it', async () => {
  let reader: ByteStream | null = null
  let received = 0
  let drained = 0
  const full: boolean[] = []
  const { sim } = await streams(
    stream => {
      reader = stream
      stream.pause()
      stream.onData(chunk => {
        received += chunk.byteLength
      })
    },
    stream => {
      stream.onDrain(() => drained++)
      for (let i = 0; i < 40; i++) full.push(!stream.write([filled(64 * 1024, i)]))
      expect(stream.bufferedBytes).toBeGreaterThan(1024 * 1024)
    },
  )
  await sim.runFor(1000)
  expect([received, drained, full[0], full.at(-1)]).toEqual([0, 0, false, true])
  ;(reader as unknown as ByteStream).resume()
  await sim.runFor(1000)
  expect([received, drained]).toEqual([40 * 64 * 1024, 1])
})

test('back-pressure: who was told to wait is told to go on, whatever it wrote in between', async () => {
  let reader: ByteStream | null = null
  let writer: ByteStream | null = null
  let received = 0
  let drained = 0
  const { sim } = await streams(
    stream => {
      reader = stream
      stream.onData(chunk => {
        received += chunk.byteLength
        if (received >= 1024 * 1024) stream.pause()
      })
    },
    stream => {
      writer = stream
      stream.onDrain(() => drained++)
      expect(stream.write([filled(1536 * 1024, 1)])).toBe(false)
    },
  )
  await sim.runFor(1000)
  expect((writer as unknown as ByteStream).write([filled(1024, 2)])).toBe(false)
  expect(drained).toBe(0)
  ;(reader as unknown as ByteStream).onData(chunk => {
    received += chunk.byteLength
  })
  ;(reader as unknown as ByteStream).resume()
  await sim.runFor(1000)
  expect([received, drained]).toEqual([1537 * 1024, 1])
})

test('a paused process lets the window fill and keeps its streams', async () => {
  let received = 0
  let writer: ByteStream | null = null
  const { sim, server } = await streams(
    stream =>
      stream.onData(chunk => {
        received += chunk.byteLength
      }),
    stream => {
      writer = stream
    },
  )
  await sim.runFor(100)
  server.pause()
  const stream = writer as unknown as ByteStream
  stream.write([pattern(400 * 1024)])
  await sim.runFor(60_000)
  expect(received).toBe(0)
  expect(stream.bufferedBytes).toBe(144 * 1024)
  server.resume()
  await sim.runFor(100)
  expect([received, stream.bufferedBytes]).toEqual([400 * 1024, 0])
})

test('a destroyed stream drops what it had not sent, and resets a peer that goes on writing', async () => {
  let near: ReturnType<typeof gather> | null = null
  const { sim } = await streams(
    stream => stream.destroy(),
    (stream, env) => {
      near = gather(stream)
      // Its own half stays open: only writing tells it.
      stream.onEnd(() => void env.timers.after(100, () => stream.write([bytes('more')])))
    },
  )
  await sim.runFor(50)
  const seen = near as unknown as ReturnType<typeof gather>
  expect(seen.closed).toEqual([])
  await sim.runFor(200)
  expect(seen.closed).toEqual(['lost'])
  expect(sim.network.connectionCount).toBe(0)
})

test('a reset cuts the bytes in flight anywhere', async () => {
  const lengths = new Set<number>()
  for (let seed = 0; seed < 20; seed++) {
    let far: ReturnType<typeof gather> | null = null
    const data = pattern(10_000)
    const { sim } = await streams(
      stream => {
        far = gather(stream)
      },
      stream => void stream.write([data]),
      { seed, network: { fragmentation: 0 } },
    )
    await sim.runUntil(() => sim.network.connectionCount === 1, 100)
    await sim.runFor(0.35)
    sim.network.reset({ class: 'stream' })
    await sim.runFor(10)
    const seen = far as unknown as ReturnType<typeof gather>
    const got = Buffer.concat(seen.bytes)
    expect(got.equals(data.subarray(0, got.byteLength))).toBe(true)
    expect(seen.closed).toEqual(['lost'])
    lengths.add(got.byteLength)
  }
  expect(lengths.size).toBeGreaterThan(3)
})

test('unix sockets belong to their machine and know no network faults', async () => {
  const sim = new Simulation({ seed: 1 })
  const at: Address = { network: 'local', host: '/run/nbd.sock', port: 0 }
  const heard: string[] = []
  run(sim, 'a/server', async env => {
    await env.network.listenStream(at, stream => stream.onData(chunk => heard.push(text(chunk))))
  })
  sim.network.isolate('a')
  const dial = async (env: Environment) => {
    await sleep(env, 5)
    const stream = await env.network.dialStream(at)
    stream.write([bytes(env.name)])
  }
  run(sim, 'a/client', dial)
  run(sim, 'b/client', async env => {
    await dial(env).catch(error => heard.push(errorCode(error)))
  })
  await sim.runFor(100)
  expect(heard.sort()).toEqual(['a/client', 'refused'])
})
