// `stellwerk vm console NAME --vnc`: a port of the VM's host leads viewers to its screen, until Ctrl-C. After a move it is another
// host's port, and viewers come again.

import { pathOf } from '../api-client/client.ts'
import { type CommandContext, type Input, OK } from '../command-line/command.ts'
import { keepWay, parseListen, unlessPassing, type Way } from './kept-way.ts'

/** While it is started. */
const SOON = ['screen-away']
/** While it is between two hosts, is started again, or is where that address is not, or is somebody else's. */
const BETWEEN = [...SOON, 'not-running', 'address-in-use', 'address-unavailable']

export async function showScreen(context: CommandContext, input: Input): Promise<number> {
  const { terminal } = context
  const vm = input.args[0] ?? ''
  const listen = input.text('listen')
  const body = listen === undefined ? {} : { listen: parseListen(listen) }
  const client = await context.api(input)
  const ask = async (forward: string) => (await client.post(pathOf('vms', vm, 'screens'), { forward, ...body })) as Way
  await keepWay({
    client,
    terminal,
    open: forward => unlessPassing(() => ask(forward), SOON),
    keep: forward => unlessPassing(() => ask(forward), BETWEEN),
    say: way =>
      terminal.out(
        input.flag('json')
          ? JSON.stringify({ vm, ...way })
          : `vnc://${way.address}:${way.port} on ${way.host} shows the screen of ${vm}`,
      ),
  })
  return OK
}
