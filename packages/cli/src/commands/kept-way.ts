// A way from a host to what a guest offers, kept open while the command that wants it runs, until Ctrl-C. It is asked for again and
// again; where it leads from may change meanwhile, and is told then.

import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createRandom } from '@stellwerk/runtime/node/random.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import type { OptionSpec, Terminal } from '../command-line/command.ts'
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
  readonly terminal: Terminal
  /** Opens the way of that id; in vain, if what keeps it from being opened passes by itself. */
  readonly open: (forward: string) => Promise<W | InVain>
  /** As `open`, for one that is open. */
  readonly keep: (forward: string, now: W) => Promise<W | InVain>
  readonly say: (way: W) => void
}

/** Why nobody can say now, or null: that is nothing to tell. */
export interface InVain {
  readonly inVain: string | null
}

/** So often it is tried while there is none. */
const TRY_MS = 500

export async function keepWay<W extends Way>({ client, terminal, open, keep, say }: WayOrders<W>): Promise<void> {
  const forward = `f-${createRandom().id()}`
  let now: W | null = null
  let told: string | null = null
  const take = (said: W | InVain): void => {
    if ('inVain' in said) {
      if (said.inVain !== null && said.inVain !== told) terminal.err(`stellwerk: waiting: ${said.inVain}`)
      told = said.inVain
      return
    }
    const isNew = now === null || said.host !== now.host || said.port !== now.port
    now = said
    told = null
    if (isNew) say(said)
  }
  take(await open(forward))
  try {
    await untilInterrupted(async sleep => {
      while (await sleep(now === null || told !== null ? TRY_MS : now.keepMs / 5)) {
        take(now === null ? await open(forward) : await keep(forward, now))
      }
    })
  } finally {
    if (now !== null) await close(client, now, forward)
  }
}

/** What passes by itself is told as such, also what `more` says does: everything else is thrown. */
export async function unlessPassing<W>(ask: () => Promise<W>, more: readonly string[] = []): Promise<W | InVain> {
  try {
    return await ask()
  } catch (error) {
    const code = errorCode(error)
    if (more.includes(code)) return { inVain: describeError(error) }
    if (PASSING.has(code)) return { inVain: null }
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
  const { host, port } = splitListen(listen, 0)
  return { host: host ?? LOOPBACK, port }
}

/** Null: no address is said. Throws as `parseListen` does. */
export function splitListen(listen: string, minimumPort: number): { host: string | null; port: number } {
  const at = listen.lastIndexOf(':')
  const host = at < 0 ? null : listen.slice(0, at)
  if (host !== null && !isIpv4(host)) throw badAddress('--listen', listen, 'say PORT or ADDRESS:PORT')
  return { host, port: parseCount('listen', listen.slice(at + 1), minimumPort, 65_535) }
}

export function isIpv4(text: string): boolean {
  return new RegExp(IPV4_PATTERN).test(text)
}

export function badAddress(where: string, text: string, hint: string): StellwerkError {
  return new StellwerkError('bad-address', `"${text}" is no IPv4 address`, { where, hint })
}
