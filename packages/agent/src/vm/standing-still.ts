// Why a machine that is frozen stands still: it has no lease, or its writes wait for somebody to make room. What is told of it
// is told once, and again when the reason is another.

import type { DiskSet } from '../volume/disk-set.ts'
import type { Evidence } from './evidence.ts'

export class StandingStill {
  readonly #evidence: Evidence
  readonly #report: (why: string) => void
  #disks: DiskSet | null = null
  #told: string | null = null

  constructor(evidence: Evidence, report: (why: string) => void) {
    this.#evidence = evidence
    this.#report = report
  }

  /** `changed`: there is room no more, or again. */
  watch(disks: DiskSet, changed: () => void): void {
    this.#disks = disks
    disks.onCritical(changed)
  }

  /** Why it is to stand still although it may run; null: it is not. */
  get critical(): string | null {
    const why = this.#disks?.critical ?? null
    return why === null ? null : `paused-critical: ${why}`
  }

  frozen(): void {
    const why = this.critical ?? 'no lease'
    if (why === this.#told) return
    this.#told = why
    if (this.critical !== null) this.#evidence.pausedCritical(why)
    this.#report(why)
  }

  runs(): void {
    this.#told = null
  }
}
