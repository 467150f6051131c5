// A mirrored volume of a real cluster loses one storage process and then the other, by kill -9, while fio, nbdcopy and a
// guest write to it: no client sees an error, and what was acknowledged is read back from the leg that was resynced.

import { peers } from '@stellwerk/runtime/testing/peers.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Book } from './book.ts'
import { CLIENT_PEERS, Clients } from './clients.ts'
import { type Running, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const { missing, note } = peers(...CLIENT_PEERS)

describe.skipIf(missing)(`a mirrored volume with clients at work (${note})`, () => {
  const stellwerk = new Stellwerk('mirror')
  const clients = new Clients(stellwerk)
  const book = new Book(stellwerk)
  let up: Running
  let api: ApiClient

  beforeAll(async () => {
    // With the patient profile: what must not happen is that a slow test machine is taken for a dead host.
    up = stellwerk.start('up', '--profile', 'production')
    await up.said(/^up after/)
    api = await apiOf(stellwerk.state)
    await Promise.all([clients.export(api, 'csv1', 'host-a'), book.begin('csv1', 'host-b')])
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  /** How far resyncs were said to be, as they went. */
  const told: { copiedBytes: number; totalBytes: number }[] = []
  const roles = async (): Promise<string[]> => {
    const legs = (await api.status()).volumes['csv1']?.legs ?? []
    for (const { resync } of legs) if (resync !== null) told.push(resync)
    return legs.map(({ storage, role }) => `${storage} ${role}`)
  }
  const becomes = (...wanted: string[]) => expect.poll(roles, { timeout: 90_000, interval: 100 }).toEqual(wanted)

  it('goes on without an error when a storage is killed', { timeout: LONG }, async () => {
    await becomes('san-a in-sync', 'san-b in-sync')
    const work = await clients.begin()
    expect(work.goesOn()).toBe(true)
    await stellwerk.kill('san-a')
    await becomes('san-a stale', 'san-b in-sync')
    expect((await stellwerk.run('status')).lines[0]).toMatch(/1 storage NO \(csv1: leg san-a stale\)/)
    const { slowestWriteMs } = await work.finish()
    // Some of what was under way waited until it was certain that the leg is given up.
    expect(slowestWriteMs).toBeGreaterThan(1_000)
    await book.goesOn()
  })

  it('is resynced when the storage is back, while they write', { timeout: LONG }, async () => {
    const work = await clients.begin()
    const watching = setInterval(() => void roles(), 20)
    expect(await stellwerk.run('up')).toEqual({ code: 0, lines: [expect.stringMatching(/they were started again/)] })
    expect((await stellwerk.run('volume', 'resync', 'csv1')).code).toBe(0)
    await becomes('san-a in-sync', 'san-b in-sync')
    clearInterval(watching)
    expect((await stellwerk.run('events')).lines.join('\n')).toMatch(/generation \d+: leg-0 syncing, leg-1 in-sync/)
    // One of a few regions may be over before its owner's next heartbeat: then nothing was told of how far it was.
    for (const { copiedBytes, totalBytes } of told) expect(totalBytes).toBeGreaterThanOrEqual(copiedBytes)
    // Its owner begins anew in the new generation: for that moment nobody serves it.
    const canLose = async () => (await stellwerk.run('status')).lines[0]
    await expect.poll(canLose, { timeout: LONG }).toBe('can lose: 1 host yes · 1 storage yes')
    await work.finish()
  })

  it('has everything on the leg that was resynced when the other one is killed', { timeout: LONG }, async () => {
    await stellwerk.kill('san-b')
    await clients.verify()
    await becomes('san-a in-sync', 'san-b stale')
    await book.goesOn()
  })

  it('and every entry that the guest was told is on its disk', { timeout: LONG }, async () => {
    const last = book.acknowledged()
    expect((await stellwerk.run('down')).lines).toEqual(['the cluster is down'])
    expect((await up.ended).code).toBe(0)
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
    const exported = stellwerk.start('disk', 'export', 'csv1', Book.disk)
    const uri = await exported.said(/^nbd:\/\//)
    await book.has(last, uri)
    exported.process.kill('SIGINT')
  })
})
