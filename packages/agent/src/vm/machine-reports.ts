// What a VM's actor reports of its machine to its host: what it is at, and what its guest tells of itself.

import type { ReportedMachine, VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { GuestFacts } from '@stellwerk/protocol/messages/guest-agent.ts'

export class MachineReports {
  readonly #order: Pick<VmOrder, 'vm' | 'epoch'>
  readonly #report: (machine: ReportedMachine) => void
  #last: Pick<ReportedMachine, 'state' | 'why'> | null = null
  #guest: GuestFacts | null = null

  constructor(order: Pick<VmOrder, 'vm' | 'epoch'>, report: (machine: ReportedMachine) => void) {
    this.#order = order
    this.#report = report
  }

  say(state: ReportedMachine['state'], why: string | null): void {
    this.#last = { state, why }
    const { vm, epoch } = this.#order
    this.#report({ vm, epoch, state, why, ...(this.#guest === null ? {} : { guest: this.#guest }) })
  }

  /** Null: nobody there tells anything. */
  guest(facts: GuestFacts | null): void {
    this.#guest = facts
    if (this.#last !== null) this.say(this.#last.state, this.#last.why)
  }
}
