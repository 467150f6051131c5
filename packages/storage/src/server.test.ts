// The subsystem as hosts and the coordinator see it, in a simulation.

import { describe, expect, it } from 'vitest'
import { failure, filled, IO, LUN, SAN, SimStorage, slowWrites } from './testing/sim-storage.ts'

describe('what is refused, and how', () => {
  it.each([
    ['an unknown LUN', 'other?host=a&epoch=1&session=1.0&generation=0', 'unknown-lun '],
    ['a bad name', 'csv1?host=a', 'bad-export-name '],
    ['no name', '', 'bad-export-name '],
    ['a plain name of a closed LUN', 'csv1', 'lun-masked '],
    ['an unknown host', 'csv1?host=z&epoch=1&session=1.0&generation=0', 'not-admitted '],
    ['an epoch not yet admitted', 'csv1?host=a&epoch=2&session=1.0&generation=0', 'not-admitted '],
    ['a fenced epoch', 'csv1?host=b&epoch=1&session=1.0&generation=0', 'epoch-refused '],
    ['a lower session', 'csv1?host=a&epoch=1&session=1.0&generation=0', 'session-superseded '],
    ['a lower owner epoch', 'csv1?host=a&epoch=1&session=2.0&generation=0&owner=1', 'owner-superseded '],
    ['another generation', 'csv1?host=a&epoch=1&session=2.0&generation=1', 'generation-refused 0 {}'],
  ])('%s', async (_, exportName, message) => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      await storage.order('storage.fence', { host: 'b', epoch: 1, term: 1 })
      await storage.connectAs('a', { session: [2, 0], owner: 5 })
      const client = await storage.connectAs('a', { session: [2, 0] })
      const error = await failure(storage.connectTo(exportName))
      expect(error.code).toBe('nbd-refused')
      expect(error.message.startsWith(message)).toBe(true)
      await client.read(0, 512, IO)
    })
  })

  it('control links: a wrong token, another cluster, another class', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      expect((await failure(storage.order('storage.probe', { host: 'a', epoch: 1, luns: [] }))).code).toBe(
        'not-admitted',
      )
      expect((await failure(storage.order('storage.delete-lun', { lun: 'none' }))).code).toBe('unknown-lun')
      expect((await failure(storage.order('storage.create-lun', { lun: LUN, sizeBytes: 4097 }))).code).toBe('bad-size')
      await storage.order('storage.create-lun', { lun: LUN, sizeBytes: 8192, id: 'x' })
      await storage.order('storage.create-lun', { lun: LUN, sizeBytes: 8192, id: 'x' })
      expect((await failure(storage.order('storage.create-lun', { lun: LUN, sizeBytes: 8192 }))).code).toBe(
        'lun-exists',
      )
      expect(
        (await failure(storage.order('storage.create-lun', { lun: 'other', sizeBytes: 8192, id: 'x' }))).code,
      ).toBe('lun-exists')
    })
  })
})

