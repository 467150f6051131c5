// An operator at the terminal of a real machine's guest, with the very client of `vm console`, on a machine of their own. They type
// numbered lines, which the guest does not know and says so: each that it says is one that it has read whole. What is lost with a link
// is typed no second time (rule VM2), and once everything is healed what is typed is answered.

import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { ConsoleFollower } from '../cluster/console-follower.ts'
import { Keyboard } from '../cluster/keyboard.ts'
import { PORT, type World } from './world.ts'

const DESK = 'desk'
const PROGRAM = 'terminal'
/** Between lines, at most. */
const PAUSE_MS = 1_500
const KEY_MS = 20
const NEWLINE = 0x0a
const ANSWER = /^unknown command "line (\d+)"$/

interface TerminalConfig {
  readonly vm: string
  readonly hosts: readonly string[]
  readonly cluster: string
  readonly token: string
}

export class TerminalOperator {
  readonly #world: World
  /** Lines that were typed, and those that were answered. */
  typed = 0
  answered = 0

  constructor(world: World) {
    this.#world = world
    world.sim.program(PROGRAM, async (env, config) => this.#sit(env, config as unknown as TerminalConfig))
  }

  start(config: TerminalConfig): void {
    const desk = this.#world.sim.host(DESK)
    desk.powerOn()
    desk.spawn(PROGRAM, PROGRAM, config as unknown as Json)
  }

  #sit(env: Environment, { vm, hosts, cluster, token }: TerminalConfig): void {
    let rest = Buffer.alloc(0)
    const heard = (bytes: Uint8Array): void => {
      rest = Buffer.concat([rest, bytes])
      for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
        this.#heard(env, vm, rest.toString('utf8', 0, end).trimEnd())
        rest = rest.subarray(end + 1)
      }
    }
    const onOutput = (bytes: Uint8Array, host: string): void => {
      keyboard.at(host)
      heard(bytes)
    }
    // Of the line that was cut off the rest is none.
    const onMissed = (): void => heard(Buffer.from('\n'))
    const follower = new ConsoleFollower({ env, cluster, token, port: { vm, onOutput, onMissed } })
    const keyboard: Keyboard = new Keyboard({
      env,
      hosts: () => follower.hosts,
      life: () => follower.life,
      give: (host, keys, life) => follower.type(host, vm, keys, life),
      lost: () => undefined,
    })
    follower.follow(
      hosts.map(name => ({ name, control: { network: 'cluster', host: name, port: PORT.agent } as const })),
    )
    this.#typeOn(env, keyboard)
  }

  /** Now key by key, now a whole line, as it is pasted. */
  #typeOn(env: Environment, keyboard: Keyboard): void {
    this.typed += 1
    const line = `line ${this.typed}\n`
    const pieces = env.random.float() < 0.5 ? [...line] : [line]
    const next = (n: number): void => {
      const piece = pieces[n]
      if (piece === undefined) env.timers.after(env.random.float() * PAUSE_MS, () => this.#typeOn(env, keyboard))
      else {
        keyboard.press(Buffer.from(piece))
        env.timers.after(env.random.float() * KEY_MS, () => next(n + 1))
      }
    }
    next(0)
  }

  #heard(env: Environment, vm: string, said: string): void {
    const number = ANSWER.exec(said)?.[1]
    if (number === undefined) return
    this.answered += 1
    env.trace.emit({ level: 'io', kind: 'terminal.answered', vm, body: { line: Number(number) } })
  }
}
