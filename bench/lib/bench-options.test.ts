// The bench understands its words, and says which it does not, before it measures anything.

import { expect, test } from 'vitest'
import { parseBenchOptions } from './bench-options.ts'

const GROUPS = ['disk', 'bulk']

test('takes what it knows', () => {
  const all = { names: GROUPS, json: false, quick: false, rounds: 5, seconds: 2 }
  expect(parseBenchOptions([], GROUPS)).toEqual(all)
  expect(parseBenchOptions(['--quick', '--only', 'bulk', '--json'], GROUPS)).toEqual({
    ...{ names: ['bulk'], json: true, quick: true, rounds: 1, seconds: 1 },
  })
})

const wrong: [string, RegExp][] = [
  ['--only nope', /no group "nope"/],
  ['--only=', /no group ""/],
  ['--rounds x', /--rounds is "x"/],
  ['--rounds 1.5', /--rounds is "1.5"/],
  ['--rounds 1e9', /--rounds is "1e9"/],
  ['--seconds 0', /--seconds is "0"/],
  ['--seconds=-1', /--seconds is "-1"/],
  ['--seconds -1', /'--seconds' argument is ambiguous$/],
  ['--seconds 1e9', /--seconds is "1e9"/],
  ['--nope', /'--nope'$/],
  ['disk', /'disk'$|disk/],
]
test.each(wrong)('refuses %s with what to say instead', (line, says) => {
  const given = () => parseBenchOptions(line.split(' '), GROUPS)
  expect(given).toThrow(says)
  expect(given).toThrow(expect.objectContaining({ code: 'usage', hint: expect.stringMatching(/say|groups:|usage:/) }))
})
