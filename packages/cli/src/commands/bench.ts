// The command `stellwerk bench`: runs the bench of the checkout that this command is part of.

import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CommandSpec, Input } from '../command-line/command.ts'
import { JSON_OUT } from '../command-line/command.ts'

const BENCH = new URL('../../../../bench/main.ts', import.meta.url)
const VALUES = ['only', 'rounds', 'seconds'] as const

const bench: CommandSpec = {
  words: 'bench',
  args: [],
  options: {
    only: {
      type: 'string',
      value: 'GROUP,…',
      help: 'disk, redirect, mirror, resync, owner, storage, bulk, migration, simulator',
    },
    rounds: { type: 'string', value: 'N', help: 'how often each figure is taken; its median counts (5)' },
    seconds: { type: 'string', value: 'S', help: 'how long each load runs (2)' },
    quick: { type: 'boolean', help: 'one short round' },
    json: JSON_OUT,
  },
  summary: 'Measure side by side with nbdkit and QEMU’s tools, where they are installed',
  run: async (_, input) => (await load())(wordsOf(input)),
}

async function load(): Promise<(args: string[]) => Promise<number>> {
  try {
    const module = (await import(BENCH.href)) as { bench(args: string[]): Promise<number> }
    return module.bench
  } catch (error) {
    if (errorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new StellwerkError('no-bench', 'the bench is not part of this installation', {
      where: BENCH.pathname,
      hint: 'run it in a checkout of the project',
    })
  }
}

function wordsOf(input: Input): string[] {
  const words: string[] = []
  for (const name of VALUES) {
    const value = input.text(name)
    if (value !== undefined) words.push(`--${name}=${value}`)
  }
  for (const flag of ['quick', 'json'] as const) if (input.flag(flag)) words.push(`--${flag}`)
  return words
}

export const commands: readonly CommandSpec[] = [bench]
