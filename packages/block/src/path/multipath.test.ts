// Multipath over real NBD connections in memory, to a storage that keeps sessions apart as the embedded subsystem does:
// a connection of a higher session closes and drains the lower ones before it is answered.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { describe, expect, it } from 'vitest'
import { BlockError, type Io } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { connectNbd } from '../nbd/client.ts'
import { type NbdConnection, NbdRefusal, serveNbd } from '../nbd/server.ts'
import { ManualTimers, type PairedStream, settle, streamPair } from '../nbd/testing/stream-pair.ts'
import { MAX_WAITING_REQUESTS, type MultipathDevice, type MultipathOptions, openMultipath } from './multipath.ts'
import type { PathTransport } from './transport.ts'

const IO: Io = { origin: 'test', deadlineAt: null }
const SIZE = 1024 * 1024

interface Write {
  readonly session: number
  readonly offset: number
  readonly byte: number
  apply(): Promise<void>
  drop(): void
}

/** A storage and the fabrics to it. */
class World {
  readonly timers = new ManualTimers()
  readonly disk = new MemoryDevice({ size: SIZE })
  /** What took effect, in order. */
  readonly applied: { session: number; offset: number; byte: number }[] = []
  /** Writes stopped inside the storage, when `stopWrites` is set. */
  readonly stopped: Write[] = []
  stopWrites = false
  highest = 0
  refusal: NbdRefusal | null = null
  readonly dials: string[] = []
  readonly down = new Set<string>()
  readonly silent = new Set<string>()
  readonly streams = new Map<string, PairedStream>()
  readonly served = new Set<{ connection: NbdConnection; session: number }>()
  session = 1
  size = SIZE

  path(name: string, priority = 0, standby = false): PathTransport {
    return {
      name,
      priority,
      standby,
      via: () => (standby ? 'peer' : null),
      probe: async () => {
        if (this.down.has(name) || this.silent.has(name)) throw new Error('no answer')
      },
      connect: async (exportName, signal) => {
        this.dials.push(`${name} ${exportName}`)
        if (this.down.has(name)) throw Object.assign(new Error('unreachable'), { code: 'unreachable' })
        const [near, far] = streamPair()
        this.streams.set(name, near)
        this.#serve(far)
        return connectNbd(near, { exportName, timers: this.timers, signal })
      },
    }
  }

  #serve(stream: PairedStream): void {
    const entry = { session: 0, connection: null as unknown as NbdConnection }
    entry.connection = serveNbd(
      stream,
      {
        list: async () => [],
        open: async exportName => {
          if (this.refusal !== null) throw this.refusal
          const session = Number(exportName.split('=')[1])
          if (session < this.highest) throw new NbdRefusal('policy', `session-superseded: ${session}`)
          this.highest = session
          const lower = [...this.served].filter(one => one.session !== 0 && one.session < session)
          await Promise.all(lower.map(one => one.connection.shutdown('superseded')))
          entry.session = session
          return { device: this.#export(session), released: () => undefined }
        },
      },
      { timers: this.timers },
    )
    this.served.add(entry)
  }

  #export(session: number): MemoryDevice {
    const disk = new MemoryDevice({ size: this.size })
    disk.read = (offset, length, io) => this.disk.read(offset, length, io)
    disk.write = (offset, data, flags, io) => {
      const byte = data[0]![0]!
      const apply = async (): Promise<void> => {
        await this.disk.write(offset, data, flags, io)
        this.applied.push({ session, offset, byte })
      }
      if (!this.stopWrites) return apply()
      return new Promise((resolve, reject) => {
        this.stopped.push({
          session,
          offset,
          byte,
          apply: () => apply().then(resolve),
          drop: () => reject(new BlockError('ESHUTDOWN', 'none', 'dropped')),
        })
      })
    }
    return disk
  }

  open(paths: readonly PathTransport[], options: Partial<MultipathOptions> = {}): Promise<MultipathDevice> {
    return openMultipath({
      paths,
      exportName: session => `disk?session=${session}`,
      session: this.session,
      raiseSession: () => {
        this.session += 1
        return this.session
      },
      clock: { now: () => this.timers.now, wall: () => 0 },
      timers: this.timers,
      ...options,
    })
  }

  /** Breaks the path's connection; its fabric stays as it is. */
  reset(name: string): void {
    this.streams.get(name)!.reset()
  }
}

