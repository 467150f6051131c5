// `stellwerk vm console NAME --vnc`: a port of the VM's host leads viewers to its screen, until Ctrl-C. After a move it is another
// host's port, and viewers come again.

import { pathOf } from '../api-client/client.ts'
import { type CommandContext, type Input, OK } from '../command-line/command.ts'
import { keepWay, parseListen, unlessPassing, type Way } from './kept-way.ts'

/** While it is between two hosts, or is started again. */
const BETWEEN = ['not-running', 'no-screen', 'address-in-use']

export async function showScreen(context: CommandContext, input: Input): Promise<number> {
  const { terminal } = context
  const vm = input.args[0] ?? ''
  const listen = input.text('listen')
  const body = listen === undefined ? {} : { listen: parseListen(listen) }
  const client = await context.api(input)
  const ask = async (forward: string) => (await client.post(pathOf('vms', vm, 'screens'), { forward, ...body })) as Way
  await keepWay({
    client,
    open: ask,
    keep: async forward => {
      const way = await unlessPassing(() => ask(forward), BETWEEN)
      return 'port' in way ? way : null
    },
    say: way =>
      terminal.out(
        input.flag('json')
          ? JSON.stringify({ vm, ...way })
          : `vnc://${way.address}:${way.port} on ${way.host} shows the screen of ${vm}`,
      ),
  })
  return OK
}
