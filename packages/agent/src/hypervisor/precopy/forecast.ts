// Does pre-copy converge? A pure core: what each round found goes in; whether to go on, to switch, or to give up, and how
// far to throttle the guest, comes out. It reads no clock and sends nothing.

import type { MigrationPolicy } from '../hypervisor.ts'
import { PAGE_BYTES } from './state-checksum.ts'

/** Freeze, drain and hand-over cost about this much even when nothing is dirty. */
export const FIXED_PAUSE_MS = 2
/** How much of its time a guest that does not converge loses, step by step. */
export const THROTTLE_STEPS: readonly number[] = [0, 0.25, 0.5, 0.75, 0.9]
/** A round counts as progress if it leaves less than this share of the former round's dirty pages. */
const SHRINKING = 0.9

/** What a round was like: it ended with the scan that found `dirtyPages`. */
export interface RoundFacts {
  readonly round: number
  readonly dirtyPages: number
  /** From the scan before to this one: the time in which these pages were dirtied. */
  readonly sinceLastScanMs: number
  /** As they are in memory: what compression saves shows as speed. */
  readonly sentBytes: number
  readonly sendMs: number
  readonly scanMs: number
}

export interface ForecastState {
  readonly lastDirtyPages: number | null
  readonly throttleStep: number
  /** Smoothed; null until a round took measurable time (it never does where time is simulated and links are instant). */
  readonly bytesPerMs: number | null
}

export const INITIAL_FORECAST: ForecastState = { lastDirtyPages: null, throttleStep: 0, bytesPerMs: null }

export interface Forecast {
  readonly state: ForecastState
  /** `again`: another round · `converged`: the pause fits, or no round would make it fit better · `diverging`: give up. */
  readonly verdict: 'again' | 'converged' | 'diverging'
  readonly throttle: number
  readonly forecastMs: number
  readonly dirtyBytesPerSecond: number
  readonly bytesPerSecond: number
}

export function forecastRound(state: ForecastState, policy: MigrationPolicy, facts: RoundFacts): Forecast {
  const bytesPerMs = smooth(state.bytesPerMs, facts)
  const dirtyBytes = facts.dirtyPages * PAGE_BYTES
  const forecastMs = FIXED_PAUSE_MS + facts.scanMs + (bytesPerMs === null ? 0 : dirtyBytes / bytesPerMs)
  const fits = forecastMs <= policy.downtimeMs
  const shrinking = state.lastDirtyPages === null || facts.dirtyPages < state.lastDirtyPages * SHRINKING
  // Rounds that get shorter by themselves are left alone until the policy's count is used up.
  const late = facts.round >= policy.maxRounds
  const mayThrottle = state.throttleStep < THROTTLE_STEPS.length - 1
  const exhausted = late && !mayThrottle && !shrinking
  const throttleStep = !fits && late && !shrinking && mayThrottle ? state.throttleStep + 1 : state.throttleStep
  // Shrinking by itself must not go on forever either: past the policy's rounds, as many again are the end.
  const overdue = facts.round >= policy.maxRounds * 2 + THROTTLE_STEPS.length
  const over = exhausted || overdue
  const verdict = fits ? 'converged' : !over ? 'again' : policy.whenDiverging === 'pause' ? 'converged' : 'diverging'
  return {
    state: { lastDirtyPages: facts.dirtyPages, throttleStep, bytesPerMs },
    verdict,
    throttle: THROTTLE_STEPS[throttleStep] ?? 0,
    forecastMs,
    dirtyBytesPerSecond: facts.sinceLastScanMs > 0 ? (dirtyBytes * 1000) / facts.sinceLastScanMs : 0,
    bytesPerSecond: (bytesPerMs ?? 0) * 1000,
  }
}

/** Rounds of a few pages measure latency, not bandwidth: they don't move the estimate. */
const MEASURABLE_BYTES = 64 * PAGE_BYTES

function smooth(former: number | null, facts: RoundFacts): number | null {
  if (facts.sendMs <= 0 || (former !== null && facts.sentBytes < MEASURABLE_BYTES)) return former
  const measured = facts.sentBytes / facts.sendMs
  if (measured <= 0) return former
  return former === null ? measured : former * 0.5 + measured * 0.5
}
