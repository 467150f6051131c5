// LUNs as hosts and the coordinator see them: made, damaged, deleted, and found again, in a simulation.

import { describe, expect, it } from 'vitest'
import { failure, filled, IO, LUN, SAN, SimStorage } from './testing/sim-storage.ts'

describe('LUNs', () => {
  it('one that could not be opened is tried again until what was missing is there, unless it is deleted', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const [shown] = (await storage.order('storage.list-luns', {})).luns
      const map = storage.disk.file(SAN, `luns/${shown?.id}.map`)
      const good = map?.read(0, 512) ?? new Uint8Array(512)
      map?.write(20, [filled(1, 0xff)])
      storage.restart()
      await storage.ready()
      expect((await failure(storage.connectAs('a'))).message).toMatch(/^lun-failed /)
      map?.write(0, [good])
      await storage.sleep(1_500)
      const client = await storage.connectAs('a', { session: [3, 0] })
      await client.close()
      map?.write(20, [filled(1, 0xff)])
      storage.restart()
      await storage.ready()
      await storage.order('storage.delete-lun', { lun: LUN, force: true })
      await storage.sleep(3_000)
      expect((await storage.order('storage.list-luns', {})).luns).toEqual([])
      storage.restart()
      await storage.ready()
      expect(storage.startErrors).toEqual([])
    })
  })

  it('a corrupt one is refused with why; the others are served; whole again it is too', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      await storage.order('storage.create-lun', { lun: 'other', sizeBytes: 65536, open: true })
      const { luns } = await storage.order('storage.list-luns', {})
      const map = storage.disk.file(SAN, `luns/${luns.find(({ lun }) => lun === LUN)?.id}.map`)
      const good = map?.read(0, 512) ?? new Uint8Array(512)
      map?.write(20, [filled(1, 0xff)])
      storage.restart()
      await storage.ready()
      const error = await failure(storage.connectAs('a'))
      expect(error.message).toMatch(/^lun-failed .*checksum/)
      const listed = await storage.order('storage.list-luns', {})
      expect(listed.luns.map(({ lun, state }) => [lun, state])).toEqual([
        [LUN, 'failed'],
        ['other', 'up'],
      ])
      const named = await storage.order('storage.list-luns', { lun: 'other' })
      expect(named.luns.map(({ lun }) => lun)).toEqual(['other'])
      expect((await storage.order('storage.list-luns', { lun: 'nobody' })).luns).toEqual([])
      await (await storage.connect(null, 'other')).write(0, [filled(512, 1)], {}, IO)
      map?.write(0, [good])
      storage.restart()
      await storage.ready()
      await storage.connectAs('a')
    })
  })

  it('one that was deleted is not made again by an order that is late', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const make = { lun: 'csv2', sizeBytes: 65536, id: 'first' }
      await storage.order('storage.create-lun', make)
      await storage.order('storage.delete-lun', { lun: 'csv2', id: 'first', force: true })
      expect((await failure(storage.order('storage.create-lun', make))).code).toBe('lun-deleted')
      await storage.order('storage.create-lun', { ...make, id: 'second' })
      expect((await failure(storage.order('storage.delete-lun', { lun: 'csv2', id: 'first', force: true }))).code).toBe(
        'unknown-lun',
      )
      expect((await storage.order('storage.list-luns', {})).luns.map(({ id }) => id)).toContain('second')
    })
  })

  it('are deleted with their files, also by the next start after a crash', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const client = await storage.connectAs('a')
      expect((await failure(storage.order('storage.delete-lun', { lun: LUN }))).code).toBe('lun-busy')
      const files = async (): Promise<string[]> => {
        const { luns } = await storage.order('storage.list-luns', {})
        return luns
          .flatMap(({ id }) => [`luns/${id}.data`, `luns/${id}.map`])
          .filter(path => storage.disk.file(SAN, path) !== null)
      }
      const [data, map] = await files()
      await storage.order('storage.delete-lun', { lun: LUN, force: true })
      expect((await failure(client.read(0, 512, IO))).code).toBe('ESHUTDOWN')
      expect([data, map].map(path => storage.disk.file(SAN, path ?? ''))).toEqual([null, null])
      // The power fails between the record's end and the files'.
      await storage.setUp(['a'])
      const [left] = await files()
      storage.disk.fault({ operation: 'open', verdict: 'hang' })
      const deleting = storage.order('storage.delete-lun', { lun: LUN }).catch(() => undefined)
      await storage.sleep(100)
      storage.disk.healAll()
      storage.powerCycle()
      await deleting
      await storage.ready()
      expect((await storage.order('storage.list-luns', {})).luns).toEqual([])
      expect(storage.disk.file(SAN, left ?? '')).toBe(null)
    })
  })

  it.each([
    ['the whole state', (key: string) => key !== ''],
    ["one LUN's record", (key: string) => key.startsWith('lun/')],
  ])('files of which the state knows nothing are kept and stop the start: %s was lost', async (_, isLost) => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp(['a'])
      const [shown] = (await storage.order('storage.list-luns', {})).luns
      const path = `luns/${shown?.id}.data`
      storage.sim.process(SAN)?.kill()
      const { store } = storage.disk.directory(SAN)
      const all = store.withPrefix('')
      for (const [key] of all) if (isLost(key)) store.delete(key)
      const isEmpty = store.withPrefix('').length === 0
      storage.start()
      await storage.ready()
      expect(storage.startErrors).toMatchObject([{ code: 'lost-state', where: 'luns' }])
      expect(storage.disk.file(SAN, path)).not.toBe(null)
      if (isEmpty) expect(store.withPrefix('')).toEqual([])
      for (const [key, value] of all) store.set(key, value)
      storage.startErrors.length = 0
      storage.start()
      await storage.ready()
      await storage.connectAs('a')
    })
  })

  it('a directory of another storage, and a second process on the same one, are refused', async () => {
    const storage = new SimStorage()
    await storage.run(async () => {
      await storage.setUp()
      storage.sim.host(SAN).spawn('storage', SAN)
      await storage.sleep(100)
      expect(storage.startErrors).toMatchObject([{ code: 'locked' }])
    })
  })
})
