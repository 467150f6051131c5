// The coordinator's bench behind the HTTP API: commands are decided by the real core; owners' answers are the test's. For
// tests only.

import { digestOf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import type { FastifyInstance } from 'fastify'
import type { Coordinator } from '../../coordinator.ts'
import { Bench } from '../../core/testing.ts'
import { EventLog } from '../event-log.ts'
import type { Hooks } from '../route.ts'
import { createApi } from '../server.ts'

export const TOKEN = 'the-token-of-this-test'

export interface BenchApi {
  readonly bench: Bench
  readonly app: FastifyInstance
  readonly events: EventLog
  readonly env: Environment
  /** What owners and agents were asked. */
  readonly asked: { readonly to: string; readonly kind: string; readonly body: unknown }[]
  /** What they answer; throws to fail. */
  answer: (kind: string, body: unknown) => unknown
  /** Its status and its JSON. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<{ status: number; body: unknown }>
  /** All that is durable and all that was ordered: what a refusal must not change. */
  changes(): string
  close(): Promise<void>
}

export async function benchApi(directory: string, hooks: Hooks = {}): Promise<BenchApi> {
  const bench = Bench.cluster()
  const node = createEnvironment({ name: 'coordinator', directory, store: bench.store, logLevel: 'silent' })
  const clock = { now: () => bench.now, wall: () => bench.now }
  const events = new EventLog()
  const env = events.watch({ ...node, clock })
  const asked: BenchApi['asked'] = []
  const modules = new Set<string>()
  const ask = (to: string, kind: string, body: unknown) => {
    asked.push({ to, kind, body })
    return Promise.resolve().then(() => api.answer(kind, body))
  }
  const coordinator: Coordinator = {
    address: { network: 'cluster', host: '127.0.0.1', port: 1 },
    get state() {
      return bench.state
    },
    guests: {
      has: async digest => modules.has(digest),
      hold: (bytes, use) => {
        const digest = digestOf(bytes)
        modules.add(digest)
        return use(digest)
      },
    },
    command: async command => {
      const { body, refused, message = '', hint } = bench.command(command)
      if (refused === undefined) return body
      throw new StellwerkError(refused, message, hint === undefined ? {} : { hint })
    },
    askOwner: (volume, kind, body) => ask(volume, kind, body),
    askAgent: (host, kind, body) => ask(host, kind, body),
    askStorage: (storage, kind, body) => ask(storage, kind, body),
    stop: async () => undefined,
  }
  const app = createApi(env, coordinator, { listen: { port: 0 }, token: TOKEN, events, hooks })
  const api: BenchApi = {
    bench,
    app,
    events,
    env,
    asked,
    answer: kind => (kind === 'storage.list-luns' ? { luns: [] } : {}),
    call: async (method, path, body) => {
      const response = await app.inject({
        method,
        url: path,
        headers: { authorization: `Bearer ${TOKEN}` },
        ...(body === undefined ? {} : { payload: body as object }),
      })
      return { status: response.statusCode, body: response.json() }
    },
    changes: () => JSON.stringify([...bench.store.values, bench.orders.length, asked.map(({ kind }) => kind)]),
    close: async () => {
      await app.close()
      await node.close()
    },
  }
  return api
}
