// `stellwerk vm forward`: a port of this host leads to one of a guest, wherever the guest runs, until Ctrl-C.

import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createRandom } from '@stellwerk/runtime/node/random.ts'
import { type ApiClient, pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, type Input, JSON_OUT, OK } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'

const LOOPBACK = '127.0.0.1'
/** What passes by itself: the forward is asked for again. */
const PASSING = new Set([
  ...['coordinator-away', 'deadline', 'link-lost', 'no-such-actor', 'busy'],
  ...['host-unfit', 'qmp-closed', 'qemu-failed', 'stopping'],
])

interface Forward {
  readonly host: string
  readonly address: string
  readonly port: number
  readonly guest: string
  readonly keepMs: number
}

export const forwardCommand: CommandSpec = {
  words: 'vm forward',
  args: ['NAME', 'PORT'],
  options: {
    dir: DIR,
    listen: { type: 'string', value: '[ADDRESS:]PORT', help: 'on the host (default: any free port of 127.0.0.1)' },
    address: { type: 'string', value: 'A[/BITS]', help: 'the guest’s (default: the one its card is bound to; /24)' },
    host: { type: 'string', value: 'H', help: 'the host that listens (default: one that can)' },
    json: JSON_OUT,
  },
  summary: 'Reach a TCP port of a guest (22, 80) from a host, also while it moves; Ctrl-C ends it',
  run: async (context, input) => {
    const { terminal } = context
    const [vm = '', port = ''] = input.args
    const body = { port: parseCount('port', port, 1, 65_535), ...whereOf(input), ...guestOf(input) }
    const client = await context.api(input)
    const forward = `f-${createRandom().id()}`
    const path = pathOf('vms', vm, 'forwards')
    const ask = async (more: object) => (await client.post(path, { forward, ...body, ...more })) as Forward
    let now = await ask({})
    const say = () =>
      terminal.out(
        input.flag('json')
          ? JSON.stringify({ vm, ...now })
          : `${now.address}:${now.port} on ${now.host} leads to ${vm}, ${now.guest}`,
      )
    say()
    try {
      await untilInterrupted(async sleep => {
        while (await sleep(now.keepMs / 5)) {
          const next = await again(
            () => ask({ host: input.text('host') ?? now.host }),
            () => ask({}),
          )
          if (next === null) continue
          const moved = next.host !== now.host || next.port !== now.port
          now = next
          if (moved) say()
        }
      })
    } finally {
      await close(client, now, forward)
    }
    return OK
  },
}

/** On the same host; where that can't any more, on another. Null: nobody can say now. */
async function again(same: () => Promise<Forward>, any: () => Promise<Forward>): Promise<Forward | null> {
  for (const ask of [same, any]) {
    try {
      return await ask()
    } catch (error) {
      if (!PASSING.has(errorCode(error))) throw error
      if (errorCode(error) !== 'host-unfit') return null
    }
  }
  return null
}

async function close(client: ApiClient, { host }: Forward, forward: string): Promise<void> {
  try {
    await client.delete(pathOf('hosts', host, 'forwards', forward))
  } catch (error) {
    // It ends by itself when nobody asks for it.
    if (!(error instanceof StellwerkError)) throw error
  }
}

function whereOf(input: Input): { listen?: { host: string; port: number }; host?: string } {
  const listen = input.text('listen')
  const host = input.text('host')
  if (listen === undefined) return host === undefined ? {} : { host }
  const at = listen.lastIndexOf(':')
  const address = at < 0 ? LOOPBACK : listen.slice(0, at)
  if (!new RegExp(IPV4_PATTERN).test(address)) throw badAddress('--listen', listen, 'say PORT or ADDRESS:PORT')
  const port = parseCount('listen', listen.slice(at + 1), 0, 65_535)
  return { listen: { host: address, port }, ...(host === undefined ? {} : { host }) }
}

function guestOf(input: Input): { address?: string; bits?: number } {
  const text = input.text('address')
  if (text === undefined) return {}
  const [address = '', bits] = text.split('/')
  if (!new RegExp(IPV4_PATTERN).test(address))
    throw badAddress('--address', text, 'say for example 10.0.0.7 or 10.0.0.7/16')
  return { address, ...(bits === undefined ? {} : { bits: parseCount('address', bits, 8, 28) }) }
}

function badAddress(where: string, text: string, hint: string): StellwerkError {
  return new StellwerkError('bad-address', `"${text}" is no IPv4 address`, { where, hint })
}
