// Hosts of a real cluster lose their volume's owner, a fabric, all of their paths, and then the peer that carries their
// requests, while fio and nbdcopy write to disks of a mirrored volume: no client sees an error, and all is there afterwards.

import { peers } from '@stellwerk/runtime/testing/peers.ts'
import type { ApiClient } from 'stellwerk/api-client/client.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLIENT_PEERS, Clients } from './clients.ts'
import { FABRICS, HOSTS, ServedCluster, STORAGES } from './served-cluster.ts'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const PATIENCE = { timeout: 90_000, interval: 100 }
const { missing, note } = peers(...CLIENT_PEERS)

describe.skipIf(missing)(`a host with clients at work (${note})`, () => {
  const stellwerk = new Stellwerk('redirect', '.')
  const cluster = new ServedCluster(stellwerk)
  const { fabrics } = cluster
  const clients = new Clients(stellwerk)
  let api: ApiClient

  beforeAll(async () => {
    // As patient as in production where a slow test machine could be taken for a dead host.
    api = await cluster.start({ ioDeadlineMs: 2_000 })
  }, LONG)

  afterAll(async () => {
    await stellwerk.remove()
    await cluster.close()
  }, LONG)

  const csv1 = async () => (await api.status()).volumes['csv1']
  const hosts = async () => Object.values((await api.status()).hosts).map(({ state }) => state)
  const pathsAre = (host: string, fabric: string, state: string) =>
    expect
      .poll(async () => {
        const { paths } = await api.status()
        return STORAGES.map(storage => paths[`${host}/${fabric}/${storage}`]?.state)
      }, PATIENCE)
      .toEqual(STORAGES.map(() => state))
  const owns = async (host: string) => {
    if ((await csv1())?.owner !== host) expect((await stellwerk.run('volume', 'own', 'csv1', host)).code).toBe(0)
    await expect.poll(csv1, PATIENCE).toMatchObject({ state: 'serving', owner: host })
  }
  /** How host-a reaches the legs. */
  const access = async () => ((await csv1())?.access ?? []).filter(({ host }) => host === 'host-a')
  const reachesAll = (state: string) =>
    expect.poll(async () => (await access()).map(each => each.state), PATIENCE).toEqual(STORAGES.map(() => state))

  it('is one of three, each with two paths to each of two storages', { timeout: LONG }, async () => {
    await expect.poll(hosts, PATIENCE).toEqual(HOSTS.map(() => 'up'))
    for (const host of HOSTS) for (const fabric of FABRICS) await pathsAre(host, fabric, 'up')
    expect((await stellwerk.run('volume', 'create', 'csv1', '1GiB')).code).toBe(0)
    await expect.poll(async () => (await csv1())?.state, PATIENCE).toBe('serving')
    await owns('host-b')
    await clients.export(api, 'csv1', 'host-a')
  })

  it('goes on without an error when the volume’s owner is killed', { timeout: LONG }, async () => {
    const incarnation = async () => (await api.status()).hosts['host-b']?.incarnation ?? 0
    const before = await incarnation()
    const work = await clients.begin()
    await stellwerk.kill('host-b/agent')
    expect(work.goesOn()).toBe(true)
    // Its successor is another host, or its guardian's next agent: whichever is there first. The copies need one.
    await expect.poll(incarnation, PATIENCE).toBeGreaterThan(before)
    await expect.poll(async () => (await csv1())?.state, PATIENCE).toBe('serving')
    await expect.poll(hosts, PATIENCE).toEqual(HOSTS.map(() => 'up'))
    await work.finish()
  })

  it('and when its fabrics are pulled out, with a reset or silently, and are back', { timeout: LONG }, async () => {
    const work = await clients.begin()
    fabrics['fabric-0'].down()
    expect(work.goesOn()).toBe(true)
    await pathsAre('host-a', 'fabric-0', 'failed')
    fabrics['fabric-0'].up()
    await pathsAre('host-a', 'fabric-0', 'up')
    fabrics['fabric-1'].silence()
    await pathsAre('host-a', 'fabric-1', 'failed')
    fabrics['fabric-1'].up()
    await pathsAre('host-a', 'fabric-1', 'up')
    await work.finish()
  })

  it('and when it is redirected, and the peer that carries its requests is killed', { timeout: LONG }, async () => {
    await owns('host-a')
    const work = await clients.begin()
    const disabled = FABRICS.map(fabric => stellwerk.run('path', 'disable', 'host-a', fabric, '--force'))
    for (const { code } of await Promise.all(disabled)) expect(code).toBe(0)
    await reachesAll('redirected')
    const [carrier = ''] = (await access()).map(({ via }) => via ?? '')
    expect(work.goesOn()).toBe(true)
    await stellwerk.kill(`${carrier}/agent`)
    await expect
      .poll(async () => (await access()).every(({ state, via }) => state === 'redirected' && via !== carrier), PATIENCE)
      .toBe(true)
    const enabled = FABRICS.map(fabric => stellwerk.run('path', 'enable', 'host-a', fabric))
    for (const { code } of await Promise.all(enabled)) expect(code).toBe(0)
    await reachesAll('direct')
    await work.finish()
  })

  it('none of which has cost the volume a leg, or anything else', { timeout: LONG }, async () => {
    await expect.poll(hosts, PATIENCE).toEqual(HOSTS.map(() => 'up'))
    expect(await csv1()).toMatchObject({
      state: 'serving',
      generation: 1,
      legs: [{ role: 'in-sync' }, { role: 'in-sync' }],
    })
    const check = await stellwerk.run('volume', 'check', 'csv1')
    expect([check.code, check.lines.at(-1)]).toEqual([0, 'csv1 is sound'])
  })
})
