// What a console of a VM does before there is anything to hear: it waits and says for what, or refuses.

import { describe, expect, it } from 'vitest'
import { consoleWait } from './vm-console.ts'

const SEEN = { name: 'web', state: 'running', desired: 'running', host: 'host-a', why: null, whyNot: null } as const

describe('a console', () => {
  it.each(['running', 'frozen', 'paused-critical', 'migrating', 'stopping', 'unknown'])(
    'of a VM that a host has, %s: is there',
    state => {
      expect(consoleWait({ ...SEEN, state })).toBe(null)
    },
  )

  it('of a VM that is being started or failed over waits, and says for what', () => {
    expect(consoleWait({ ...SEEN, state: 'starting' })).toBe('VM "web" is being started on host host-a')
    const waiting = { ...SEEN, host: null, state: 'waiting', whyNot: 'no host fits' }
    expect(consoleWait(waiting)).toBe('VM "web" is not placed yet: no host fits')
    const lost = { ...SEEN, host: null, state: 'lost', why: 'its host host-a was lost' }
    expect(consoleWait(lost)).toBe('VM "web" is not placed yet: its host host-a was lost')
  })

  it.each([
    ['stopped', 'stopped', null, /is stopped: it has no console.*/, /vm start web/],
    ['failed', 'running', 'it crashed 3 times', /was given up: it crashed 3 times/, /vm start web/],
    ['deleting', 'deleted', null, /is deleting/, /vm list/],
    // The whole cluster is being stopped: what is wanted stays wanted.
    ['stopped', 'running', null, /is stopped/, /vm start web/],
  ] as const)(
    'of a VM that is %s (wanted: %s) is refused at once, and says what to do',
    (state, desired, why, what, hint) => {
      const look = () => consoleWait({ ...SEEN, host: null, state, desired, why })
      expect(look).toThrow(expect.objectContaining({ code: 'not-running', message: expect.stringMatching(what) }))
      expect(look).toThrow(expect.objectContaining({ hint: expect.stringMatching(hint) }))
    },
  )
})
