// `stellwerk vm forward`: a port of a host leads to one of a guest, wherever the guest runs, until Ctrl-C; or, with --keep, until it is
// ended (vm-lasting-forward.ts).

import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { pathOf } from '../api-client/client.ts'
import { type CommandSpec, DIR, type Input, JSON_OUT, OK } from '../command-line/command.ts'
import { parseCount } from '../command-line/values.ts'
import { badAddress, isIpv4, keepWay, LISTEN, parseListen, unlessPassing, type Way } from './kept-way.ts'
import { keepForward } from './vm-lasting-forward.ts'

interface Forward extends Way {
  readonly guest: string
}

export const forwardCommand: CommandSpec = {
  words: 'vm forward',
  args: ['NAME', 'PORT'],
  options: {
    dir: DIR,
    listen: LISTEN,
    address: { type: 'string', value: 'A[/BITS]', help: 'the guest’s (default: the one its card is bound to; /24)' },
    host: { type: 'string', value: 'H', help: 'the host that listens (default: one that can)' },
    keep: {
      type: 'boolean',
      help: 'leave it on record with the VM: the host that has that listens, on its address for forwards, until vm unforward',
    },
    on: {
      type: 'string',
      value: 'vm|all',
      help: 'with --keep: every host listens, or the one that has the VM (default)',
    },
    json: JSON_OUT,
  },
  summary: 'Reach a TCP port of a guest (22, 80) from a host, also while it moves; Ctrl-C ends it, unless it is kept',
  run: async (context, input) => {
    const { terminal } = context
    const [vm = '', port = ''] = input.args
    const end = { port: parseCount('port', port, 1, 65_535), ...guestOf(input) }
    if (input.flag('keep')) return keepForward(context, input, end)
    if (input.text('on') !== undefined) {
      throw new StellwerkError('usage', '--on is for lasting forwards', { hint: 'say --keep, too' })
    }
    const body = { ...end, ...whereOf(input) }
    const client = await context.api(input)
    const ask = async (forward: string, more: object = {}) =>
      (await client.post(pathOf('vms', vm, 'forwards'), { forward, ...body, ...more })) as Forward
    await keepWay<Forward>({
      client,
      terminal,
      open: ask,
      keep: async (forward, now) => {
        // On the same host; where that can't any more, on another.
        const same = () => ask(forward, { host: input.text('host') ?? now.host })
        return unlessPassing(() =>
          same().catch(error => {
            if (errorCode(error) !== 'host-unfit') throw error
            return ask(forward)
          }),
        )
      },
      say: way =>
        terminal.out(
          input.flag('json')
            ? JSON.stringify({ vm, ...way })
            : `${way.address}:${way.port} on ${way.host} leads to ${vm}, ${way.guest}`,
        ),
    })
    return OK
  },
}

function whereOf(input: Input): { listen?: { host: string; port: number }; host?: string } {
  const listen = input.text('listen')
  const host = input.text('host')
  return {
    ...(listen === undefined ? {} : { listen: parseListen(listen) }),
    ...(host === undefined ? {} : { host }),
  }
}

function guestOf(input: Input): { address?: string; bits?: number } {
  const text = input.text('address')
  if (text === undefined) return {}
  const [address = '', bits] = text.split('/')
  if (!isIpv4(address)) throw badAddress('--address', text, 'say for example 10.0.0.7 or 10.0.0.7/16')
  return { address, ...(bits === undefined ? {} : { bits: parseCount('address', bits, 8, 28) }) }
}
