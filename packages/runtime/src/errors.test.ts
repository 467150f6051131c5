// What is told of an error is one line, whoever made it.

import { expect, test } from 'vitest'
import { describeError, StellwerkError } from './errors.ts'

test('an error is told in one line: what, where, and what to do', () => {
  const error = new StellwerkError('bad-size', '"much" is no size', { where: '--memory', hint: 'say 64MiB' })
  expect(describeError(error)).toBe('"much" is no size (--memory); say 64MiB')
})

test('what a library says in several lines is told in one', () => {
  expect(describeError(new Error('*** in database main ***\nTree 2: malformed\r\n'))).toBe(
    '*** in database main *** Tree 2: malformed',
  )
  expect(describeError(new StellwerkError('corrupt-state', 'damaged: a\n  b', { where: 'x' }))).toBe('damaged: a b (x)')
})
