// From what was heard and what is on record to the figures of a migration and of a failover. Pure. All times are on the one
// clock that the processes of a machine share.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Acknowledgement, Handover } from '../observer/heard-ledger.ts'

export interface MigrationFigures {
  readonly vm: string
  readonly from: string
  readonly to: string
  /** From the order to the first entry that was heard from the target. */
  readonly totalMs: number
  /**
   * Between the last entry heard from the source and the first from the target, as it was: with the time that the guest
   * takes between two entries anyway.
   */
  readonly downtimeMs: number
  readonly rounds: number
  readonly pagesSent: number
  readonly bytesSent: number
  /** Where the downtime went; null where a record is missing. */
  readonly pause: PauseFigures | null
  /** Orders until one was done: above 1, the others were refused or aborted, and the guest ran on. */
  readonly attempts: number
}

/** Adds up to the downtime. */
export interface PauseFigures {
  /** From the last entry heard until the guest stood still. */
  readonly beforeMs: number
  /** The last pages found and sent, the disk drained, `released` durable. */
  readonly releaseMs: number
  /** At the target: the last pages received and checked. */
  readonly loadMs: number
  /** The coordinator's commit, and the way there. */
  readonly commitMs: number
  /** From the commit until the guest runs. */
  readonly resumeMs: number
  /** From there until its next entry is written and heard. */
  readonly afterMs: number
}

export interface FailoverFigures {
  readonly host: string
  readonly vm: string
  readonly to: string
  /** The guardian vouched that nothing of it is left: nothing had to be waited out. */
  readonly attested: boolean
  /** From the kill to the decision to fence. */
  readonly detectMs: number
  readonly fenceMs: number
  /** Until the old instance is surely dead: every lease that its host may have held is over. */
  readonly waitMs: number
  /** Until what the host left on the volume is recovered and the VM is placed. */
  readonly placeMs: number
  /** Until the first entry is heard from the new host. */
  readonly startMs: number
  readonly totalMs: number
}

export function migrationFigures(
  vm: string,
  requestedAt: number,
  handover: Handover,
  statistics: { readonly [name: string]: unknown },
  records: readonly TraceRecord[],
): Omit<MigrationFigures, 'attempts'> {
  const { from, to } = handover
  return {
    vm,
    from: from.host,
    to: to.host,
    totalMs: to.at - requestedAt,
    downtimeMs: to.at - from.at,
    rounds: count(statistics, 'rounds'),
    pagesSent: count(statistics, 'pagesSent'),
    bytesSent: count(statistics, 'bytesSent'),
    pause: pauseFigures(handover, records),
  }
}

function count(statistics: { readonly [name: string]: unknown }, name: string): number {
  const value = statistics[name]
  if (typeof value === 'number') return value
  throw new StellwerkError('no-figures', `the migration's statistics have no ${name}`, { hint: 'see the trace' })
}

function pauseFigures({ from, to }: Handover, records: readonly TraceRecord[]): PauseFigures | null {
  const at = (kind: string, how?: string): number | null => {
    const found = records.find(
      ({ kind: is, body }) => is === kind && (how === undefined || (body as { how?: string }).how === how),
    )
    return found?.at ?? null
  }
  const stood = at('vm.halt', 'released')
  const released = at('machine.released')
  const loaded = at('machine.loaded')
  const committed = at('migration.committed')
  const runs = at('vm.run', 'arrive')
  if (stood === null || released === null || loaded === null || committed === null || runs === null) return null
  return {
    beforeMs: stood - from.at,
    releaseMs: released - stood,
    loadMs: loaded - released,
    commitMs: committed - loaded,
    resumeMs: runs - committed,
    afterMs: to.at - runs,
  }
}

/** `records` are the coordinator's decisions since the kill. Throws `no-figures` when one is missing. */
export function failoverFigures(
  host: string,
  vm: string,
  killedAt: number,
  first: Acknowledgement,
  records: readonly TraceRecord[],
): FailoverFigures {
  const decision = (kind: string, subject: string): TraceRecord => {
    const found = records.find(record => record.kind === `decision.${kind}` && subjectOf(record) === subject)
    return found ?? missing(`decision.${kind} of ${subject}`)
  }
  const fence = decision('fence', host).at
  const fenced = decision('fenced', host).at
  const lost = decision('vm-lost', vm).at
  const start =
    records.find(record => record.kind === 'failover.start' && record.vm === vm) ?? missing('failover.start')
  return {
    host,
    vm,
    to: first.host,
    attested: (start.body as { attested: boolean }).attested,
    detectMs: fence - killedAt,
    fenceMs: fenced - fence,
    waitMs: lost - fenced,
    placeMs: start.at - lost,
    startMs: first.at - start.at,
    totalMs: first.at - killedAt,
  }
}

function subjectOf(record: TraceRecord): string | null {
  const { body } = record
  return typeof body === 'object' && body !== null ? ((body as { subject?: string }).subject ?? null) : null
}

function missing(what: string): never {
  throw new StellwerkError('no-figures', `the coordinator's trace has no ${what}`, { hint: 'see the trace' })
}
