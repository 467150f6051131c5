// A console as a terminal: keys go to the guest's serial port one by one, through its host, and what that sends stands as it is. One key
// is ours: Ctrl-] leaves, as it does in telnet and in `virsh console`.

import { describeError } from '@stellwerk/runtime/errors.ts'
import type { ConsoleFollower } from '../cluster/console-follower.ts'
import { Keyboard } from '../cluster/keyboard.ts'
import type { Screen } from '../terminal/live-screen.ts'
import type { ConsoleMode, ConsoleParts } from './console-mode.ts'

/** Ctrl-]. */
const LEAVE = 0x1d
/** Colours and the cursor as they were, on a line of one's own. */
const AS_BEFORE = '\u001b[0m\u001b[?25h\r\n'

export class ConsoleTerminal implements ConsoleMode {
  readonly hears: ConsoleMode['hears']
  readonly isRefused = false
  readonly whileAway = ''
  readonly #parts: ConsoleParts
  readonly #screen: Screen
  #keyboard: Keyboard | null = null
  #offs: readonly (() => void)[] = []

  constructor(parts: ConsoleParts, screen: Screen) {
    this.#parts = parts
    this.#screen = screen
    this.hears = {
      port: {
        vm: parts.name,
        onOutput: (bytes, host) => {
          this.#keyboard?.at(host)
          screen.write(bytes)
        },
      },
    }
  }

  begin(follower: ConsoleFollower): void {
    const { name, env, terminal } = this.#parts
    const keyboard = new Keyboard({
      env,
      hosts: () => follower.hosts,
      give: (host, keys) => follower.type(host, name, keys),
      lost: error => terminal.err(`\nstellwerk: what was typed was not taken: ${describeError(error)}`),
    })
    this.#keyboard = keyboard
    this.#offs = [this.#screen.onExit(() => this.end()), this.#screen.onKeys(keys => this.#typed(keys, keyboard))]
    terminal.err(`stellwerk: the console of VM "${name}"; Ctrl-] leaves it`)
  }

  #typed(keys: Uint8Array, keyboard: Keyboard): void {
    const end = keys.indexOf(LEAVE)
    const before = end < 0 ? keys : keys.subarray(0, end)
    if (before.length > 0) keyboard.press(before)
    if (end >= 0) this.#parts.leave()
  }

  end(): void {
    if (this.#keyboard === null) return
    this.#keyboard.stop()
    this.#keyboard = null
    for (const off of this.#offs) off()
    this.#screen.write(AS_BEFORE)
  }
}
