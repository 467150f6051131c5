// Whose requests a host carries, and over what: the asker's own, through direct paths of its own, and no more than it can.

import type { Envelope } from '@stellwerk/protocol/envelope.ts'
import type { Reply, Session } from '@stellwerk/protocol/session.ts'
import type { Address, ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import { MAX_REDIRECTS, RedirectServer } from './redirect-server.ts'

const PORTALS: readonly Address[] = ['fabric-0', 'fabric-1'].map(network => ({
  ...{ network: network as Address['network'], host: 'san-a', port: 10809 },
}))
const name = (more: object = {}) => {
  const parts = { host: 'host-b', epoch: 2, session: '3.1', generation: 1, via: 'host-a', ...more }
  return `csv1?${Object.entries(parts)
    .map(([key, value]) => `${key}=${value}`)
    .join('&')}`
}

type Dial = (address: Address) => Promise<ByteStream>

function server(dial: Dial, hbas: readonly Address['network'][] = ['fabric-0', 'fabric-1']) {
  const redirects = new RedirectServer({
    env: { network: { dialStream: dial } } as unknown as Environment,
    host: 'host-a',
    storage: storage => (storage === 'san-a' ? { name: 'san-a', portals: [...PORTALS], control: [] } : null),
    hbas: () => hbas,
    dialTimeoutMs: () => 1_000,
  })
  /** What host-b, of incarnation 3, is told. */
  const ask = (exportName: string, { kind = 'redirect.open', storage = 'san-a' } = {}): Promise<string> =>
    new Promise(resolve => {
      let hear: (envelope: Envelope, reply: Reply) => void = () => undefined
      const session = {
        peer: { node: 'host-b', incarnation: 3 },
        closed: false,
        onMessage: (listener: typeof hear) => {
          hear = listener
        },
      }
      redirects.accept(session as unknown as Session)
      const reply = {
        ok: () => resolve('carried'),
        fail: (error: unknown) => resolve(`${errorCode(error)}: ${errorMessage(error)}`),
      }
      hear({ kind, body: { storage, exportName } } as unknown as Envelope, reply as unknown as Reply)
    })
  return { redirects, ask }
}

const never: Dial = () => new Promise(() => undefined)
const refusing: Dial = async ({ network }) => {
  throw new StellwerkError('refused', `nobody listens on ${network}`)
}

describe('a peer that is asked to carry requests', () => {
  it.each([
    ['of another host than the one that asks', name({ host: 'host-c' }), /of host host-c, asked for by host-b/],
    ['of an earlier agent of it', name({ session: '2.7' }), /its session is not of incarnation 3/],
    ['that are to go another way', name({ via: 'host-c' }), /it is to go via host-c/],
    ['of nobody', 'csv1', /it names no host/],
    ['by a name that is none', 'csv1?host=', /redirect-refused/],
  ])('refuses those %s', async (_what, exportName, why) => {
    const { redirects, ask } = server(never)
    expect(await ask(exportName)).toMatch(why)
    expect(redirects.carried).toEqual([])
  })

  it('carries nothing without a direct path of its own: there are no chains', async () => {
    const none = server(never, [])
    expect(await none.ask(name())).toMatch(/no-direct-path: host host-a has no direct path to san-a: none of its HBAs/)
    const dead = server(refusing)
    expect(await dead.ask(name())).toMatch(/no-direct-path: .*nobody listens on fabric-1/)
    expect(await dead.ask(name(), { storage: 'san-x' })).toMatch(/no-direct-path/)
    expect([...none.redirects.carried, ...dead.redirects.carried]).toEqual([])
  })

  it('takes no more than it can, and says so', async () => {
    const { redirects, ask } = server(never)
    for (let i = 0; i < MAX_REDIRECTS; i += 1) void ask(name({ session: `3.${i}` }))
    expect(redirects.carried).toHaveLength(MAX_REDIRECTS)
    expect(await ask(name())).toMatch(/redirect-refused: .*more than 1024 connections are carried/)
    expect(redirects.carried).toHaveLength(MAX_REDIRECTS)
  })

  it('is asked for that first, and for nothing else', async () => {
    expect(await server(never).ask(name(), { kind: 'agent.beat' })).toMatch(/protocol-error: an io link begins with/)
  })
})
