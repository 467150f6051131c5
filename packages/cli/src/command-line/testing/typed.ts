// A command line as it is typed, where nobody looks: its exit status, and what it has said, a line each.

import type { Terminal } from '../command.ts'
import { runCommandLine } from '../run.ts'

export interface Typed {
  readonly code: number
  readonly out: string[]
  readonly err: string[]
}

export async function typed(
  words: readonly string[],
  cwd: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<Typed> {
  const out: string[] = []
  const err: string[] = []
  const terminal: Terminal = {
    ...{ cwd, variables, isTty: false, columns: 100 },
    out: text => out.push(text),
    write: text => out.push(text),
    err: text => err.push(text),
  }
  return { code: await runCommandLine(words, terminal), out, err }
}
