// What breaks a cluster that others run, fault by fault, and puts it right: processes of this machine, or containers.

import type { Fault } from './fault.ts'
import type { Broken, Journal } from './local/journal.ts'
import type { ChaosCluster } from './target.ts'

export interface NotHealed {
  readonly broken: Broken
  readonly why: string
}

export interface Breaking {
  readonly cluster: ChaosCluster
  readonly journal: Journal
  /** The journal first, then the deed. Gives what is in the journal, with the id it got. Throws what can't be, and changes nothing. */
  inject(fault: Fault): Promise<Broken>
  /** Idempotent. Throws what could not be put right: it is still in the journal then. */
  heal(id: number): Promise<void>
  /** All of it, as far as it goes: gives what could not be put right. */
  healAll(): Promise<readonly NotHealed[]>
}
