// A question is seen while it waits, and once.

import { expect, it } from 'vitest'
import { StandingLine } from './standing-line.ts'

it('a line of which a part stands there is completed, and another begins on a line of its own', () => {
  const line = new StandingLine()
  const written = [
    line.whole('booted'),
    line.begin('tux login: '),
    line.begin('tux login: ro'),
    line.whole('tux login: root'),
    line.whole('welcome'),
    line.begin('Password: '),
    line.whole('the machine has moved'),
    line.whole('ack 1'),
  ]
  expect(written.join('')).toBe('booted\ntux login: root\nwelcome\nPassword: \nthe machine has moved\nack 1\n')
})
