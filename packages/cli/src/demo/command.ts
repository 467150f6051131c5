// The command `stellwerk demo`.

import { type CommandSpec, JSON_OUT } from '../command-line/command.ts'
import { GUEST_OPTION, parseGuestChoice } from '../images/ledger-guest.ts'
import { demoCommand } from './demo.ts'

const demo: CommandSpec = {
  words: 'demo',
  args: [],
  options: {
    json: JSON_OUT,
    guest: GUEST_OPTION,
    keep: { type: 'boolean', help: 'keep the cluster’s directory, for a look at its traces and logs' },
  },
  summary: 'Show it: move guests live, kill an agent and a whole host, and judge what became of it',
  run: async ({ terminal }, input) => {
    const guest = await parseGuestChoice(input.text('guest') ?? 'wasm', terminal.cwd)
    return demoCommand({ json: input.flag('json'), keep: input.flag('keep'), guest, terminal })
  },
}

export const commands: readonly CommandSpec[] = [demo]
