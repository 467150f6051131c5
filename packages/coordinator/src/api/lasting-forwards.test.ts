// Lasting forwards by the HTTP API: asked for, seen with their VM, ended; and what cannot be is told.

import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { beforeEach, expect, test } from 'vitest'
import { VmViewSchema } from '../view/schemas.ts'
import { benchApiEach } from './testing/bench-api-each.ts'

const PATH = '/v1/vms/www/lasting-forwards'

const api = benchApiEach()

beforeEach(async () => {
  api().bench.hasGuestNetwork = true
  for (const name of ['host-a', 'host-b', 'host-c']) api().bench.join(name)
  const nics = [{ network: 'lan', addresses: ['10.0.0.7'] }]
  await api().call('POST', '/v1/vms', { name: 'www', guest: 'ledger', memoryBytes: 2 ** 20, nics })
  api().bench.round(3)
})

test('one is asked for, seen with its VM, and ended', async () => {
  const asked = await api().call('POST', PATH, { port: 22, listen: { host: '10.9.0.1', port: 2222 }, on: 'all' })
  expect(asked).toEqual({ status: 200, body: { vm: 'www', forward: '10.9.0.1:2222', guest: '10.0.0.7:22' } })
  const { body } = await api().call('GET', '/v1/vms/www')
  expect(Value.Check(VmViewSchema, body)).toBe(true)
  expect(body).toMatchObject({
    forwards: [
      {
        ...{ forward: '10.9.0.1:2222', network: 'lan', guest: '10.0.0.7:22', bits: 24, on: 'all' },
        hosts: ['host-a', 'host-b', 'host-c'].map(host => ({ host, state: 'opening', address: null, why: null })),
      },
    ],
  })
  const ended = await api().call('DELETE', `${PATH}/${encodeURIComponent('10.9.0.1:2222')}`)
  expect(ended).toEqual({ status: 200, body: { vm: 'www', forward: '10.9.0.1:2222' } })
  expect((await api().call('DELETE', `${PATH}/2222`)).status).toBe(404)
  expect((await api().call('GET', '/v1/vms/www')).body).toMatchObject({ forwards: [] })
})

test.each<[number, string, object]>([
  [400, 'bad-request', { port: 22 }],
  [400, 'bad-request', { port: 22, listen: { port: 0 } }],
  [400, 'bad-request', { port: 0, listen: { port: 2222 } }],
  [400, 'bad-request', { port: 22, listen: { port: 2222, host: 'here' } }],
  [400, 'bad-request', { port: 22, listen: { port: 2222 }, address: '10.0.0' }],
  [400, 'bad-request', { port: 22, listen: { port: 2222 }, on: 'some' }],
  [400, 'bad-request', { port: 22, listen: { port: 2222 }, on: 'all', host: 'host-a' }],
  [404, 'unknown-host', { port: 22, listen: { port: 2222 }, host: 'host-z' }],
])('%i %s: %j', async (status, code, body) => {
  expect(await api().call('POST', PATH, body)).toMatchObject({ status, body: { code } })
})
