// What `up` shows: on a terminal a table that is drawn again every second, elsewhere a line for each thing that happens.

import type { ClusterEvent, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import type { Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import type { ConsoleLine } from '../cluster/console-follower.ts'
import type { LocalCluster } from '../cluster/local-cluster.ts'
import type { Ended } from '../cluster/local-process.ts'
import type { Terminal } from '../command-line/command.ts'
import { eventLine, statusLines } from './status.ts'

const DRAW_MS = 1_000
const EVENTS_SHOWN = 10
const CLEAR = '\u001b[H\u001b[J'

export class UpView {
  readonly #cluster: LocalCluster
  readonly #terminal: Terminal
  readonly #acknowledged = new Map<string, number>()
  readonly #happened: string[] = []
  readonly #complained = new Set<string>()
  #seen = 0
  #summary = ''
  #timer: Timer | null = null
  #stopped = false
  #onAcknowledged: (() => void) | null = null

  constructor(cluster: LocalCluster, terminal: Terminal) {
    this.#cluster = cluster
    this.#terminal = terminal
  }

  say(line: string): void {
    this.#terminal.out(line)
  }

  processEnded(name: string, { code, signal }: Ended): void {
    const how = signal === null ? `with code ${code}` : `by ${signal}`
    this.#note(`${formatTime(this.#cluster.env.clock.wall())}  process ${name} ended ${how}`)
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
    if (/damaged|bad|wrong|full/.test(line) && this.#complained.size < 100) this.#complained.add(what)
    this.#note(`${formatTime(this.#cluster.env.clock.wall())}  ${what}`)
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
    this.#draw()
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #note(line: string): void {
    this.#happened.push(line)
    if (this.#happened.length > EVENTS_SHOWN) this.#happened.shift()
    if (!this.#terminal.isTty && !this.#stopped) this.#terminal.out(line)
  }

  #draw(): void {
    this.#look()
      .catch((error: unknown) => {
        // The table stays as it was; that it is old is what has to be said.
        this.#show([`the coordinator does not answer: ${errorMessage(error)} (${errorCode(error)})`])
      })
      .finally(() => {
        if (!this.#stopped) this.#timer = this.#cluster.env.timers.after(DRAW_MS, () => this.#draw())
      })
  }

  async #look(): Promise<void> {
    const [status, events] = await Promise.all([this.#cluster.api.status(), this.#cluster.api.events(this.#seen)])
    if (this.#stopped) return
    this.#take(events)
    if (status.canLose.summary !== this.#summary) {
      this.#summary = status.canLose.summary
      if (!this.#terminal.isTty) this.#terminal.out(this.#summary)
    }
    this.#show(this.#table(status))
  }

  #take(events: readonly ClusterEvent[]): void {
    // A coordinator that has started anew counts anew.
    const last = events.at(-1)?.seq ?? 0
    for (const event of events) this.#note(eventLine(event))
    this.#seen = Math.max(this.#seen, last)
  }

  #table(status: Status): string[] {
    const complaints = [...this.#complained]
    return [
      ...statusLines(status, { acknowledged: this.#acknowledged }),
      ...(complaints.length === 0 ? [] : ['', ...complaints]),
      '',
      ...this.#happened,
      '',
      'Ctrl-C ends the cluster in order; its state stays.',
    ]
  }

  #show(lines: readonly string[]): void {
    if (!this.#terminal.isTty) return
    const { columns } = this.#terminal
    this.#terminal.write(`${CLEAR}${lines.map(line => line.slice(0, columns)).join('\n')}\n`)
  }
}
