// A live migration as it stands on record, durable as all of the coordinator's state (state.ts).

import type { WhenDiverging } from '@stellwerk/protocol/messages/migration.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'

export type MigrationPhase = 'preparing' | 'precopy' | 'switching' | 'committed' | 'aborted' | 'done'

export interface MigrationEnd {
  readonly host: string
  readonly hostEpoch: number
  readonly incarnation: number
}

/** Of one migration. */
export interface MigrationLimits {
  /** The longest pause that is aimed at; absent: as the settings have it. */
  readonly downtimeMs?: number
  /** Of a guest for which none so short is to be had; absent: `pause`. */
  readonly whenDiverging?: WhenDiverging
}

export interface MigrationRecord {
  readonly id: string
  readonly vm: string
  readonly source: MigrationEnd
  readonly target: MigrationEnd
  /** The placement epoch the target gets by the commit; burnt by an abort. */
  readonly epoch: number
  readonly phase: MigrationPhase
  readonly reason: string | null
  readonly requestedWallMs: number
  /** Their order: that of the decisions that began them. */
  readonly seq: number
  /** As it was asked for. */
  readonly limits?: MigrationLimits
  /** What the source and target measured; for people. */
  readonly statistics: { readonly [key: string]: Json }
}