const bytes = (byte: number): Uint8Array[] => [new Uint8Array(4096).fill(byte)]

async function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'done',
    (error: unknown) => error,
  )
}

describe('multipath', () => {
  it('spreads requests over its paths', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    await Promise.all(Array.from({ length: 20 }, (_, index) => device.write(index * 4096, bytes(index), {}, IO)))
    expect(device.paths().map(path => [path.state, path.requests])).toEqual([
      ['up', 10],
      ['up', 10],
    ])
    await device.close()
  })

  it('sends reads of a lost path again on its sibling, without a new session', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    const reads = Array.from({ length: 10 }, () => device.read(0, 4096, IO))
    world.reset('a')
    for (const read of await Promise.all(reads)) expect(Buffer.concat(read).length).toBe(4096)
    expect([world.session, device.session]).toEqual([1, 1])
    await device.close()
  })

  it('IO3: retries a write of unknown outcome only in a higher session, after the storage drained the lower', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    world.stopWrites = true
    const writes = [device.write(0, bytes(1), {}, IO), device.write(4096, bytes(2), {}, IO)]
    await settle()
    expect(world.stopped.length).toBe(2)
    world.reset('a')
    await settle()
    // Both sessions' requests are in the storage's hands: it does not answer the new session before they are finished.
    expect([device.session, world.applied.length, world.stopped.length]).toEqual([2, 0, 2])
    expect(device.paths().map(path => path.state)).toEqual(['probing', 'probing'])
    world.stopWrites = false
    await Promise.all(world.stopped.map(write => write.apply()))
    await Promise.all(writes)
    const sessions = world.applied.map(write => write.session)
    expect(sessions).toEqual([...sessions].sort())
    expect(sessions.filter(session => session === 1).length).toBe(2)
    expect(world.applied.filter(write => write.session === 2).length).toBeGreaterThanOrEqual(1)
    await device.close()
  })

  it('IO3: a write of the old session that comes late finds nothing newer to destroy', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    world.stopWrites = true
    const first = device.write(0, bytes(1), {}, IO)
    await settle()
    world.reset(world.stopped.length === 1 && device.paths()[0]!.queue === 1 ? 'a' : 'b')
    await settle()
    world.stopWrites = false
    await world.stopped[0]!.apply()
    await first
    await device.write(0, bytes(9), {}, IO)
    expect(world.applied.map(write => write.byte)).toEqual([1, 1, 9])
    expect(Buffer.concat(await device.read(0, 1, IO))[0]).toBe(9)
    await device.close()
  })

  it('IO3 canary: without raising the session the same interleaving destroys an acknowledged write', async () => {
    canaries.add('session-not-raised')
    try {
      const world = new World()
      const device = await world.open([world.path('a'), world.path('b')], { config: { policy: 'fixed' } })
      await settle()
      world.stopWrites = true
      const first = device.write(0, bytes(1), {}, IO)
      await settle()
      world.stopWrites = false
      world.reset('a')
      await first
      await device.write(0, bytes(9), {}, IO)
      await world.stopped[0]!.apply()
      expect([device.session, Buffer.concat(await device.read(0, 1, IO))[0]]).toEqual([1, 1])
      await device.close()
    } finally {
      canaries.clear()
    }
  })

  it('holds requests while no path is up, says so, and goes on by itself', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    const states: string[] = []
    device.onState(state => states.push(state))
    world.down.add('a').add('b')
    world.reset('a')
    world.reset('b')
    const write = device.write(0, bytes(5), {}, IO)
    let done = false
    void write.then(() => {
      done = true
    })
    await world.timers.advance(60_000)
    expect([done, device.paths().map(path => path.state), states]).toEqual([false, ['failed', 'failed'], ['waiting']])
    expect(world.dials.length).toBeLessThan(50)
    world.down.clear()
    await world.timers.advance(10_000)
    await write
    expect(states).toEqual(['waiting', 'up'])
    await device.close()
  })

  it('bounds what it holds', async () => {
    const world = new World()
    const device = await world.open([world.path('a')])
    world.down.add('a')
    world.reset('a')
    const held = Array.from({ length: MAX_WAITING_REQUESTS }, () => outcome(device.read(0, 512, IO)))
    const error = await outcome(device.read(0, 512, IO))
    expect(error).toMatchObject({ errno: 'ENOMEM', outcome: 'none' })
    device.abort('test over')
    expect(new Set(await Promise.all(held))).not.toContain('done')
  })

  it('fails a silent path with a request past its deadline, and uses the redirected one', async () => {
    const world = new World()
    const device = await world.open([world.path('direct', 0), world.path('redirected', 100)])
    await settle()
    world.stopWrites = true
    const write = device.write(0, bytes(3), {}, IO)
    await settle()
    expect(device.paths().map(path => path.queue)).toEqual([1, 0])
    world.silent.add('direct')
    await world.timers.advance(1900)
    expect(device.paths()[0]!.state).toBe('slow')
    const stopped = world.stopped.splice(0)
    world.stopWrites = false
    await world.timers.advance(1000)
    await Promise.all(stopped.map(one => one.apply()))
    await write
    expect(device.session).toBe(2)
    expect(world.applied.map(one => one.session)).toEqual([1, 2])
    await device.close()
  })

  it('connects a standby path for as long as it is needed, and says which way requests go', async () => {
    const world = new World()
    const routes: string[] = []
    const device = await world.open([world.path('direct'), world.path('redirected', 10, true)], {
      onRoute: route => routes.push(route.kind === 'redirected' ? `${route.kind} ${route.via}` : route.kind),
    })
    await settle()
    expect(world.dials).toEqual(['direct disk?session=1'])
    world.down.add('direct')
    world.stopWrites = true
    const write = device.write(0, bytes(7), {}, IO)
    await settle()
    const stopped = world.stopped.splice(0)
    world.stopWrites = false
    world.reset('direct')
    await Promise.all(stopped.map(one => one.apply()))
    await world.timers.advance(100)
    await write
    expect(world.applied.map(one => one.session)).toEqual([1, 2])
    expect(device.paths().map(path => [path.state, path.errors, path.via])).toEqual([
      ['failed', 1, null],
      ['up', 0, 'peer'],
    ])
    world.down.clear()
    await world.timers.advance(10_000)
    expect(device.paths().map(path => path.state)).toEqual(['up', 'standby'])
    await device.read(0, 512, IO)
    expect(device.paths()[0]!.requests).toBe(2)
    expect(routes).toEqual(['direct', 'none', 'redirected peer', 'direct'])
    await device.close()
  })

  it('tells for how long the oldest of what waits has waited, the opening included', async () => {
    const world = new World()
    const waited: number[] = []
    world.down.add('a')
    const opening = world.open([world.path('a')], { onWaiting: ms => waited.push(ms) })
    await world.timers.advance(1_000)
    expect(waited).toEqual([500, 1_000])
    world.down.clear()
    await world.timers.advance(5_000)
    const device = await opening
    waited.length = 0
    world.down.add('a')
    world.reset('a')
    const read = device.read(0, 512, IO)
    await world.timers.advance(1_000)
    expect(waited.at(-1)).toBeGreaterThan(500)
    world.down.clear()
    await world.timers.advance(5_000)
    await read
    const before = waited.length
    await world.timers.advance(2_000)
    expect(waited.length).toBe(before)
    await device.close()
  })

  it('returns to the direct path after enough good probes', async () => {
    const world = new World()
    const device = await world.open([world.path('direct', 0), world.path('redirected', 100)])
    await settle()
    world.down.add('direct')
    world.reset('direct')
    await world.timers.advance(3000)
    await device.read(0, 512, IO)
    expect(device.paths().map(path => path.state)).toEqual(['failed', 'up'])
    world.down.clear()
    await world.timers.advance(10_000)
    expect(device.paths().map(path => path.state)).toEqual(['up', 'up'])
    const before = device.paths()[0]!.requests
    await device.read(0, 512, IO)
    expect(device.paths()[0]!.requests).toBe(before + 1)
    await device.close()
  })

  it.each(['epoch-refused', 'generation-refused', 'session-superseded'])(
    'dies of %s: all requests fail for good',
    async code => {
      const world = new World()
      const refusals: string[] = []
      const device = await world.open([world.path('a'), world.path('b')], {
        onRefused: refusal => refusals.push(`${refusal.code} on ${refusal.path}: ${refusal.message}`),
      })
      await settle()
      world.stopWrites = true
      const sent = outcome(device.write(0, bytes(1), {}, IO))
      await settle()
      world.refusal = new NbdRefusal('policy', `${code}: go away`)
      world.reset('a')
      world.reset('b')
      const held = outcome(device.read(0, 512, IO))
      await settle()
      expect(await sent).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'unknown' })
      expect(await held).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'none' })
      expect(refusals).toEqual([expect.stringMatching(new RegExp(`^${code} on [ab]: ${code}: go away$`))])
      expect(await outcome(device.write(0, bytes(1), {}, IO))).toMatchObject({ errno: 'ESHUTDOWN', outcome: 'none' })
      const dials = world.dials.length
      await world.timers.advance(60_000)
      expect(world.dials.length).toBe(dials)
    },
  )

  it('keeps trying after a refusal that may pass', async () => {
    const world = new World()
    world.refusal = new NbdRefusal('unknown', 'no such LUN')
    const opening = world.open([world.path('a')])
    await world.timers.advance(5000)
    world.refusal = null
    await world.timers.advance(5000)
    const device = await opening
    await device.read(0, 512, IO)
    await device.close()
  })

  it('rejects opening when it is refused for good or given up', async () => {
    const world = new World()
    world.refusal = new NbdRefusal('policy', 'epoch-refused: 1 is not 2')
    expect(await outcome(world.open([world.path('a')]))).toMatchObject({ code: 'epoch-refused' })
    const controller = new AbortController()
    world.down.add('a')
    const opening = outcome(world.open([world.path('a')], { signal: controller.signal }))
    await settle()
    controller.abort()
    expect(await opening).toMatchObject({ code: 'multipath-aborted' })
    expect(world.timers.count).toBe(0)
  })

  it('does not use a path that leads to another disk', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    world.size = SIZE / 2
    world.reset('a')
    await world.timers.advance(1000)
    expect(device.paths().map(path => path.state)).toEqual(['failed', 'up'])
    expect(device.paths()[0]!.why).toContain(`${SIZE / 2} bytes`)
    await device.close()
  })

  it('waits for its requests when it is closed, then leaves nothing behind', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    world.stopWrites = true
    const write = device.write(0, bytes(1), {}, IO)
    await settle()
    let closed = false
    const closing = device.close().then(() => {
      closed = true
    })
    await settle()
    expect(closed).toBe(false)
    await world.stopped[0]!.apply()
    await write
    await closing
    await world.timers.advance(10_000)
    expect([...world.served].map(one => one.connection.error)).toEqual([null, null])
    expect(world.timers.count).toBe(0)
  })

  it('passes the errors of the disk through: they are no fault of the path', async () => {
    const world = new World()
    const device = await world.open([world.path('a'), world.path('b')])
    await settle()
    expect(await outcome(device.read(SIZE, 512, IO))).toMatchObject({ errno: 'EINVAL', outcome: 'none' })
    expect(device.paths().map(path => path.losses)).toEqual([0, 0])
    await device.close()
  })
})
