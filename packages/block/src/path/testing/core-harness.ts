// A path core fed by hand, with no clock but the test's, whose effects are words. For tests only.

import { PathCore } from '../path-core.ts'
import { DEFAULT_PATH_CONFIG, type PathConfig, type PathEffect, type PathInput } from '../path-state.ts'

export const CONFIG: PathConfig = {
  ...DEFAULT_PATH_CONFIG,
  policy: 'least-queue',
  requestDeadlineMs: 1000,
  probeIntervalMs: 100,
  failBackProbes: 2,
  failAfterProbes: 3,
  backoffMinMs: 100,
  backoffMaxMs: 1000,
}

export class Harness {
  now = 0
  readonly core: PathCore
  readonly paths: number

  constructor(priorities: readonly number[], config: Partial<PathConfig> = {}, standbyFrom = Number.POSITIVE_INFINITY) {
    this.paths = priorities.length
    const named = priorities.map((priority, index) => ({
      name: `path-${index}`,
      priority,
      standby: priority >= standbyFrom,
    }))
    this.core = new PathCore({ ...CONFIG, ...config }, named, 1, 0)
  }

  step(input: PathInput): string[] {
    return this.core.step(input, this.now).map(describeEffect)
  }

  /** All paths connected in session 1. */
  connectAll(): this {
    this.step({ kind: 'start' })
    for (let path = 0; path < this.paths; path += 1) this.connected(path, 1)
    return this
  }

  connected(path: number, session = this.core.session): string[] {
    return this.step({ kind: 'connected', path, session })
  }

  lost(path: number, unknown: boolean, session = this.core.session): string[] {
    return this.step({ kind: 'lost', path, session, unknown, reason: 'reset' })
  }

  /** A probe tick, in which the given requests are the oldest. */
  tick(...oldest: (number | null)[]): string[] {
    this.now += CONFIG.probeIntervalMs
    return this.step({ kind: 'tick', probe: true, oldest })
  }

  good(path: number): string[] {
    return this.step({ kind: 'probe-good', path, latencyMs: 1 })
  }

  bad(path: number): string[] {
    return this.step({ kind: 'probe-bad', path, why: 'no answer' })
  }

  states(): string[] {
    return Array.from({ length: this.paths }, (_, index) => this.core.facts(index).state)
  }
}

export function describeEffect(effect: PathEffect): string {
  const path = 'path' in effect ? ` ${effect.path}` : ''
  const session = 'session' in effect ? `@${effect.session}` : ''
  return `${effect.kind}${path}${session}`
}
