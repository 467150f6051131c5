// A console as a terminal: keys go to the guest's serial port one by one, through its host, and what that sends stands as it is. One key
// is ours: Ctrl-] leaves, as it does in telnet and in `virsh console`.

import { describeError } from '@stellwerk/runtime/errors.ts'
import type { ConsoleFollower } from '../cluster/console-follower.ts'
import { Keyboard } from '../cluster/keyboard.ts'
import type { Screen } from '../terminal/live-screen.ts'
import { withoutQuestions } from '../terminal/without-questions.ts'
import type { ConsoleMode, ConsoleParts } from './console-mode.ts'

/** Ctrl-]. */
const LEAVE = 0x1d
/** Who leaves has what was typed before it typed, and what came shown, if it goes soon. */
const LAST_KEYS_MS = 1_000
/** Colours and the cursor as they were, on a line of one's own. */
const AS_BEFORE = '\u001b[0m\u001b[?25h\r\n'

export class ConsoleTerminal implements ConsoleMode {
  readonly hears: ConsoleMode['hears']
  readonly isRefused = false
  readonly whileAway = ' while its guest has a lease'
  readonly #parts: ConsoleParts
  readonly #screen: Screen
  #keyboard: Keyboard | null = null
  #isLeaving = false
  #shown: Promise<void> = Promise.resolve()
  #offs: readonly (() => void)[] = []

  constructor(parts: ConsoleParts, screen: Screen) {
    this.#parts = parts
    this.#screen = screen
    this.hears = {
      port: {
        vm: parts.name,
        onOutput: (bytes, host, isOld) => {
          this.#take()
          this.#keyboard?.at(host)
          this.#shown = screen.show(isOld ? withoutQuestions(bytes) : bytes)
          return this.#shown
        },
        onMissed: bytes => this.say(`stellwerk: ${bytes} bytes of its output were missed`),
      },
    }
  }

  begin(follower: ConsoleFollower): void {
    const { name, env, heard } = this.#parts
    const keyboard = new Keyboard({
      env,
      hosts: () => follower.hosts,
      life: () => follower.life,
      give: (host, keys, life) => follower.type(host, name, keys, life),
      lost: error => this.say(`stellwerk: what was typed was not taken: ${describeError(error)}`),
    })
    this.#keyboard = keyboard
    void heard.then(() => this.#take())
  }

  /** Until there is a guest to type to, the terminal is the user's: Ctrl-C ends the wait. */
  #take(): void {
    const keyboard = this.#keyboard
    if (keyboard === null || this.#offs.length > 0) return
    this.say(`stellwerk: the console of VM "${this.#parts.name}"; Ctrl-] leaves it`)
    this.#offs = [this.#screen.onExit(() => this.#close()), this.#screen.onTyped(keys => this.#typed(keys, keyboard))]
  }

  #typed(keys: Uint8Array, keyboard: Keyboard): void {
    if (this.#isLeaving) return
    const end = keys.indexOf(LEAVE)
    const before = end < 0 ? keys : keys.subarray(0, end)
    if (before.length > 0) keyboard.press(before)
    if (end < 0) return
    this.#isLeaving = true
    this.#parts.leave()
  }

  /** On a line of its own: nobody knows what stands in this one. */
  say(line: string): void {
    this.#parts.terminal.err(this.#offs.length === 0 ? line : `\r\n${line}\r`)
  }

  async end(): Promise<void> {
    const { timers } = this.#parts.env
    const patience = new Promise<void>(resolve => void timers.after(LAST_KEYS_MS, resolve))
    if (this.#keyboard !== null) await Promise.race([Promise.all([this.#keyboard.settled, this.#shown]), patience])
    this.#close()
  }

  #close(): void {
    if (this.#keyboard === null) return
    this.#keyboard.stop()
    this.#keyboard = null
    if (this.#offs.length === 0) return
    for (const off of this.#offs) off()
    this.#offs = []
    this.#screen.write(AS_BEFORE)
  }
}
