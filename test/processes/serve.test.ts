// `stellwerk … serve`: what is wrong with a configuration is one line and an exit code, not a process that serves nobody.

import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const LONG = 120_000
const stellwerk = new Stellwerk('serve')
const COMMON = { cluster: 'c1', token: '0123456789abcdef' }
let port = 0
let api = ''

/** Free a moment ago. */
function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port: found } = server.address() as AddressInfo
      server.close(() => resolve(found))
    })
  })
}

/** As the coordinator knows them. */
async function hosts(): Promise<string[]> {
  const token = readFileSync(join(stellwerk.directory, 'state', 'api-token'), 'utf8').trim()
  const reply = await fetch(`${api}/v1/status`, { headers: { authorization: `Bearer ${token}` } })
  return Object.keys(((await reply.json()) as { hosts: object }).hosts)
}

function config(name: string, value: object): string {
  const path = join(stellwerk.directory, `${name}.json`)
  writeFileSync(path, JSON.stringify(value))
  return path
}

function agent(name: string, rest: object): string {
  return config(name, {
    ...COMMON,
    host: 'host-a',
    directory: name,
    logLevel: 'error',
    coordinator: { network: 'cluster', host: '127.0.0.1', port },
    listen: { network: 'cluster', host: '127.0.0.1', port: 0 },
    memoryBytes: 2 ** 30,
    hypervisors: ['model'],
    ...rest,
  })
}

beforeAll(async () => {
  port = await freePort()
  const file = config('coordinator', {
    ...COMMON,
    profile: 'lab',
    logLevel: 'error',
    listen: { network: 'cluster', host: '127.0.0.1', port },
    api: { port: 0 },
    storages: [],
  })
  const line = await stellwerk.start('coordinator', 'serve', '--config', file).said(/^coordinator serves/)
  api = `http://127.0.0.1:${/"port":(\d+)/.exec(line)?.[1]}`
}, LONG)

afterAll(() => stellwerk.remove())

test.each([
  ['another cluster', { cluster: 'c2' }, /^stellwerk: refused: this is cluster c1, not c2 \(.*; name the coordinator/],
  [
    'a wrong token',
    { token: 'fedcba9876543210' },
    /^stellwerk: refused: the join token is not .* \(.*; put the cluster/,
  ],
])('an agent of %s says so in one line and ends', { timeout: LONG }, async (_, rest, line) => {
  const { code, lines } = await stellwerk.run('agent', 'serve', '--config', agent('wrong', rest))
  expect(code).toBe(1)
  expect(lines.filter(each => each.startsWith('stellwerk:'))).toEqual([expect.stringMatching(line)])
  expect(lines.join('\n')).not.toMatch(/serves/)
})

test('an agent whose address is taken, or is none, says so in one line and ends', { timeout: LONG }, async () => {
  const taken = { listen: { network: 'cluster', host: '127.0.0.1', port } }
  const { code, lines } = await stellwerk.run('agent', 'serve', '--config', agent('taken', taken))
  expect(code).toBe(1)
  expect(lines).toEqual([expect.stringMatching(`taken by another process .*:${port}.*; stop that process, or`)])
  const named = { listen: { network: 'cluster', host: 'localhost', port: 0 } }
  const other = await stellwerk.run('agent', 'serve', '--config', agent('named', named))
  expect(other.code).toBe(1)
  expect(other.lines).toEqual([expect.stringMatching(/localhost is not an IP address .*; give the address/)])
})

test('a second agent of one name is refused in one line and ends, and the first stays', { timeout: LONG }, async () => {
  const first = stellwerk.start('agent', 'serve', '--config', agent('first', {}))
  await first.said(/^host-a starts: /)
  while (!(await hosts()).includes('host-a')) await new Promise(resolve => setTimeout(resolve, 50))
  const second = await stellwerk.run('agent', 'serve', '--config', agent('second', {}))
  expect(second.code).toBe(1)
  expect(second.lines.filter(each => each.startsWith('stellwerk:'))).toEqual([
    expect.stringMatching(
      /^stellwerk: refused: another machine is host "host-a" .*host remove host-a && stellwerk host add/,
    ),
  ])
  expect(first.process.exitCode).toBe(null)
})
