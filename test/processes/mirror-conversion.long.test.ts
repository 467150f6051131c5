// A volume of a real cluster becomes a mirror and one leg again, there and back, while fio, nbdcopy and a guest write to it. Each
// of its storages in turn is lost for good, by kill -9 with all that it had, and another, or a blank one of its name, takes its
// place: no client sees an error, and what they wrote is found on legs that were made after most of it.

import { peers } from '@stellwerk/runtime/testing/peers.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Book } from './book.ts'
import { CLIENT_PEERS, Clients, exportDisk } from './clients.ts'
import { HOSTS, ServedCluster } from './served-cluster.ts'
import { Stellwerk } from './stellwerk.ts'

const LONG = 300_000
const PATIENCE = { timeout: 120_000, interval: 100 }
const { missing, note } = peers(...CLIENT_PEERS)

describe.skipIf(missing)(`a volume whose legs come and go with clients at work (${note})`, () => {
  const stellwerk = new Stellwerk('conversion', '.')
  const cluster = new ServedCluster(stellwerk)
  const clients = new Clients(stellwerk)
  const book = new Book(stellwerk)
  let api: ApiClient

  beforeAll(async () => {
    // With the patient profile: what must not happen is that a slow test machine is taken for a dead host.
    api = await cluster.start({ ioDeadlineMs: 2_000 })
  }, LONG)

  afterAll(async () => {
    await stellwerk.remove()
    await cluster.close()
  }, LONG)

  const volume = async () => (await api.status()).volumes['csv1']
  const legs = async () => ((await volume())?.legs ?? []).map(({ storage, role }) => `${storage} ${role}`)
  const legsAre = (...wanted: string[]) => expect.poll(legs, PATIENCE).toEqual(wanted)
  const mirror = async (...words: string[]) =>
    expect(await stellwerk.run('volume', 'mirror', 'csv1', ...words)).toMatchObject({ code: 0 })
  /** As it must be for a storage to be lost. */
  const canLoseOne = () =>
    expect
      .poll(async () => (await stellwerk.run('status')).lines[0], PATIENCE)
      .toBe('can lose: 1 host yes · 1 storage yes')
  /** Where every leg has everything, a block that differs was missed by a copy, or by a write during one. */
  const legsAreEqual = async () => {
    const { code, lines } = await stellwerk.run('volume', 'check', 'csv1', '--scrub')
    const nothing = '0 repaired, 0 undecided, 0 not compared'
    expect([code, lines.join('\n')]).toEqual([0, expect.stringContaining(nothing)])
  }

  it('has one leg, and clients on two hosts', { timeout: LONG }, async () => {
    const hosts = async () => Object.values((await api.status()).hosts).map(({ state }) => state)
    await expect.poll(hosts, PATIENCE).toEqual(HOSTS.map(() => 'up'))
    expect((await stellwerk.run('volume', 'create', 'csv1', '512MiB', '--storage', 'san-a')).code).toBe(0)
    await expect.poll(async () => (await volume())?.state, PATIENCE).toBe('serving')
    await Promise.all([clients.export(api, 'csv1', 'host-a'), book.begin('csv1', 'host-b')])
    // So that there is much to copy.
    await (await clients.begin()).finish()
  })

  it('becomes a mirror while they write', { timeout: LONG }, async () => {
    await legsAre('san-a in-sync')
    const work = await clients.begin()
    await mirror('--to', 'san-b')
    await legsAre('san-a in-sync', 'san-b in-sync')
    expect(work.goesOn()).toBe(true)
    await work.finish()
    await book.goesOn()
    await legsAreEqual()
  })

  it('goes on with the new leg alone when the first one is lost, and then has that alone', {
    timeout: LONG,
  }, async () => {
    await canLoseOne()
    const work = await clients.begin()
    await cluster.loseStorage('san-a')
    await legsAre('san-a stale', 'san-b in-sync')
    expect(work.goesOn()).toBe(true)
    await mirror('--remove', 'san-a')
    await legsAre('san-b in-sync')
    await work.finish()
    await book.goesOn()
  })

  it('is a mirror again with a storage that was not there before', { timeout: LONG }, async () => {
    const work = await clients.begin()
    await cluster.replaceStorage('san-a', 'san-c')
    await expect.poll(async () => (await volume())?.state, PATIENCE).toBe('serving')
    await mirror('--to', 'san-c')
    await legsAre('san-b in-sync', 'san-c in-sync')
    expect(work.goesOn()).toBe(true)
    await work.finish()
    await book.goesOn()
    await legsAreEqual()
  })

  it('and with a blank one in the place of the second one, lost like the first', { timeout: LONG }, async () => {
    await canLoseOne()
    const work = await clients.begin()
    await cluster.loseStorage('san-b')
    await legsAre('san-b stale', 'san-c in-sync')
    await mirror('--remove', 'san-b')
    await cluster.startBlank('san-b')
    // As long as its former leg is not known to be gone a new one is refused.
    const again = async () => (await stellwerk.run('volume', 'mirror', 'csv1', '--to', 'san-b')).lines.join('\n')
    await expect.poll(again, PATIENCE).toMatch(/is being made and copied/)
    await legsAre('san-c in-sync', 'san-b in-sync')
    expect(work.goesOn()).toBe(true)
    await work.finish()
    await book.goesOn()
    await legsAreEqual()
    await canLoseOne()
  })

  it('is sound, and every entry that the guest was told is on its disk', { timeout: LONG }, async () => {
    const last = book.acknowledged()
    expect((await stellwerk.run('vm', 'stop', 'book')).code).toBe(0)
    await expect.poll(async () => (await api.status()).vms['book']?.state, PATIENCE).toBe('stopped')
    await clients.verify()
    await book.has(last, await exportDisk(api, 'csv1', Book.disk, { readOnly: true, host: 'host-c' }))
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })
})
