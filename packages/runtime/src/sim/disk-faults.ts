// What can go wrong with a simulated disk: small rules, each matching operations and saying what happens to them.

import type { SimRandom } from './random.ts'

/** `commit`: a commit of a process's store. */
export type DiskOperation = 'open' | 'read' | 'write' | 'sync' | 'punch' | 'truncate' | 'replace' | 'list' | 'commit'

/**
 * An error code; `hang`: not until the fault is healed; `ignore`: reported as done, but nothing happened (a lost write, a
 * lying sync); a delay; or a write that lands elsewhere.
 */
export type DiskVerdict =
  | 'EIO'
  | 'ENOSPC'
  | 'EROFS'
  | 'hang'
  | 'ignore'
  | { readonly delayMs: number; readonly jitterMs?: number }
  | { readonly misdirectBytes: number }

export interface DiskRule {
  /** Of one process's directory. */
  readonly process?: string
  readonly path?: string
  readonly operation?: DiskOperation | readonly DiskOperation[]
  /** Only operations that touch these bytes. */
  readonly range?: { readonly offset: number; readonly length: number }
  /** Per operation. Default 1. */
  readonly chance?: number
  /** After this many operations it is spent. */
  readonly times?: number
  /** Over once all of its range is written anew, as a drive maps a bad sector to a good one. */
  readonly untilWritten?: true
  readonly verdict: DiskVerdict
}

export interface DiskFault {
  readonly rule: DiskRule
  /** Operations it has hit. */
  readonly hits: number
  heal(): void
}

export interface DiskAccess {
  readonly process: string
  readonly path: string
  readonly operation: DiskOperation
  readonly offset: number
  readonly length: number
}

/** Rules on one disk at once. */
const RULES_MAX = 10_000

export class DiskFaults {
  readonly #faults: (DiskFault & { hits: number })[] = []
  readonly #onHeal: () => void

  constructor(onHeal: () => void) {
    this.#onHeal = onHeal
  }

  add(rule: DiskRule): DiskFault {
    if (this.#faults.length >= RULES_MAX) throw new RangeError(`at most ${RULES_MAX} faults on a disk`)
    const fault = {
      rule,
      hits: 0,
      heal: () => {
        const index = this.#faults.indexOf(fault)
        if (index < 0) return
        this.#faults.splice(index, 1)
        this.#onHeal()
      },
    }
    this.#faults.push(fault)
    return fault
  }

  get some(): boolean {
    return this.#faults.length > 0
  }

  healAll(): void {
    this.#faults.length = 0
    this.#onHeal()
  }

  /** What happens to this operation, oldest rule first. */
  judge(access: DiskAccess, random: SimRandom): readonly DiskVerdict[] {
    if (this.#faults.length === 0) return []
    const verdicts: DiskVerdict[] = []
    if (access.operation === 'write')
      for (const fault of this.#faults.filter(f => isCured(f.rule, access))) fault.heal()
    for (const fault of this.#faults) {
      const { rule } = fault
      if (rule.times !== undefined && fault.hits >= rule.times) continue
      if (!matches(rule, access)) continue
      if (rule.chance !== undefined && !random.chance(rule.chance)) continue
      fault.hits++
      verdicts.push(rule.verdict)
    }
    return verdicts
  }
}

function isCured({ untilWritten, process, path, range }: DiskRule, access: DiskAccess): boolean {
  if (untilWritten !== true || range === undefined) return false
  if ((process ?? access.process) !== access.process || (path ?? access.path) !== access.path) return false
  return access.offset <= range.offset && range.offset + range.length <= access.offset + access.length
}

function matches(rule: DiskRule, access: DiskAccess): boolean {
  if (rule.process !== undefined && rule.process !== access.process) return false
  if (rule.path !== undefined && rule.path !== access.path) return false
  if (rule.operation !== undefined) {
    const { operation } = rule
    const hit = typeof operation === 'string' ? operation === access.operation : operation.includes(access.operation)
    if (!hit) return false
  }
  if (rule.range === undefined) return true
  const end = rule.range.offset + rule.range.length
  return access.offset < end && rule.range.offset < access.offset + access.length
}
