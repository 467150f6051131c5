// Names that cannot be, and what is hardly a request: each gets its answer, in the API's own shape, and changes nothing.

import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from '@stellwerk/protocol/schema/typebox.js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ErrorSchema } from './openapi.ts'
import { type BenchApi, benchApi } from './testing/bench-coordinator.ts'

let directory: string
let api: BenchApi

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'api-'))
  api = await benchApi(directory, { addHost: () => Promise.reject(new Error('no host must be added')) })
})

afterEach(async () => {
  await api.close()
  rmSync(directory, { recursive: true })
})

describe('a name that cannot be is refused, and changes nothing', () => {
  const vm = { guest: 'ledger', memoryBytes: 2 ** 26 }
  const disks = [{ volume: 'csv1', sizeBytes: 4096 }]
  const long = 'n'.repeat(300)
  const cases: [string, 'GET' | 'POST', string, object | undefined, number, string, RegExp][] = [
    ['of 300 characters', 'POST', '/v1/vms', { ...vm, name: long }, 400, 'bad-name', /at most 63/],
    ['of 300 characters in the URL', 'GET', `/v1/vms/${long}`, undefined, 404, 'unknown-vm', /vm list/],
    ['cut off in the URL', 'GET', '/v1/vms/%zz', undefined, 400, 'bad-request', /openapi/],
    ["too long for its disk's", 'POST', '/v1/vms', { ...vm, name: 'n'.repeat(62), disks }, 400, 'bad-name', /61/],
    ["a host's that is the coordinator's", 'POST', '/v1/hosts', { name: 'coordinator' }, 400, 'bad-name', /another/],
    ["a host's that is a storage's", 'POST', '/v1/hosts', { name: 'san-a' }, 400, 'bad-name', /another/],
  ]
  it.each(cases)('%s', async (_what, method, path, body, status, code, hint) => {
    api.answer = () => ({ disks: [] })
    const before = JSON.stringify([...api.bench.store.values])
    const answer = await api.call(method, path, body)
    expect(answer).toMatchObject({ status, body: { code, hint: expect.stringMatching(hint) } })
    expect(Value.Check(ErrorSchema, answer.body)).toBe(true)
    expect(JSON.stringify([...api.bench.store.values])).toBe(before)
  })

  it('a name of 61 characters leaves room for that of a disk', async () => {
    api.answer = () => ({ disks: [] })
    expect((await api.call('POST', '/v1/vms', { ...vm, name: 'n'.repeat(61), disks })).status).toBe(201)
  })
})

it('what is no request, or has too long a head, is told so in the same shape', async () => {
  const address = new URL(await api.app.listen({ host: '127.0.0.1', port: 0 }))
  const say = async (text: string): Promise<string> => {
    const socket = connect({ host: address.hostname, port: Number(address.port) })
    socket.end(text)
    const parts: Buffer[] = []
    for await (const part of socket) parts.push(part as Buffer)
    return Buffer.concat(parts).toString()
  }
  for (const [text, status] of [
    ['GARBAGE\r\n\r\n', 400],
    [`GET /v1/vms/${'n'.repeat(30_000)} HTTP/1.1\r\n\r\n`, 431],
  ] as const) {
    const answer = await say(text)
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(Value.Check(ErrorSchema, JSON.parse(answer.split('\r\n\r\n')[1] ?? ''))).toBe(true)
  }
})
