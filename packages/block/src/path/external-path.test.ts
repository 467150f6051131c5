// A path to an NBD server that knows no sessions: what was lost on the way is given its time before it is repeated.

import type { Address, Network } from '@stellwerk/runtime/environment.ts'
import { describe, expect, it } from 'vitest'
import type { Io } from '../device.ts'
import { MemoryDevice } from '../memory-device.ts'
import { probeNbd } from '../nbd/probe.ts'
import { NbdRefusal, serveNbd } from '../nbd/server.ts'
import { gated } from '../nbd/testing/server-setup.ts'
import { ManualTimers, type PairedStream, settle, streamPair } from '../nbd/testing/stream-pair.ts'
import { externalPath, misfitOfExport, Quiet } from './external-path.ts'

const IO: Io = { origin: 'test', deadlineAt: null }
const SIZE = 1024 * 1024
const QUIET_MS = 2_000
const ADDRESS: Address = { network: 'fabric-0', host: 'nas', port: 10_809 }
const NEVER = new AbortController().signal

/** A server, and the paths of one host to it. */
class World {
  readonly timers = new ManualTimers()
  readonly quiet = new Quiet()
  readonly streams: PairedStream[] = []
  readonly server = gated()
  dials = 0
  session = 1

  path(sizeBytes = SIZE) {
    const network = { dialStream: async () => this.#dial() } as unknown as Network
    const clock = { now: () => this.timers.now } as never
    return externalPath({
      ...{ name: 'fabric-0/nas', network, clock, timers: this.timers, address: ADDRESS, sizeBytes },
      ...{ probe: async () => undefined, dialTimeoutMs: 1_000, openTimeoutMs: 1_000, quietMs: QUIET_MS },
      ...{ quiet: this.quiet, session: () => this.session },
    })
  }

  #dial(): PairedStream {
    this.dials += 1
    const [near, far] = streamPair()
    this.streams.push(near)
    const open = async (name: string) => {
      if (name !== 'disk') throw new NbdRefusal('unknown', `no export ${name}`)
      return { device: this.server.device, description: '', released: () => undefined }
    }
    serveNbd(far, { list: async () => [], open }, { timers: this.timers })
    return near
  }
}

const block = () => [new Uint8Array(4096)]

