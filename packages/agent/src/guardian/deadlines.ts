// The guardian's judgement: which machines are past their deadline. Pure.

import type { MachineDeadline } from './pipe.ts'

/**
 * How long past a deadline the agent may take to say that it froze the machine. On waking from a pause both wake at once,
 * and the guardian reads its pipe before it judges.
 */
export const JUDGEMENT_DELAY_MS = 50

export interface Judgement {
  /** Machines that may still run though they must not. */
  readonly overdue: readonly MachineDeadline[]
  /** When to look again; null: nothing runs. */
  readonly nextAt: number | null
}

export function judgeDeadlines(machines: readonly MachineDeadline[], now: number): Judgement {
  const running = machines.filter(machine => !machine.frozen)
  const overdue = running.filter(machine => now >= machine.until + JUDGEMENT_DELAY_MS)
  let nextAt: number | null = null
  for (const machine of running) {
    const at = machine.until + JUDGEMENT_DELAY_MS
    if (at > now && (nextAt === null || at < nextAt)) nextAt = at
  }
  return { overdue, nextAt }
}
