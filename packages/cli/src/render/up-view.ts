// What `up` shows: on a terminal the picture of `status --watch` with what guests say, elsewhere a line for each thing that happens.

import type { ClusterEvent } from '@stellwerk/coordinator/view/schemas.ts'
import type { Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import type { ConsoleLine } from '../cluster/console-follower.ts'
import type { LocalCluster } from '../cluster/local-cluster.ts'
import type { Ended } from '../cluster/local-process.ts'
import type { Terminal } from '../command-line/command.ts'
import { LiveScreen } from '../terminal/live-screen.ts'
import { happened, heard, type Known, NOTHING_KNOWN, wentAway } from '../watch/known.ts'
import { type Look, PLAIN_LOOK, picture } from '../watch/picture.ts'
import { eventLine } from './status.ts'

const DRAW_MS = 1_000
const COMPLAINTS_MAX = 100
const LOOK: Look = { ...PLAIN_LOOK, footer: 'Ctrl-C ends the cluster in order; its state stays.' }

export class UpView {
  readonly #cluster: LocalCluster
  readonly #terminal: Terminal
  readonly #live: LiveScreen | null
  readonly #acknowledged = new Map<string, number>()
  readonly #complained = new Set<string>()
  #known: Known = NOTHING_KNOWN
  /** Of the coordinator's events. */
  #seen = 0
  #notes = 0
  /** Of the coordinator's present run. */
  #uptimeMs = 0
  #notBeforeMs = 0
  #summary = ''
  #timer: Timer | null = null
  #stopped = false
  #onAcknowledged: (() => void) | null = null

  constructor(cluster: LocalCluster, terminal: Terminal) {
    this.#cluster = cluster
    this.#terminal = terminal
    this.#live = terminal.screen === undefined ? null : new LiveScreen(terminal.screen)
  }

  say(line: string): void {
    if (this.#live?.isOpen === true) this.#note('said', line)
    else this.#terminal.out(line)
  }

  processEnded(name: string, { code, signal }: Ended): void {
    this.#note('process', `process ${name} ended ${signal === null ? `with code ${code}` : `by ${signal}`}`)
  }

  /** Guests say `ack N`; anything that is not as it should be they say too, and that is shown. */
  consoleLine({ vm, host, line }: ConsoleLine): void {
    const entry = /^ack (\d+)$/.exec(line)?.[1]
    if (entry !== undefined) {
      this.#acknowledged.set(vm, Number(entry))
      this.#onAcknowledged?.()
      return
    }
    const what = `${vm} on ${host} says: ${line}`
    if (/damaged|bad|wrong|full/.test(line) && this.#complained.size < COMPLAINTS_MAX) this.#complained.add(what)
    this.#note('console', what)
  }

  /** Every VM that runs `ledger` and is to run has acknowledged an entry since this process began. */
  async untilAcknowledged(): Promise<void> {
    const { vms } = await this.#cluster.api.status()
    const wanted = Object.values(vms).filter(vm => vm.guest === 'ledger' && vm.desired === 'running')
    await new Promise<void>(resolve => {
      this.#onAcknowledged = () => {
        if (wanted.every(vm => this.#acknowledged.has(vm.name))) resolve()
      }
      this.#onAcknowledged()
    })
    this.#onAcknowledged = null
  }

  start(): void {
    this.#live?.open(() => this.#show())
    this.#draw()
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#live?.close()
  }

  /** In the order in which they came, whoever told them. */
  #note(kind: string, text: string, wallMs = this.#cluster.env.clock.wall()): void {
    this.#notes += 1
    const event: ClusterEvent = { seq: this.#notes, wallMs, kind, subject: null, text }
    this.#known = happened(this.#known, [event])
    if (this.#live === null && !this.#stopped) this.#terminal.out(eventLine(event))
  }

  #draw(): void {
    this.#look()
      .catch((error: unknown) => {
        // The picture stays as it was; that it is old is what has to be said.
        const why = `${errorMessage(error)} (${errorCode(error)})`
        this.#known = wentAway(this.#known, why, this.#cluster.env.clock.now())
      })
      .finally(() => {
        this.#show()
        if (!this.#stopped) this.#timer = this.#cluster.env.timers.after(DRAW_MS, () => this.#draw())
      })
  }

  async #look(): Promise<void> {
    const [status, events] = await Promise.all([this.#cluster.api.status(), this.#cluster.api.events(this.#seen)])
    if (this.#stopped) return
    const { uptimeMs } = status.cluster
    if (uptimeMs < this.#uptimeMs) {
      // A coordinator that has started anew counts anew: from the next look on, without what is known of before.
      this.#seen = 0
      this.#notBeforeMs = this.#cluster.env.clock.wall() - uptimeMs
    } else {
      const news = events.filter(({ wallMs }) => wallMs >= this.#notBeforeMs)
      for (const { kind, text, wallMs } of news) this.#note(kind, text, wallMs)
      this.#seen = events.at(-1)?.seq ?? this.#seen
    }
    this.#uptimeMs = uptimeMs
    this.#known = heard(this.#known, status, this.#cluster.env.clock.now())
    if (status.canLose.summary === this.#summary) return
    this.#summary = status.canLose.summary
    if (this.#live === null) this.#terminal.out(this.#summary)
  }

  #show(): void {
    if (this.#live === null) return
    const extras = { acknowledged: this.#acknowledged, complaints: [...this.#complained] }
    this.#live.draw(picture(this.#known, this.#live.size, this.#cluster.env.clock.now(), LOOK, extras))
  }
}
