// What follows from an agent in a guest: how good a snapshot is, what is seen of the guest, and where a forward to it ends.

import type { GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { beforeEach, describe, expect, it } from 'vitest'
import { benchApiEach } from './testing/bench-api-each.ts'

const MAC = '52:54:00:00:00:07'
const FACTS: GuestFacts = {
  ...{ version: '7.2.22', hostName: 'desk', os: 'Debian GNU/Linux 12' },
  interfaces: [
    { name: 'docker0', mac: '02:42:00:00:00:01', addresses: ['172.17.0.1'] },
    { name: 'ens3', mac: MAC, addresses: ['169.254.7.7', '2001:db8::7', '10.0.0.7'] },
  ],
}
const DISK = {
  ...{ disk: 'desk-0', name: 'desk-0', parent: null, snapshot: false, sizeBytes: 4096 },
  ...{ allocatedBytes: 0, sharedBytes: 0, mapVersion: 1, mappedVersion: 0, holder: null, reserved: null },
}

const api = benchApiEach()
/** What the host answers to the orders about files. */
let freeze: (times: number) => object
let held: boolean

beforeEach(async () => {
  freeze = () => ({ state: 'frozen', why: null })
  held = true
  let times = 0
  api().answer = kind => {
    if (kind === 'vm.freeze-files') return freeze(++times)
    if (kind === 'vm.thaw-files') return { held }
    return kind === 'volume.list-disks' ? { disks: [DISK] } : { ...DISK, disk: 's1', name: 's1', snapshot: true }
  }
  api().bench.hasGuestNetwork = true
  for (const name of [...api().bench.hosts.keys()]) api().bench.join(name).qemu = { why: null }
  api().bench.round()
  const body = {
    ...{ name: 'desk', guest: 'bios', hypervisor: 'qemu', memoryBytes: 2 ** 26 },
    ...{ disks: [{ volume: 'csv1', sizeBytes: 4096 }], nics: [{ network: 'lan', mac: MAC }] },
  }
  const disks = api().answer
  api().answer = kind => (kind === 'volume.list-disks' ? { disks: [] } : disks(kind, null))
  expect((await api().call('POST', '/v1/vms', body)).status).toBe(201)
  api().answer = disks
  api().bench.round(5)
})

function tell(guest: GuestFacts | null): void {
  const { host } = api().bench.state.vms.get('desk')!.placement!
  const reporting = api().bench.hosts.get(host)!
  reporting.machines = reporting.machines.map(({ guest: _before, ...machine }) =>
    machine.vm === 'desk' && guest !== null ? { ...machine, guest } : machine,
  )
  api().bench.round(2)
}

describe('a snapshot of a disk that a guest runs with', () => {
  const snapshot = async (more: object = {}) =>
    (await api().call('POST', '/v1/volumes/csv1/disks/desk-0/snapshots', { name: 's1', ...more })).body
  const orders = () =>
    api()
      .asked.map(({ kind }) => kind)
      .filter(kind => kind.endsWith('-files') || kind === 'volume.snapshot-disk')

  it('is made while an agent holds its file systems still, which is on record', async () => {
    tell(FACTS)
    freeze = times => ({ state: times < 3 ? 'freezing' : 'frozen', why: null })
    expect(await snapshot()).toMatchObject({ disk: 's1', consistency: 'application-consistent', why: null })
    const freezes = Array<string>(3).fill('vm.freeze-files')
    expect(orders()).toEqual([...freezes, 'volume.snapshot-disk', 'vm.thaw-files'])
    const { host, epoch, incarnation } = api().bench.state.vms.get('desk')!.placement!
    const [first, thaw] = ['vm.freeze-files', 'vm.thaw-files'].map(kind => api().asked.find(each => each.kind === kind))
    expect(first).toMatchObject({ to: host, body: { vm: 'desk', host, epoch, incarnation, holdMs: 5_000 } })
    expect(thaw?.body).toEqual({ ...(first?.body as object), holdMs: undefined })
    const { body } = await api().call('GET', '/v1/why/vm/desk')
    expect(JSON.stringify(body)).toContain('application-consistent: csv1/s1')
  })

  it('that was let go too early, cannot be frozen, or whose host says nothing, is what a crash would leave', async () => {
    tell(FACTS)
    held = false
    expect(await snapshot()).toMatchObject({ consistency: 'crash-consistent', why: expect.stringMatching(/let go/) })
    held = true
    freeze = () => ({ state: 'failed', why: 'it has no file system' })
    expect(await snapshot()).toMatchObject({ consistency: 'crash-consistent', why: 'it has no file system' })
    freeze = () => {
      throw new StellwerkError('deadline', 'no answer')
    }
    expect(await snapshot()).toMatchObject({ consistency: 'crash-consistent', why: expect.stringMatching(/no answer/) })
    expect(orders().filter(kind => kind === 'vm.thaw-files')).toHaveLength(3)
  })

  it('that fails lets the guest go', async () => {
    tell(FACTS)
    const before = api().answer
    api().answer = (kind, body) => {
      if (kind === 'volume.snapshot-disk') throw new StellwerkError('chain-too-long', 'too many')
      return before(kind, body)
    }
    expect(await snapshot()).toMatchObject({ code: 'chain-too-long' })
    expect(orders().at(-1)).toBe('vm.thaw-files')
  })

  it('without an agent, or where it is not to be asked, asks nobody', async () => {
    expect(await snapshot()).toMatchObject({ consistency: 'crash-consistent', why: 'no agent answers in its guest' })
    tell(FACTS)
    expect(await snapshot({ freeze: false })).toMatchObject({ consistency: 'crash-consistent' })
    await api().call('POST', '/v1/vms/desk/stop')
    api().bench.round(3)
    expect(await snapshot()).toMatchObject({ consistency: 'idle', why: null })
    expect(orders()).toEqual(Array<string>(3).fill('volume.snapshot-disk'))
  })
})

describe('a guest with an agent', () => {
  const seen = async () => ((await api().call('GET', '/v1/vms/desk')).body as { guestAgent: object | null }).guestAgent

  it('is seen with what it tells, until none answers any more', async () => {
    expect(await seen()).toMatchObject({ state: 'absent', hostName: null, interfaces: [] })
    tell(FACTS)
    expect(await seen()).toEqual({ state: 'there', ...FACTS })
    tell(null)
    expect(await seen()).toMatchObject({ state: 'absent' })
    for (const host of api().bench.hosts.values()) host.beating = false
    api().bench.round(8)
    expect(await seen()).toMatchObject({ state: 'unknown' })
    expect(((await api().call('GET', '/v1/vms/web')).body as { guestAgent: unknown }).guestAgent).toBe(null)
  })

  it('is where a forward leads to without an address, also a lasting one', async () => {
    const asked = { listenAddress: null, port: 2222, guestPort: 22, address: null, bits: 24, on: 'vm' } as const
    const keep = () => api().bench.command({ kind: 'vm-forward', name: 'desk', asked })
    expect(keep()).toMatchObject({ refused: 'no-address' })
    tell(FACTS)
    expect(keep()).toMatchObject({ body: { guest: '10.0.0.7:22' } })
    // Where it was said to be, it stays.
    tell(null)
    expect(api().bench.state.vms.get('desk')?.forwards).toMatchObject([{ guest: '10.0.0.7', guestPort: 22 }])
  })
})
