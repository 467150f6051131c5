// For tests of the core: a state that decisions are applied to, with what they caused kept.

import type { LunMarks } from '@stellwerk/protocol/messages/storage.ts'
import type { Json, StoreChange } from '@stellwerk/runtime/environment.ts'
import { type Decision, decide, type Effect, type Input } from './decide.ts'
import type { ExportName, HostClaim, Session } from './export-name.ts'
import { recoverAdmission } from './recover.ts'
import { type AdmissionState, EMPTY_ADMISSION } from './state.ts'

export const CLOSED_LUN: LunMarks = {
  id: 'id-1',
  sizeBytes: 1024 * 1024,
  open: false,
  masked: false,
  hosts: null,
  generation: 0,
  generationId: null,
  legs: {},
  owner: 0,
  ownerHost: null,
  layout: null,
}

export class Bench {
  state: AdmissionState = EMPTY_ADMISSION
  readonly store = new Map<string, Json>()
  readonly effects: Effect[] = []
  #next = 1

  /** Gives the effects of this input alone. */
  give(input: Input): readonly Effect[] {
    const { next, changes, effects }: Decision = decide(this.state, input)
    this.state = next
    for (const change of changes) this.#apply(change)
    this.effects.push(...effects)
    return effects
  }

  order(order: Record<string, unknown> & { kind: string }): readonly Effect[] {
    return this.give({ ...order, ticket: this.#next++ } as unknown as Input)
  }

  connect(lun: string, claim: HostClaim | null): { id: number; effects: readonly Effect[] } {
    const id = this.#next++
    return { id, effects: this.give({ kind: 'connect', connection: id, name: { lun, claim } satisfies ExportName }) }
  }

  drained(connection: number): readonly Effect[] {
    return this.give({ kind: 'drained', connection })
  }

  /** A LUN and hosts admitted at epoch 1. */
  with(...hosts: string[]): this {
    this.order({ kind: 'create-lun', lun: 'csv1', marks: CLOSED_LUN })
    for (const host of hosts) this.order({ kind: 'admit', host, epoch: 1, term: 1 })
    return this
  }

  /** What a start finds. */
  recovered(): AdmissionState {
    const entries = (prefix: string) => [...this.store].filter(([key]) => key.startsWith(prefix)).sort()
    return recoverAdmission({ get: key => this.store.get(key), entries, commit: () => undefined })
  }

  #apply(change: StoreChange): void {
    if ('put' in change) this.store.set(change.put, change.value)
    else this.store.delete(change.delete)
  }
}

export function claimOf(host: string, rest: Partial<Omit<HostClaim, 'host'>> = {}): HostClaim {
  const session: Session = rest.session ?? [1, 0]
  return { host, epoch: 1, generation: 0, via: null, owner: null, ...rest, session }
}

export const kinds = (effects: readonly Effect[]): string[] => effects.map(({ kind }) => kind)

/** The code of the refusal or rejection among the effects, or null. */
export function codeOf(effects: readonly Effect[]): string | null {
  for (const effect of effects) if (effect.kind === 'refuse' || effect.kind === 'reject') return effect.refusal.code
  return null
}
