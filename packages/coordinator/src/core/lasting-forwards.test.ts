// Lasting forwards: on record with their VM, in the map where it is, and gone with it.

import type { ClusterMap } from '@stellwerk/protocol/messages/cluster.ts'
import { ClusterMapSchema } from '@stellwerk/protocol/messages/cluster.ts'
import { LASTING_FORWARDS_MAX } from '@stellwerk/protocol/messages/forward.ts'
import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { expect, test } from 'vitest'
import { forwardViews } from '../view/forwards.ts'
import { whyOf } from '../view/why.ts'
import type { AskedForward } from './lasting-forwards.ts'
import { Bench } from './testing.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']

/** Three hosts on the guest network; VM "www" has a card with an address, "db" one without, "web" none. */
function benchWith(guest = true): Bench {
  const bench = Bench.cluster()
  bench.hasGuestNetwork = guest
  for (const name of HOSTS) bench.join(name)
  create(bench, 'www', ['10.0.0.7'])
  create(bench, 'db', [])
  bench.round(4)
  return bench
}

function create(bench: Bench, name: string, addresses: readonly string[]): void {
  bench.command({
    ...{ kind: 'vm-create', name, disks: [], start: true, priority: 0, host: 'host-a' },
    spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 20, parameters: {} },
    nics: [{ network: 'lan', mac: null, addresses }],
  })
}

const ask = (more: Partial<AskedForward> = {}): AskedForward => ({
  ...{ listenAddress: null, port: 2222, guestPort: 22, address: null, bits: 24, on: 'vm' },
  ...more,
})
const add = (bench: Bench, name: string, more: Partial<AskedForward> = {}) =>
  bench.command({ kind: 'vm-forward', name, asked: ask(more) })
const end = (bench: Bench, name: string, forward: string) => bench.command({ kind: 'vm-unforward', name, forward })

/** As every host that is in contact has been told last. */
function mapOf(bench: Bench): ClusterMap {
  const maps = bench.orders.filter(({ message }) => message === 'cluster.map').map(({ body }) => body as ClusterMap)
  const last = maps.reduce((a, b) => (b.version >= a.version ? b : a))
  expect(Value.Check(ClusterMapSchema, last)).toBe(true)
  return last
}

/** `2222: host-a by 10.0.0.254`. */
const told = (bench: Bench): string[] =>
  (mapOf(bench).forwards ?? []).map(
    ({ forward, at }) => `${forward}: ${at.map(({ host, gateway }) => `${host} by ${gateway}`).join(', ')}`,
  )

function migrate(bench: Bench, name: string, to: string): void {
  bench.command({ kind: 'vm-migrate', name, to, id: 'm1' })
  bench.round(1)
  const migration = [...bench.state.migrations.values()].at(-1)!
  bench.input({ kind: 'migration-progress', migration: 'm1', converged: true })
  bench.round(1)
  const { epoch } = migration
  const machine = { vm: name, epoch, state: 'released', why: null } as const
  const target = bench.hosts.get(to)!
  target.machines = [...target.machines, machine]
  bench.ask(request => ({
    kind: 'migration-loaded',
    request,
    message: { migration: 'm1', vm: name, host: to, incarnation: target.incarnation, epoch },
  }))
  bench.round(1)
}

test('one that is added is told to the host that has its VM, and to another after a migration', () => {
  const bench = benchWith()
  expect(mapOf(bench)).not.toHaveProperty('forwards')
  expect(add(bench, 'www').body).toEqual({ vm: 'www', forward: '2222', guest: '10.0.0.7:22' })
  expect(mapOf(bench).forwards).toEqual([
    {
      ...{ forward: '2222', listen: { host: null, port: 2222 }, network: 'lan', bits: 24 },
      ...{ guest: '10.0.0.7', guestPort: 22, at: [{ host: 'host-a', gateway: '10.0.0.254' }] },
    },
  ])
  migrate(bench, 'www', 'host-b')
  expect(bench.placement('www')?.host).toBe('host-b')
  expect(told(bench)).toEqual(['2222: host-b by 10.0.0.253'])
})

test('it is durable, and a coordinator that is started anew tells it again', () => {
  const bench = benchWith()
  add(bench, 'www')
  bench.orders.splice(0)
  bench.restart()
  bench.round(2)
  expect(told(bench)).toEqual(['2222: host-a by 10.0.0.254'])
  expect(bench.state.vms.get('www')?.forwards).toHaveLength(1)
})

test('it is nowhere while its VM is stopped, and gone when that is deleted: its port is free', () => {
  const bench = benchWith()
  add(bench, 'www')
  bench.command({ kind: 'vm-stop', name: 'www', graceMs: 0 })
  bench.round(3)
  expect(told(bench)).toEqual([])
  bench.command({ kind: 'vm-start', name: 'www', host: 'host-c' })
  bench.round(3)
  expect(told(bench)).toEqual(['2222: host-c by 10.0.0.252'])
  bench.command({ kind: 'vm-delete', name: 'www' })
  expect(told(bench)).toEqual([])
  expect(add(bench, 'db', { address: '10.0.0.9' }).body).toMatchObject({ forward: '2222' })
})

test('after its host was lost it is open where its VM is started again', () => {
  const bench = benchWith()
  add(bench, 'www')
  bench.hosts.get('host-a')!.beating = false
  bench.input({ kind: 'agent-down', host: 'host-a', incarnation: 1 })
  bench.round(40)
  const host = bench.placement('www')?.host ?? ''
  expect(['host-b', 'host-c']).toContain(host)
  expect(told(bench)).toEqual([expect.stringMatching(`^2222: ${host} by `)])
})