describe('IO3: fencing', () => {
  it('with writes in flight, the reply comes after the last of them took effect or was dropped', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs()
      await client.write(0, [filled(65536 * 8, 1)], {}, IO)
      slowWrites(storage)
      const writes = Array.from({ length: 8 }, (_, at) => client.write(at * 65536, [filled(512, 9)], {}, IO))
      const settled = Promise.allSettled(writes)
      await storage.sleep(20)
      const startedAt = storage.sim.now
      const reply = await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      expect(storage.sim.now - startedAt).toBeGreaterThan(400)
      expect(reply).toMatchObject({ storage: SAN, admitted: 1, fenced: 1 })
      // The last of them was answered during the drain.
      expect(reply.lastSeenMs).toBeLessThan(100)
      await settled
      const fenced = storage.records.findIndex(({ kind }) => kind === 'storage.fenced')
      const applied = storage.records.map(({ kind }) => kind).lastIndexOf('storage.applied')
      expect(fenced).toBeGreaterThan(applied)
      expect((await failure(client.write(0, [filled(512, 7)], {}, IO))).code).toBe('ESHUTDOWN')
      expect((await failure(storage.connectAs())).message).toMatch(/^epoch-refused /)
    })
  })

  it('what has not started when the fence comes is dropped with outcome none', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs()
      // The first write to a region waits for the map's intent; that is where the fence finds it.
      storage.disk.fault({ path: 'luns', operation: 'write', verdict: { delayMs: 0 } })
      storage.disk.fault({ operation: ['sync'], verdict: { delayMs: 300 } })
      const write = failure(client.write(0, [filled(512, 9)], {}, IO))
      await storage.sleep(20)
      await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      expect((await write).code).toBe('ESHUTDOWN')
      expect(storage.of('storage.applied')).toEqual([])
      await storage.order('storage.admit', { host: 'a', epoch: 2, term: 1 })
      const again = await storage.connectAs('a', { epoch: 2, session: [2, 0] })
      expect((await again.read(0, 512, IO))[0]?.[0]).toBe(0)
    })
  })

  it('a connection made for the host by a peer is fenced like its own', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      const relayed = await storage.connectAs('a', { via: 'b' })
      const own = await storage.connectAs('b')
      await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      expect((await failure(relayed.write(0, [filled(512, 1)], {}, IO))).code).toBe('ESHUTDOWN')
      await own.write(0, [filled(512, 1)], { fua: true }, IO)
    })
  })

  it('only an admission opens the next epoch', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      await storage.order('storage.fence', { host: 'a', epoch: 1, term: 2 })
      expect((await failure(storage.connectAs('a', { epoch: 2 }))).message).toMatch(/^not-admitted /)
      expect((await failure(storage.order('storage.admit', { host: 'a', epoch: 2, term: 1 }))).code).toBe('stale-term')
      expect(await storage.order('storage.admit', { host: 'a', epoch: 2, term: 2 })).toEqual({
        storage: SAN,
        admitted: 2,
        fenced: 1,
      })
      await storage.connectAs('a', { epoch: 2 })
      // Late and again: nothing changes.
      expect(await storage.order('storage.admit', { host: 'a', epoch: 1, term: 2 })).toEqual({
        storage: SAN,
        admitted: 2,
        fenced: 1,
      })
      expect(await storage.order('storage.fence', { host: 'a', epoch: 1, term: 2 })).toMatchObject({
        admitted: 2,
        fenced: 1,
      })
      await storage.order('storage.probe', { host: 'a', epoch: 2, luns: [] })
    })
  })

  it('lastSeen is the age of the last probe or request answered, unknown after a restart', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      expect((await storage.order('storage.seen', { host: 'a' })).lastSeenMs).toBe(null)
      await storage.order('storage.probe', { host: 'a', epoch: 1, luns: [] })
      await storage.sleep(1_000)
      expect((await storage.order('storage.seen', { host: 'a' })).lastSeenMs).toBeGreaterThanOrEqual(1_000)
      const client = await storage.connectAs('a', { via: 'b' })
      await client.read(0, 512, IO)
      expect((await storage.order('storage.seen', { host: 'a' })).lastSeenMs).toBeLessThan(100)
      // Refused probes renew nothing.
      await storage.sleep(1_000)
      await failure(storage.order('storage.probe', { host: 'a', epoch: 2, luns: [] }))
      expect((await storage.order('storage.seen', { host: 'a' })).lastSeenMs).toBeGreaterThanOrEqual(1_000)
      storage.restart()
      await storage.ready()
      expect((await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })).lastSeenMs).toBe(null)
    })
    expect(storage.of('storage.probed')).toHaveLength(1)
  })

  it('a probe is answered while the disk hangs', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs()
      storage.disk.fault({ operation: ['read', 'write', 'sync'], verdict: 'hang' })
      const hung = failure(client.read(0, 512, IO))
      await storage.sleep(100)
      const before = storage.sim.now
      await storage.order('storage.probe', { host: 'a', epoch: 1, luns: [] })
      expect(storage.sim.now - before).toBeLessThan(20)
      storage.disk.healAll()
      await client.close()
      await hung.catch(error => expect(error.message).toBe('it should have failed'))
    })
  })
})

