// Rule HB1: fio on disks of two hosts at full rate, and guests of much RAM moved between them meanwhile, never make the
// coordinator doubt a host that lives.

import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportDisk } from './clients.ts'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const PATIENCE = { timeout: 90_000, interval: 100 }
const LOAD_S = 12
const DISK_BYTES = 128 * MIB
const { missing, note } = peers(peer('fio', 'fio'))

describe.skipIf(missing)(`HB1: a cluster under full load (${note})`, () => {
  const stellwerk = new Stellwerk('heartbeats')
  let api: ApiClient

  beforeAll(async () => {
    // Three heartbeats of a second: a machine that does not let a process run for so long proves nothing.
    await stellwerk.start('up', '--profile', 'production').said(/^up after/)
    api = await apiOf(stellwerk.state)
  }, LONG)

  afterAll(() => stellwerk.remove(), LONG)

  it('never takes a host for silent', { timeout: LONG }, async () => {
    const guest = ['--guest', 'ledger', '--memory', '64MiB', '--param', 'dirtyMiBPerSecond=16', '--disk', 'csv1:16MiB']
    expect((await stellwerk.run('vm', 'create', 'mover', ...guest, '--host', 'host-a')).code).toBe(0)
    const place = async () => (await api.status()).vms['mover']
    await expect.poll(async () => (await place())?.state, PATIENCE).toBe('running')
    const before = (await api.events(0)).at(-1)?.seq ?? 0
    const loads = []
    for (const [host, how] of [
      ['host-a', ['--rw=randwrite', '--bs=4k', '--iodepth=64']],
      ['host-b', ['--rw=rw', '--bs=256k', '--iodepth=16']],
    ] as const) {
      await api.post(pathOf('volumes', 'csv1', 'disks'), { disk: `load-${host}`, sizeBytes: DISK_BYTES })
      const uri = await exportDisk(api, 'csv1', `load-${host}`, { host })
      const fixed = [`--name=${host}`, '--ioengine=nbd', `--uri=${uri}`, `--size=${DISK_BYTES}`, '--output-format=json']
      loads.push(stellwerk.startTool('fio', ...fixed, ...how, '--time_based', `--runtime=${LOAD_S}`))
    }
    let moves = 0
    let over = false
    const ends = Promise.all(loads.map(({ ended }) => ended)).finally(() => {
      over = true
    })
    const doubts = new Set<string>()
    while (!over) {
      const { hosts, vms } = await api.status()
      for (const [name, { state }] of Object.entries(hosts)) if (state !== 'up') doubts.add(`${name} ${state}`)
      const mover = vms['mover']
      if (mover?.state === 'running') {
        const to = mover.host === 'host-a' ? 'host-b' : 'host-a'
        const { code } = await stellwerk.run('vm', 'migrate', 'mover', '--to', to, '--wait')
        if (code === 0) moves += 1
      } else await new Promise(resolve => setTimeout(resolve, 100))
    }
    for (const [index, { code }] of (await ends).entries()) expect(code, loads[index]?.lines.join('\n')).toBe(0)
    expect(moves).toBeGreaterThan(0)
    expect([...doubts]).toEqual([])
    const events = (await api.events(before)).map(({ kind }) => kind)
    expect(events.filter(kind => kind === 'host.verdict' || kind.startsWith('fence'))).toEqual([])
    expect(events).toContain('migration.committed')
  })
})
