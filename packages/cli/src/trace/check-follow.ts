// `stellwerk trace check --follow`: the monitors over a cluster's traces while they are written. What is read so soon may be out
// of order, or lack what a slow process has still to write; so what they find is only a suspicion, which the whole trace, read
// in order, must confirm.

import { createMonitors } from '@stellwerk/protocol/monitors/all-monitors.ts'
import type { RuleId, Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { createTimers } from '@stellwerk/runtime/node/timers.ts'
import { type CheckReport, checkTrace, isHeard, monitorOptions } from './check.ts'
import { factsOf, timeOf } from './check-facts.ts'
import { beginnings } from './check-losses.ts'
import { canConvict } from './check-rules.ts'
import { follow } from './show-follow.ts'
import type { TraceSource } from './source.ts'

/** A process that is slower than this with its records has lost them. */
const SETTLES_MS = 3_000

export interface WatchOptions {
  readonly rules: readonly RuleId[]
  readonly reopen: () => Promise<TraceSource>
  readonly onDamaged?: (error: StellwerkError) => void
  /** All that there was when it began has been judged. */
  readonly onCaughtUp: (records: number) => void
  /** A finding that the whole trace does not bear out. */
  readonly onUnconfirmed: (finding: Violation) => void
  readonly isOver: () => boolean
}

/** The report of the whole trace when a rule is broken, or when it is over. */
export async function watchTrace(source: TraceSource, options: WatchOptions): Promise<CheckReport> {
  const { rules, reopen, isOver, onDamaged } = options
  const tolerant = onDamaged === undefined ? {} : { onDamaged }
  let facts = await factsOf(source, tolerant)
  const timers = createTimers(createClock())
  const unconfirmed = new Set<string>()
  const { isNone: whole } = await beginnings(source, facts, tolerant)
  let current = source
  for (let caughtUp = false; ; ) {
    const suspected: Violation[] = []
    // What the last ones have seen may have been out of order: these begin anew, with all that has come since.
    const monitors = createMonitors({
      ...monitorOptions(facts),
      rules,
      onViolation: found => void suspected.push(found),
    })
    let records = 0
    let suspicion: Violation | undefined
    await follow(current, {
      ...tolerant,
      filter: { kinds: monitors.kinds },
      last: Number.POSITIVE_INFINITY,
      reopen,
      onRecord: record => {
        if (!isHeard(record, facts)) return
        records += 1
        monitors.observe(record, timeOf(facts, record))
      },
      isOver: () => {
        if (!caughtUp) options.onCaughtUp(records)
        caughtUp = true
        suspicion = suspected.find(({ rule, message }) => couldConvict(rule) && !unconfirmed.has(message))
        return suspicion !== undefined || isOver()
      },
    })
    const look = async () => {
      current = await reopen()
      // Processes that have begun since have clocks of their own.
      facts = await factsOf(current, tolerant)
      return checkTrace(current, { rules, ...tolerant })
    }
    let report = await look()
    if (suspicion === undefined) return report
    if (report.violations.length > 0) {
      // What would explain it may still be on its way to the disk.
      await new Promise<void>(resolve => timers.after(SETTLES_MS, resolve))
      report = await look()
      if (report.violations.length > 0) return report
    }
    for (const { message } of suspected) unconfirmed.add(message)
    options.onUnconfirmed(suspicion)
  }

  function couldConvict(rule: RuleId): boolean {
    return canConvict(rule, { simulated: facts.kind === 'simulated', whole })
  }
}