describe('IO3: sessions, owners, generations', () => {
  it('a higher session is let in when the writes of the lower one are done, over both portals', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const first = await storage.connectAs('a')
      const second = await storage.connect(
        { host: 'a', epoch: 1, session: [1, 0], generation: 0, via: null, owner: null },
        LUN,
        'fabric-1',
      )
      await first.write(0, [filled(65536, 1)], {}, IO)
      slowWrites(storage)
      const writes = Promise.allSettled([
        first.write(0, [filled(512, 2)], {}, IO),
        second.write(512, [filled(512, 2)], {}, IO),
      ])
      await storage.sleep(20)
      const third = await storage.connectAs('a', { session: [1, 1] })
      const raisedAt = storage.records.findIndex(
        ({ kind, body }) => kind === 'storage.session' && JSON.stringify(body).includes('[1,1]'),
      )
      expect(storage.of('storage.applied')).toHaveLength(3)
      expect(storage.records.slice(raisedAt).some(({ kind }) => kind === 'storage.applied')).toBe(false)
      // The ghost write that the session is there for can't come any more.
      await third.write(0, [filled(512, 3)], {}, IO)
      expect((await third.read(0, 512, IO))[0]?.[0]).toBe(3)
      await writes
      expect((await failure(first.write(0, [filled(512, 4)], {}, IO))).code).toBe('ESHUTDOWN')
      expect((await failure(storage.connectAs('a'))).message).toMatch(/^session-superseded /)
    })
  })

  it('two handshakes at once and a fence between: one answer each, and none after the fence', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs('a')
      await client.write(0, [filled(65536, 1)], {}, IO)
      slowWrites(storage)
      const write = client.write(0, [filled(512, 2)], {}, IO).catch(() => undefined)
      await storage.sleep(20)
      const handshakes = [
        failure(storage.connectAs('a', { session: [1, 1] })),
        failure(storage.connectAs('a', { session: [1, 2] })),
      ]
      await storage.sleep(20)
      const fence = storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      const errors = await Promise.all(handshakes)
      expect(errors.map(({ message }) => message.split(' ')[0])).toEqual(['session-superseded', 'epoch-refused'])
      await fence
      await write
      expect((await storage.order('storage.status', {})).waiting).toBe(0)
    })
  })

  it('a client that leaves during its handshake leaves nothing behind', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs('a')
      await client.write(0, [filled(65536, 1)], {}, IO)
      slowWrites(storage)
      const write = client.write(0, [filled(512, 2)], {}, IO).catch(() => undefined)
      await storage.sleep(20)
      const stream = await storage.env.network.dialStream({ network: 'fabric-0', host: SAN, port: 3260 })
      const { connectNbd } = await import('@stellwerk/block/nbd/client.ts')
      const attempt = failure(connectNbd(stream, { exportName: 'csv1?host=a&epoch=1&session=1.1&generation=0' }))
      await storage.sleep(50)
      expect((await storage.order('storage.status', {})).waiting).toBe(1)
      stream.destroy()
      await storage.sleep(100)
      expect((await storage.order('storage.status', {})).waiting).toBe(0)
      await write
      stream.destroy()
      void attempt
    })
  })

  it('CSV1: a deposed owner that wakes up in the middle of zeroing zeroes nothing more', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'], 64 * 1024 * 1024)
      const old = await storage.connectAs('a', { owner: 1 })
      slowWrites(storage, 50)
      // Eight pieces, one after the other.
      const zeroing = failure(old.zero(0, 64 * 1024 * 1024, { noHole: true }, IO))
      await storage.sleep(120)
      const next = await storage.connectAs('b', { owner: 2 })
      const appliedBefore = storage.of('storage.applied').length
      expect(appliedBefore).toBeLessThan(8)
      await next.write(63 * 1024 * 1024, [filled(512, 5)], {}, IO)
      expect((await zeroing).code).toBe('ESHUTDOWN')
      await storage.sleep(1_000)
      expect(storage.of('storage.applied')).toHaveLength(appliedBefore + 1)
      expect((await next.read(63 * 1024 * 1024, 512, IO))[0]?.[0]).toBe(5)
    })
  })

  it('metadata takes its owner only, a slot its host too', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      const slots = [
        { host: 'a', offset: 4096, length: 4096 },
        { host: 'b', offset: 8192, length: 4096 },
      ]
      await storage.order('storage.layout', {
        lun: LUN,
        ownerEpoch: 1,
        host: 'a',
        epoch: 1,
        metadata: { offset: 0, length: 65536 },
        slots,
      })
      const a = await storage.connectAs('a')
      const owner = await storage.connectAs('a', { owner: 1 })
      for (const write of [a.write(0, [filled(512, 1)], {}, IO), a.zero(8192, 512, {}, IO), a.trim(0, 65536, {}, IO)]) {
        const error = await failure(write)
        expect(error).toMatchObject({ code: 'EPERM' })
        expect(error.message).toMatch(/^owner-only /)
      }
      await a.write(4096, [filled(512, 1)], {}, IO)
      await a.write(65536, [filled(512, 1)], {}, IO)
      await owner.write(8192, [filled(512, 1)], {}, IO)
      await a.read(0, 512, IO)
    })
  })

  it('MIR: a raised generation drains what was lower, and tells who reconnects', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs('a')
      const legs = { one: 'in-sync', two: 'stale' } as const
      expect(await storage.order('storage.generation', { lun: LUN, generation: 3, id: 'r', legs, term: 1 })).toEqual({
        generation: 3,
        legs,
      })
      expect((await failure(client.write(0, [filled(512, 1)], {}, IO))).code).toBe('ESHUTDOWN')
      expect((await failure(storage.connectAs('a'))).message).toBe(
        'generation-refused 3 {"one":"in-sync","two":"stale"}',
      )
      await storage.connectAs('a', { generation: 3 })
    })
  })
})

