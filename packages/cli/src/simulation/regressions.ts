// Seeds that once failed, each with what was wrong; a test replays them. When the code moves on, a seed draws another run
// from the same plan, so a regression that matters also has a test of its own beside the code it was about.

export interface Regression {
  readonly seed: string
  /** The rule that found it. */
  readonly rule: string
  readonly because: string
}

export const REGRESSIONS: readonly Regression[] = [
  {
    seed: '6',
    rule: 'LIV1',
    because: 'an agent whose disk waited for an owner that never came was never told that the path below was up again',
  },
  {
    seed: '8',
    rule: 'LIV1',
    because: 'a disk held by a placement that was surely dead was refused to the VM’s next placement',
  },
]
