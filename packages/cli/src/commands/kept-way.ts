// A way from a host to what a guest offers, kept open while the command that wants it runs, until Ctrl-C. It is asked for again and
// again; where it leads from may change meanwhile, and is told then.

import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createRandom } from '@stellwerk/runtime/node/random.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import type { OptionSpec } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'

const LOOPBACK = '127.0.0.1'

export const LISTEN: OptionSpec = {
  type: 'string',
  value: '[ADDRESS:]PORT',
  help: 'on the host (default: any free port of 127.0.0.1)',
}

/** What passes by itself: the way is asked for again. */
const PASSING = new Set([
  ...['coordinator-away', 'deadline', 'link-lost', 'no-such-actor', 'busy'],
  ...['host-unfit', 'qmp-closed', 'qemu-failed', 'stopping'],
])

/** As the API tells it. */
export interface Way {
  readonly host: string
  readonly address: string
  readonly port: number
  readonly keepMs: number
}

export interface WayOrders<W extends Way> {
  readonly client: ApiClient
  /** Opens the way of that id, or keeps it open. */
  readonly open: (forward: string) => Promise<W>
  /** As `open`, for one that is open. Null: nobody can say now. */
  readonly keep: (forward: string, now: W) => Promise<W | null>
  readonly say: (way: W) => void
}

export async function keepWay<W extends Way>({ client, open, keep, say }: WayOrders<W>): Promise<void> {
  const forward = `f-${createRandom().id()}`
  let now = await open(forward)
  say(now)
  try {
    await untilInterrupted(async sleep => {
      while (await sleep(now.keepMs / 5)) {
        const next = await keep(forward, now)
        if (next === null) continue
        const moved = next.host !== now.host || next.port !== now.port
        now = next
        if (moved) say(now)
      }
    })
  } finally {
    await close(client, now, forward)
  }
}

/** Null: it failed in a way that passes; `code` is told then. */
export async function unlessPassing<W>(
  ask: () => Promise<W>,
  more: readonly string[] = [],
): Promise<W | { code: string }> {
  try {
    return await ask()
  } catch (error) {
    const code = errorCode(error)
    if (PASSING.has(code) || more.includes(code)) return { code }
    throw error
  }
}

async function close(client: ApiClient, { host }: Way, forward: string): Promise<void> {
  try {
    await client.delete(pathOf('hosts', host, 'forwards', forward))
  } catch (error) {
    // It ends by itself when nobody asks for it.
    if (!(error instanceof StellwerkError)) throw error
  }
}

/** As `LISTEN` says it; throws `bad-address`, `bad-number`. */
export function parseListen(listen: string): { host: string; port: number } {
  const at = listen.lastIndexOf(':')
  const host = at < 0 ? LOOPBACK : listen.slice(0, at)
  if (!isIpv4(host)) throw badAddress('--listen', listen, 'say PORT or ADDRESS:PORT')
  return { host, port: parseCount('listen', listen.slice(at + 1), 0, 65_535) }
}

export function isIpv4(text: string): boolean {
  return new RegExp(IPV4_PATTERN).test(text)
}

export function badAddress(where: string, text: string, hint: string): StellwerkError {
  return new StellwerkError('bad-address', `"${text}" is no IPv4 address`, { where, hint })
}