test('every host listens, or one for good', () => {
  const bench = benchWith()
  add(bench, 'www', { on: 'all' })
  add(bench, 'www', { port: 8080, guestPort: 80, on: { host: 'host-c' } })
  expect(told(bench)).toEqual([
    '2222: host-a by 10.0.0.254, host-b by 10.0.0.253, host-c by 10.0.0.252',
    '8080: host-c by 10.0.0.252',
  ])
  const { version } = mapOf(bench)
  migrate(bench, 'www', 'host-b')
  // A connection through a host that still listens is not touched.
  expect(mapOf(bench).version).toBe(version)
  bench.command({ kind: 'host-remove', name: 'host-c' })
  expect(told(bench)).toEqual(['2222: host-a by 10.0.0.254, host-b by 10.0.0.253'])
})

test('asked for again it stays as it is, and ends once', () => {
  const bench = benchWith()
  add(bench, 'www')
  const before = bench.state.revision
  expect(add(bench, 'www')).toMatchObject({ body: { forward: '2222' } })
  expect(bench.state.revision).toBe(before)
  expect(end(bench, 'www', '2222').body).toEqual({ vm: 'www', forward: '2222' })
  expect(end(bench, 'www', '2222')).toMatchObject({
    refused: 'unknown-forward',
    hint: 'see: stellwerk vm forwards www',
  })
  expect(told(bench)).toEqual([])
})

test('no host has the address of a guest that one leads to', () => {
  const bench = benchWith()
  add(bench, 'www')
  add(bench, 'db', { port: 5432, address: '10.0.0.254' })
  expect(told(bench)).toEqual(['2222: host-a by 10.0.0.253', '5432: host-a by 10.0.0.253'])
})

test.each<[string, string, Partial<AskedForward>]>([
  ['forward-exists', 'www', { guestPort: 80 }],
  ['forward-exists', 'db', { address: '10.0.0.9' }],
  ['forward-exists', 'www', { listenAddress: '10.9.0.1' }],
  ['forward-exists', 'www', { listenAddress: '0.0.0.0' }],
  ['forward-exists', 'www', { on: 'all' }],
  ['unknown-vm', 'none', { port: 1 }],
  ['no-network', 'web', { port: 1 }],
  ['no-address', 'db', { port: 1 }],
  ['unknown-host', 'www', { port: 1, on: { host: 'host-z' } }],
  ['bits-differ', 'www', { port: 1, bits: 16 }],
])('%s: %s %j', (code, name, more) => {
  const bench = benchWith()
  add(bench, 'www')
  const before = JSON.stringify([...bench.store.values])
  expect(add(bench, name, more)).toMatchObject({ refused: code, hint: expect.any(String) })
  expect(JSON.stringify([...bench.store.values])).toBe(before)
})

test('two addresses that are said do not get in each other’s way', () => {
  const bench = benchWith()
  add(bench, 'www', { listenAddress: '10.9.0.1' })
  expect(add(bench, 'www', { listenAddress: '10.9.0.2' }).body).toMatchObject({ forward: '10.9.0.2:2222' })
  expect(told(bench)).toHaveLength(2)
})

test('there are so many and no more, and a network without an address for each host is too small', () => {
  const bench = benchWith()
  for (let i = 0; i < LASTING_FORWARDS_MAX; i += 1) add(bench, 'www', { port: 10_000 + i })
  expect(add(bench, 'www', { port: 9 })).toMatchObject({ refused: 'too-many-forwards' })
  const small = benchWith()
  for (let i = 1; i <= 13; i += 1) create(small, `vm-${i}`, [`10.0.1.${i}`])
  expect(add(small, 'vm-1', { bits: 28 })).toMatchObject({
    refused: 'no-address',
    message: 'no address is free in 10.0.1.0/28',
  })
})

test('what a host says of it is shown, and why it is not open', () => {
  const bench = benchWith()
  add(bench, 'www')
  add(bench, 'www', { port: 80, guestPort: 80, on: { host: 'host-b' } })
  const hosts = () => forwardViews(bench.state, bench.state.vms.get('www')!, bench.now).map(view => view.hosts)
  const at = (host: string) => ({ host, state: 'opening', address: null, why: null })
  expect(hosts()).toEqual([[at('host-b')], [at('host-a')]])
  bench.hosts.get('host-a')!.forwards = [{ forward: '2222', address: '127.0.0.1', why: null }]
  bench.hosts.get('host-b')!.forwards = [{ forward: '80', address: '10.9.0.2', why: 'the port is taken' }]
  bench.round(1)
  expect(hosts()).toEqual([
    [{ host: 'host-b', state: 'closed', address: '10.9.0.2:80', why: 'the port is taken' }],
    [{ host: 'host-a', state: 'open', address: '127.0.0.1:2222', why: null }],
  ])
  expect(whyOf(bench.state, 'vm', 'www', [], bench.now)?.now).toContain(
    'Its forward 80 is not open on host-b because the port is taken; it is tried again.',
  )
  bench.hosts.get('host-b')!.beating = false
  bench.now += 5_000
  expect(hosts()[0]).toMatchObject([{ host: 'host-b', state: 'unknown' }])
  const none = benchWith(false)
  add(none, 'www')
  expect(forwardViews(none.state, none.state.vms.get('www')!, none.now)[0]?.hosts).toMatchObject([])
})
