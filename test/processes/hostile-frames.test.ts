// Frames of ill will to real processes, before and behind a handshake: each ends its session with a code, none a process.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { greet } from '@stellwerk/protocol/session-handshake.ts'
import { HostileFrames } from '@stellwerk/protocol/testing/hostile-frames.ts'
import { LINK_FRAME_MAX_BYTES } from '@stellwerk/runtime/credited-link.ts'
import type { Address, Link } from '@stellwerk/runtime/environment.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import '@stellwerk/protocol/messages/all.ts'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const ROUNDS = 150
const stellwerk = new Stellwerk('hostile')
let env: ReturnType<typeof createEnvironment>
let up: ReturnType<Stellwerk['start']>

interface ClusterFile {
  readonly cluster: string
  readonly coordinator: { readonly port: number }
  readonly hosts: readonly { readonly port: number }[]
  readonly storages: readonly { readonly control: { readonly cluster: number } }[]
}

const clusterFile = (): ClusterFile =>
  JSON.parse(readFileSync(join(stellwerk.state, 'cluster.json'), 'utf8')) as ClusterFile
const at = (port: number): Address => ({ network: 'cluster', host: '127.0.0.1', port })

/** Never used by msgpack. */
const NONSENSE = Uint8Array.of(0xc1)

/** The code with which the other side ends it: at the latest by what follows, for some frames are good ones. */
async function send(link: Link, frame: Uint8Array): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  link.onClose(resolve)
  link.onFrame(() => undefined)
  link.trySend([frame])
  link.trySend([NONSENSE])
  return promise
}

beforeAll(async () => {
  env = createEnvironment({ name: 'hostile', directory: stellwerk.directory, store: memoryStore(), logLevel: 'silent' })
  up = stellwerk.start('up', '--hosts', '1', '--guests')
  await up.said(/^up after/)
}, LONG)

afterAll(async () => {
  up.process.kill('SIGINT')
  await up.ended
  await env.close()
  await stellwerk.remove()
}, LONG)

test('to coordinator, agent and storage: sessions end with a code, processes go on', { timeout: LONG }, async () => {
  const { cluster, coordinator, hosts, storages } = clusterFile()
  const pids = stellwerk.pids()
  const credential = readFileSync(join(stellwerk.state, 'join-token'), 'utf8').trim()
  const ports = [coordinator.port, hosts[0]!.port, storages[0]!.control.cluster]
  const codes = new Map<string, number>()
  const count = (code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1)
  const frames = new HostileFrames('hostile processes', LINK_FRAME_MAX_BYTES.control, 2)
  for (let round = 0; round < ROUNDS; round += 1) {
    const address = at(ports[round % ports.length]!)
    count(await send(await env.network.dial(address, 'control'), frames.next()))
    const link = await env.network.dial(address, 'control')
    const identity = { cluster, node: `stranger-${round}`, role: 'agent', incarnation: 1, credential } as const
    await greet(env, link, identity)
    count(await send(link, frames.next()))
  }
  expect([...codes.keys()].filter(code => !KNOWN.has(code))).toEqual([])
  expect([...codes.values()].reduce((sum, n) => sum + n)).toBe(2 * ROUNDS)
  expect(stellwerk.pids()).toEqual(pids)
  const { lines } = await stellwerk.run('status')
  expect(lines.join('\n')).toMatch(/ledger-1 +running/)
  expect(lines.join('\n')).not.toMatch(/stranger/)
})

const KNOWN = new Set([
  'open',
  'frame-too-large',
  'undecodable',
  'unknown-kind',
  'misfit',
  'protocol-error',
  'refused',
  'closed',
])
