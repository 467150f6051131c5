// `stellwerk sim` understands its words, and says which it does not.

import { expect, test } from 'vitest'
import { parseSimOptions } from './sim-options.ts'

test('numbers seeds from the first', () => {
  const options = parseSimOptions(['--seeds', '3', '--first', '7', '--jobs', '2'])
  expect(options).toMatchObject({ seeds: ['7', '8', '9'], replay: false, jobs: 2, json: false, canary: null })
})

test('one seed is a replay, whatever its name', () => {
  expect(parseSimOptions(['--seed', 'abc-1', '--json'])).toMatchObject({ seeds: ['abc-1'], replay: true, json: true })
})

test('the time of faults in simulated seconds', () => {
  expect(parseSimOptions(['--safety', '20']).safetyMs).toBe(20_000)
  expect(parseSimOptions([]).safetyMs).toBe(null)
})

for (const [args, says] of [
  [['--safety', '0'], /--safety wants a whole number from 1/],
  [['--seeds', '0'], /--seeds wants a whole number from 1/],
  [['--seeds', '1.5'], /--seeds wants/],
  [['--first', '-1'], /--first/],
  [['--jobs', 'many'], /--jobs wants/],
  [['--seed', '1', '--seeds', '2'], /--seed names one seed/],
  [['--seed', ''], /--seed is empty/],
  [['--sead', '1'], /--sead/],
  [['--seeds', '2', '--trace', 'd'], /--trace records one seed/],
  [['--seed', '1', '--trace', ''], /--trace is empty/],
  [['17'], /17/],
] as const) {
  test(`refuses ${args.join(' ')}, in one line with the usage`, () => {
    expect(() => parseSimOptions(args)).toThrow(says)
    expect(() => parseSimOptions(args)).toThrow(
      expect.objectContaining({ hint: expect.stringMatching(/^usage: stellwerk sim .*--seed S/) }),
    )
    expect(() => parseSimOptions(args)).not.toThrow(/\n/)
  })
}
