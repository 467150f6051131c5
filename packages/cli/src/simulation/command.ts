// The command `stellwerk sim`: its options here, its work in sim-command.ts.

import type { CommandSpec, Input } from '../command-line/command.ts'
import { JSON_OUT } from '../command-line/command.ts'
import { simCommand } from './sim-command.ts'

const VALUES = ['seeds', 'first', 'seed', 'jobs', 'canary', 'safety', 'trace'] as const

const sim: CommandSpec = {
  words: 'sim',
  args: [],
  options: {
    seeds: { type: 'string', value: 'N', help: 'how many seeds (20)' },
    first: { type: 'string', value: 'S', help: 'the first of them (1)' },
    seed: { type: 'string', value: 'S', help: 'one seed, with what happened in it' },
    jobs: { type: 'string', value: 'J', help: 'seeds at the same time (1)' },
    canary: { type: 'string', value: 'NAME', help: 'plant a bug and search for a seed that finds it' },
    safety: { type: 'string', value: 'SECONDS', help: 'faults end so early (as the seed draws it)' },
    trace: {
      type: 'string',
      value: 'DIR',
      help: 'write the one seed’s run down there, for stellwerk trace --from DIR',
    },
    json: JSON_OUT,
  },
  summary: 'The whole cluster in simulation, under faults drawn from a seed',
  run: (_, input) => simCommand(wordsOf(input)),
}

function wordsOf(input: Input): string[] {
  const words: string[] = []
  for (const name of VALUES) {
    const value = input.text(name)
    if (value !== undefined) words.push(`--${name}=${value}`)
  }
  return input.flag('json') ? [...words, '--json'] : words
}

export const commands: readonly CommandSpec[] = [sim]