describe('marks survive', () => {
  it.each(['restart', 'power loss'] as const)('a %s', async how => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a', 'b'])
      await storage.order('storage.fence', { host: 'b', epoch: 1, term: 4 })
      await storage.connectAs('a', { session: [3, 2] })
      await storage.connectAs('a', { session: [3, 2], owner: 6 })
      await storage.order('storage.generation', { lun: LUN, generation: 2, legs: { one: 'in-sync' }, term: 4 })
      if (how === 'restart') storage.restart()
      else storage.powerCycle('lost')
      await storage.ready()
      expect((await failure(storage.order('storage.admit', { host: 'b', epoch: 2, term: 3 }))).code).toBe('stale-term')
      expect((await failure(storage.connectAs('b', { generation: 2 }))).message).toMatch(/^epoch-refused /)
      expect((await failure(storage.connectAs('a'))).message).toMatch(/^generation-refused 2 /)
      expect((await failure(storage.connectAs('a', { generation: 2, session: [3, 1] }))).message).toMatch(
        /^session-superseded /,
      )
      expect((await failure(storage.connectAs('a', { generation: 2, session: [3, 3], owner: 5 }))).message).toMatch(
        /^owner-superseded /,
      )
      await storage.connectAs('a', { generation: 2, session: [3, 2], owner: 6 })
    })
  })

  it('whenever the power fails: what was told is kept', async () => {
    for (let seed = 0; seed < 12; seed++) {
      const storage = new SimStorage({ seed })
      await storage.run(async () => {
        await storage.setUp(['a'])
        let commits = 0
        const stop = storage.sim.onCommit(({ stage }) => {
          commits += 1
          // Before or after one of the fence's and admission's commits.
          if (commits === (seed % 4) + 1) storage.powerCycle(stage === 'before' ? 'lost' : 'torn')
        })
        const told: { admitted: number; fenced: number }[] = []
        const attempt = async (): Promise<void> => {
          told.push(await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 }))
          told.push(await storage.order('storage.admit', { host: 'a', epoch: 2, term: 1 }))
        }
        await attempt().catch(error => expect(['link-lost', 'refused', 'unreachable']).toContain(error.code))
        stop()
        await storage.ready()
        const now = await storage.order('storage.seen', { host: 'a' })
        for (const { admitted, fenced } of told) {
          expect(now.admitted).toBeGreaterThanOrEqual(admitted)
          expect(now.fenced).toBeGreaterThanOrEqual(fenced)
        }
      })
    }
  })

  it('a store that cannot commit refuses, and nothing has happened', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs('a')
      const fault = storage.disk.fault({ operation: 'commit', verdict: 'ENOSPC' })
      expect((await failure(storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 }))).code).toBe(
        'store-failed',
      )
      expect((await failure(storage.connectAs('a', { session: [9, 0] }))).message).toMatch(/^store-failed /)
      await client.write(0, [filled(512, 1)], {}, IO)
      fault.heal()
      await storage.order('storage.fence', { host: 'a', epoch: 1, term: 1 })
      expect((await failure(client.write(0, [filled(512, 1)], {}, IO))).code).toBe('ESHUTDOWN')
    })
  })
})
