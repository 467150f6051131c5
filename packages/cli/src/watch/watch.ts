// `stellwerk status --watch`: on a terminal a picture that is drawn in place; elsewhere what has changed, as one block of lines (or
// one JSON object a line) each time.

import type { ClusterEvent } from '@stellwerk/coordinator/view/schemas.ts'
import { formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import type { Clock } from '@stellwerk/runtime/environment.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { statusFromAgents } from '../cluster/agents-view.ts'
import { type CommandContext, type Input, OK, type Terminal } from '../command-line/command.ts'
import { textOf } from '../render/styled.ts'
import { LiveScreen, type Screen } from '../terminal/live-screen.ts'
import { untilInterrupted } from '../terminal/until-interrupted.ts'
import { keysOf, lookOf, NO_KEYS, pressed } from './keys.ts'
import { essence, type Known, newEvents } from './known.ts'
import { picture, UNBOUNDED } from './picture.ts'
import { Watcher } from './watcher.ts'

/** How long a key or an event may wait. */
const TICK_MS = 50
/** Ages grow while nothing is heard. */
const DRAW_MS = 1_000

/** Of what had happened before the first block. */
const PAST_EVENTS = 10

/** Something that shows what is known, until it has seen enough. */
interface Shower {
  news(known: Known): void
  tick(): Promise<void>
  readonly over: boolean
  close(): void
}

export async function watch(context: CommandContext, input: Input, intervalMs: number): Promise<number> {
  const { terminal } = context
  const clock = createClock()
  const shower = showerOf(terminal, input.flag('json'), clock)
  const watcher = new Watcher({
    intervalMs,
    now: () => clock.now(),
    source: () => context.api(input),
    // Of a cluster elsewhere nobody here can say more.
    agents: context.isRemote ? null : () => statusFromAgents(context.directory(input)),
    onNews: known => shower.news(known),
  })
  // What keeps it from ever succeeding (no cluster there, no token) is an error before anything is drawn.
  await context.api(input)
  let failure: unknown = null
  try {
    await untilInterrupted(async sleep => {
      do {
        watcher.tick().catch((error: unknown) => {
          failure ??= error
        })
        await shower.tick()
      } while (failure === null && !shower.over && (await sleep(TICK_MS)))
    })
  } finally {
    watcher.stop()
    shower.close()
  }
  if (failure !== null) throw failure
  return OK
}

function showerOf(terminal: Terminal, json: boolean, clock: Clock): Shower {
  if (json) return jsonShower(terminal)
  return terminal.screen === undefined ? blockShower(terminal, clock) : new ScreenShower(terminal.screen, clock)
}

class ScreenShower implements Shower {
  readonly #screen: Screen
  readonly #live: LiveScreen
  readonly #clock: Clock
  #known: Known | null = null
  #keyboard = NO_KEYS
  #drawnAt = Number.NEGATIVE_INFINITY
  #suspending = false
  over = false

  constructor(screen: Screen, clock: Clock) {
    this.#screen = screen
    this.#live = new LiveScreen(screen)
    this.#clock = clock
    this.#open()
  }

  news(known: Known): void {
    this.#known = known
    this.#draw()
  }

  async tick(): Promise<void> {
    if (this.#suspending) {
      this.#suspending = false
      this.#live.close()
      await this.#screen.suspend()
      this.#open()
      this.#draw()
    }
    if (this.#clock.now() - this.#drawnAt >= DRAW_MS) this.#draw()
  }

  close(): void {
    this.#live.close()
  }

  #open(): void {
    this.#live.open(
      () => this.#draw(),
      sent => this.#typed(sent),
    )
  }

  #typed(sent: string): void {
    for (const key of keysOf(sent)) {
      const next = pressed(this.#keyboard, key)
      if (next === 'end') this.over = true
      else if (next === 'suspend') this.#suspending = true
      else if (next === 'redraw') this.#live.forget()
      else this.#keyboard = next
    }
    this.#draw()
  }

  #draw(): void {
    if (this.#known === null) return
    const now = this.#clock.now()
    this.#drawnAt = now
    const vms = Object.keys(this.#known.status?.vms ?? {}).length
    const { look, keyboard } = lookOf(this.#keyboard, vms)
    this.#keyboard = keyboard
    this.#live.draw(picture(this.#known, this.#live.size, now, look))
  }
}

/** What is shown of a change to somebody who reads it later. */
function blockShower(terminal: Terminal, clock: Clock): Shower {
  let before = ''
  let last: ClusterEvent | null = null
  return {
    over: false,
    news: known => {
      const told = known.agents?.view ?? known.status
      // Between two answers nothing is certain; that the coordinator has gone is told with what the agents say, if they do.
      if (told === null && known.away === null) return
      const now = `${known.away?.why ?? ''} ${told === null ? '' : essence(told)}`
      const events = newEvents(known, last, PAST_EVENTS)
      if (now === before && events.length === 0) return
      before = now
      last = events.at(-1) ?? last
      const lines = picture({ ...known, events }, UNBOUNDED, clock.now())
      for (const line of [`--- ${formatTime(clock.wall())}`, ...lines.map(textOf), '']) terminal.out(line)
    },
    tick: async () => undefined,
    close: () => undefined,
  }
}

function jsonShower(terminal: Terminal): Shower {
  let before = ''
  return {
    over: false,
    news: ({ agents, status, away }) => {
      const told = away === null ? status : (agents?.view ?? null)
      if (told === null) return
      const now = essence(told)
      if (now === before) return
      before = now
      terminal.out(JSON.stringify(told))
    },
    tick: async () => undefined,
    close: () => undefined,
  }
}
