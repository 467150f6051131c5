// Every machine's way to the right to run: what the leases allow, and what the guardian has taken note of. A guest is
// asked about at every step and every output; the machine's actor hears when the answer may have changed.

import { canary } from '@stellwerk/runtime/canary.ts'
import type { Environment, Timer } from '@stellwerk/runtime/environment.ts'
import { asToAgent, type MachineDeadline, type ToAgent, type ToGuardian } from '../guardian/pipe.ts'
import type { RightToRun } from '../lease/right-to-run.ts'

/** Granted leases are passed on to the guardian at most this often. */
const PUSH_MS = 50

/** Told to the guardian and not acknowledged yet; of more the oldest are forgotten, since a newer one says it all. */
const MAX_UNACKNOWLEDGED = 64

interface Gated {
  readonly epoch: number
  /** As it is at this moment: legs come and go. */
  readonly storages: () => readonly string[] | null
  frozen: boolean
  /** It has begun to run here. Before that there is nothing to kill, whatever its deadline. */
  begun: boolean
  /** Until when the guardian lets it run; without a guardian: always. */
  armedUntil: number
  /** The latest deadline that the guardian was told. */
  toldUntil: number
  readonly when: GatedListener
}

export interface GatedListener {
  /** The answer may be another now. */
  changed(): void
  /** What its storage lease rests on. */
  restsOn(storages: readonly string[] | null): void
}

export class RunGate {
  readonly #env: Environment
  readonly #right: RightToRun
  readonly #gated = new Map<string, Gated>()
  readonly #pushed = new Map<number, ReadonlyMap<string, MachineDeadline>>()
  #seq = 0
  #pushTimer: Timer | null = null
  #expiryTimer: Timer | null = null

  constructor(env: Environment, right: RightToRun) {
    this.#env = env
    this.#right = right
    env.processes.parent?.onMessage(message => {
      const said = asToAgent(message)
      if (said.kind === 'acknowledged') this.#acknowledged(said.seq)
      else if (said.kind === 'stop') this.onStop()
      else this.onProgram(said)
    })
  }

  /** The guardian asks the agent to end in order. Set by the agent. */
  onStop: () => void = () => undefined
  /** What the guardian says of programs that run here. Set by the agent. */
  onProgram: (said: Exclude<ToAgent, { kind: 'acknowledged' | 'stop' }>) => void = () => undefined

  /**
   * From now on the guardian knows the machine. `storages` as in RightToRun. `leftUntil`: it was taken over and may execute at this
   * moment, until then by the guardian's leave.
   */
  register(
    vm: string,
    epoch: number,
    storages: () => readonly string[] | null,
    when: GatedListener,
    leftUntil?: number,
  ): void {
    const armedUntil = this.#env.processes.parent === null ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
    const begun = leftUntil !== undefined
    this.#gated.set(vm, { epoch, storages, frozen: false, begun, armedUntil, toldUntil: leftUntil ?? 0, when })
    this.#push()
  }

  unregister(vm: string): void {
    const gated = this.#gated.get(vm)
    if (gated === undefined) return
    this.#gated.delete(vm)
    // By its deadline, or past it, the guardian is about to kill the agent for it, unless it hears of the machine's end before.
    const overdue = gated.begun && !gated.frozen && gated.toldUntil <= this.#env.clock.now() + PUSH_MS
    if (overdue) this.#push()
    else this.#pushSoon()
  }

  /** From now on it may execute: past its deadline it is killed. */
  begins(vm: string): void {
    const gated = this.#gated.get(vm)
    if (gated !== undefined) gated.begun = true
  }

  /** A frozen machine is not killed at its deadline; a thaw needs the guardian's word on a new one first. */
  setFrozen(vm: string, frozen: boolean): void {
    const gated = this.#gated.get(vm)
    if (gated === undefined || gated.frozen === frozen) return
    gated.frozen = frozen
    if (!frozen && this.#env.processes.parent !== null) gated.armedUntil = Number.NEGATIVE_INFINITY
    this.#push()
  }

  until(vm: string): number {
    const gated = this.#gated.get(vm)
    if (gated === undefined) return Number.NEGATIVE_INFINITY
    return Math.min(gated.armedUntil, this.#right.until(gated.storages()))
  }

  /** A lease allows it, whatever the guardian knows of it yet. */
  leased(vm: string): boolean {
    const gated = this.#gated.get(vm)
    return gated !== undefined && this.#env.clock.now() < this.#right.until(gated.storages())
  }

  mayExecute(vm: string): boolean {
    if (canary('lease-unchecked') && this.#gated.has(vm)) return true
    return this.#env.clock.now() < this.until(vm)
  }

  /** What allows machines to run has changed: a lease came, or all were lost. */
  rightChanged(): void {
    this.#pushSoon()
    for (const gated of [...this.#gated.values()]) gated.when.changed()
    this.#watchExpiry()
  }

  /** Legs of volumes count now that did not, or do not any more. */
  legsChanged(): void {
    for (const gated of this.#gated.values()) gated.when.restsOn(gated.storages())
    this.rightChanged()
  }

  #pushSoon(): void {
    if (this.#env.processes.parent === null || this.#pushTimer !== null) return
    this.#pushTimer = this.#env.timers.after(PUSH_MS, () => {
      this.#pushTimer = null
      this.#push()
    })
  }

  #push(): void {
    const { parent } = this.#env.processes
    if (parent === null) {
      this.#watchExpiry()
      return
    }
    const now = this.#env.clock.now()
    const machines = [...this.#gated].map(([vm, gated]) => {
      // Never earlier than it was told before: a fence voids the right at once, but then the machines are being killed here,
      // and the guardian must not kill the whole agent for taking a moment over it.
      gated.toldUntil = Math.max(gated.toldUntil, this.#right.until(gated.storages()))
      const until = gated.toldUntil
      const { epoch, begun } = gated
      return { vm, epoch, until, begun, frozen: gated.frozen || (!begun && until <= now) }
    })
    this.#seq += 1
    this.#pushed.set(this.#seq, new Map(machines.map(machine => [machine.vm, machine])))
    this.#pushed.delete(this.#seq - MAX_UNACKNOWLEDGED)
    parent.send({ kind: 'deadlines', seq: this.#seq, machines } satisfies ToGuardian)
  }

  #acknowledged(seq: number): void {
    const machines = this.#pushed.get(seq)
    for (const known of [...this.#pushed.keys()]) if (known <= seq) this.#pushed.delete(known)
    if (machines === undefined) return
    for (const [vm, machine] of machines) {
      const gated = this.#gated.get(vm)
      if (gated === undefined || gated.epoch !== machine.epoch || machine.frozen || gated.frozen) continue
      gated.armedUntil = Math.max(gated.armedUntil, machine.until)
      gated.when.changed()
    }
    this.#watchExpiry()
  }

  /** Wakes the actors of machines whose time is up, should nothing prolong it. */
  #watchExpiry(): void {
    this.#expiryTimer?.cancel()
    this.#expiryTimer = null
    const now = this.#env.clock.now()
    let next = Number.POSITIVE_INFINITY
    for (const [vm, gated] of this.#gated) {
      const until = this.until(vm)
      if (!gated.frozen && until > now) next = Math.min(next, until)
    }
    if (next === Number.POSITIVE_INFINITY) return
    this.#expiryTimer = this.#env.timers.after(next - now, () => {
      // What has not begun to run is out of the guardian's sight from here on: there is nothing to kill.
      this.#push()
      for (const gated of [...this.#gated.values()]) gated.when.changed()
      this.#watchExpiry()
    })
  }
}