describe('a path to an external storage', () => {
  it('opens the plain export, and is refused as the server says', async () => {
    const world = new World()
    expect((await world.path().connect('disk', NEVER)).size).toBe(SIZE)
    await expect(world.path().connect('other', NEVER)).rejects.toThrow('no export other')
    await expect(world.path(SIZE + 1).connect('disk', NEVER)).rejects.toMatchObject({ code: 'export-unfit' })
  })

  it('has the volume’s size and offers what an embedded leg does, whatever the server has', async () => {
    const world = new World()
    const half = SIZE / 2
    const device = await world.path(half).connect('disk', NEVER)
    expect([device.size, Object.values(device.caps).filter(cap => cap).length]).toEqual([half, 7])
    expect(await device.blockStatus?.(0, 4096, IO)).toEqual([{ length: 4096, hole: false, zero: false }])
  })

  it('is dialled anew only after a lost write has had its time to arrive', async () => {
    const world = new World()
    const first = await world.path().connect('disk', NEVER)
    const lost = first.write(0, block(), { fua: true }, IO).catch((error: unknown) => error)
    await settle()
    world.streams[0]?.destroy()
    first.abort('cut')
    expect(await lost).toMatchObject({ outcome: 'unknown' })
    world.session = 2
    const again = world.path().connect('disk', NEVER)
    await world.timers.advance(QUIET_MS - 100)
    expect(world.dials).toBe(1)
    await world.timers.advance(200)
    await again
    expect(world.dials).toBe(2)
  })

  it('is dialled at once when nothing that changes anything was lost', async () => {
    const world = new World()
    const first = await world.path().connect('disk', NEVER)
    const reading = first.read(0, 4096, IO).catch(() => undefined)
    await settle()
    first.abort('cut')
    await reading
    world.session = 2
    await world.path().connect('disk', NEVER)
    expect(world.dials).toBe(2)
  })

  it('waits for writes of an older session, and does not wait for its siblings', async () => {
    const world = new World()
    const first = await world.path().connect('disk', NEVER)
    const writing = first.write(0, block(), { fua: true }, IO)
    await settle()
    await world.path().connect('disk', NEVER)
    expect(world.dials).toBe(2)
    world.session = 2
    const next = world.path().connect('disk', NEVER)
    await world.timers.advance(200)
    expect(world.dials).toBe(2)
    world.server.waiting[0]?.finish()
    await settle()
    await writing
    await world.timers.advance(50)
    await next
    expect(world.dials).toBe(3)
  })

  it('cuts those that do not end, and then gives them their time', async () => {
    const world = new World()
    const first = await world.path().connect('disk', NEVER)
    const stuck = first.write(0, block(), { fua: true }, IO).catch((error: unknown) => error)
    await settle()
    world.session = 2
    const next = world.path().connect('disk', NEVER)
    await world.timers.advance(QUIET_MS + 100)
    expect(await stuck).toMatchObject({ outcome: 'unknown' })
    expect(world.dials).toBe(1)
    await world.timers.advance(QUIET_MS)
    await next
    expect(world.dials).toBe(2)
  })

  it('is given up while it waits', async () => {
    const world = new World()
    const first = await world.path().connect('disk', NEVER)
    first.write(0, block(), {}, IO).catch(() => undefined)
    await settle()
    world.session = 2
    const attempt = new AbortController()
    const next = world
      .path()
      .connect('disk', attempt.signal)
      .catch((error: unknown) => error)
    attempt.abort()
    await world.timers.advance(100)
    expect(await next).toMatchObject({ code: 'nbd-cancelled' })
  })
})

describe('an export that cannot be a leg', () => {
  it.each([
    [{ readOnly: true }, /read-only/],
    [{ flush: false }, /SEND_FLUSH/],
    [{ fua: false }, /SEND_FUA/],
    [{ zero: false }, /SEND_WRITE_ZEROES/],
    [{ multiConn: false }, /CAN_MULTI_CONN/],
  ])('%o', (caps, why) => {
    expect(misfitOfExport(new MemoryDevice({ size: SIZE, caps }), SIZE)).toMatch(why)
  })

  it('is too small, or takes only large blocks', () => {
    expect(misfitOfExport(new MemoryDevice({ size: SIZE }), SIZE + 1)).toMatch(/less than the 1048577 of the volume/)
    const coarse = new MemoryDevice({ size: SIZE, limits: { minimum: 8192 } })
    expect(misfitOfExport(coarse, SIZE)).toMatch(/blocks of 8192 bytes/)
    expect(misfitOfExport(new MemoryDevice({ size: SIZE }), SIZE)).toBeNull()
  })
})

describe('a probe of an NBD server', () => {
  it('is answered by its greeting', async () => {
    const timers = new ManualTimers()
    const [near, far] = streamPair()
    serveNbd(far, { list: async () => [], open: async () => Promise.reject(new Error('not asked')) }, { timers })
    await probeNbd(near, timers, 1_000)
    expect(near.destroyed).toBe(true)
  })

  it('is not by silence, nor by somebody else', async () => {
    const timers = new ManualTimers()
    const [silent] = streamPair()
    const unanswered = probeNbd(silent, timers, 1_000).catch((error: unknown) => error)
    await timers.advance(1_001)
    expect(await unanswered).toMatchObject({ code: 'nbd-lost' })
    const [near, far] = streamPair()
    const answered = probeNbd(near, timers, 1_000).catch((error: unknown) => error)
    far.write([Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n')])
    await settle()
    expect(await answered).toMatchObject({ code: 'nbd-unsupported' })
  })
})
