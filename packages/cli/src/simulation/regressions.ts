// Seeds that once failed, each with what was wrong; a test replays them. When the code moves on, a seed draws another run
// from the same plan, so a regression that matters also has a test of its own beside the code it was about.

export interface Regression {
  readonly seed: string
  /** The rule that found it. */
  readonly rule: string
  readonly because: string
}

export const REGRESSIONS: readonly Regression[] = [
  { seed: '6', rule: 'LIV1', because: 'VMs made no progress after the faults had ended' },
  { seed: '8', rule: 'LIV1', because: 'VMs made no progress after the faults had ended' },
]
