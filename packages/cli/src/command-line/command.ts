// What a command of `stellwerk` is: its words, options and what it does. Parsing, help and errors follow from this shape.

import type { ApiClient } from '../api-client/client.ts'
import type { Screen } from '../terminal/live-screen.ts'

export interface OptionSpec {
  readonly type: 'string' | 'boolean'
  /** May be given several times. */
  readonly multiple?: true
  /** What stands for the value in the usage: `SIZE`. */
  readonly value?: string
  readonly help: string
}

export interface CommandSpec {
  /** `vm create`. */
  readonly words: string
  /** `NAME`; optional ones end with `?`. */
  readonly args: readonly string[]
  readonly options: { readonly [name: string]: OptionSpec }
  readonly summary: string
  run(context: CommandContext, input: Input): Promise<number>
}

export interface Input {
  readonly args: readonly string[]
  /** The option's value; absent: not given. */
  text(name: string): string | undefined
  texts(name: string): readonly string[]
  flag(name: string): boolean
}

export interface CommandContext {
  readonly terminal: Terminal
  /** Of the cluster, absolute: from --dir, STELLWERK_DIR, or `.stellwerk` in the current directory. */
  directory(input: Input): string
  /** STELLWERK_API names the cluster, whatever is on this machine. */
  readonly isRemote: boolean
  /** To the running cluster's coordinator; throws `no-cluster` when there is none. */
  api(input: Input): Promise<ApiClient>
}

export interface Terminal {
  readonly cwd: string
  readonly variables: { readonly [name: string]: string | undefined }
  readonly isTty: boolean
  readonly columns: number
  /** Absent where no picture can be drawn: a pipe, a file, a terminal that can't move its cursor. */
  readonly screen?: Screen
  out(line: string): void
  /** Without a line's end. */
  write(text: string): void
  err(line: string): void
}

/** Exit codes. */
export const OK = 0
export const FAILED = 1
export const USAGE = 2

/** Options that most commands have. */
export const DIR: OptionSpec = {
  type: 'string',
  value: 'D',
  help: 'the cluster’s directory (default: STELLWERK_DIR, or .stellwerk here)',
}
export const JSON_OUT: OptionSpec = { type: 'boolean', help: 'for programs: JSON on stdout' }
