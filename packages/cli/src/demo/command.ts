// The command `stellwerk demo`.

import { type CommandSpec, JSON_OUT } from '../command-line/command.ts'
import { demoCommand } from './demo.ts'

const demo: CommandSpec = {
  words: 'demo',
  args: [],
  options: {
    json: JSON_OUT,
    keep: { type: 'boolean', help: 'keep the cluster’s directory, for a look at its traces and logs' },
  },
  summary: 'Show it: move guests live, kill an agent and a whole host, and judge what became of it',
  run: ({ terminal }, input) => demoCommand({ json: input.flag('json'), keep: input.flag('keep'), terminal }),
}

export const commands: readonly CommandSpec[] = [demo]
