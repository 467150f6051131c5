// How a console is used: by lines, as programs do, or as the terminal of the guest's serial port.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { ApiClient } from '../api-client/client.ts'
import type { ConsoleFollower, FollowerOptions } from '../cluster/console-follower.ts'
import type { Terminal } from '../command-line/command.ts'

export interface ConsoleParts {
  readonly name: string
  readonly env: Environment
  readonly client: ApiClient
  readonly terminal: Terminal
  /** Resolves when the guest can be heard, or when it is known that it can't. */
  readonly heard: Promise<void>
  /** The user has had enough. */
  readonly leave: () => void
}

export interface ConsoleMode {
  /** What is heard of it. */
  readonly hears: Pick<FollowerOptions, 'onLine' | 'onPrompt' | 'port'>
  /** What is typed is taken from now on. */
  begin(follower: ConsoleFollower): void
  end(): Promise<void>
  /** A word of ours. */
  say(line: string): void
  /** What the coordinator's absence means for it. */
  readonly whileAway: string
  /** Something that was typed was not taken. */
  readonly isRefused: boolean
}
