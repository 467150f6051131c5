import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { about, isIdle } from './run-records.ts'

test('a fault of what is down already adds nothing; any other failure is one', () => {
  const said = (code: string, message = '') => isIdle(new StellwerkError(code, message))
  expect(['not-running', 'no-mirror', 'coordinator-away'].map(code => said(code))).toEqual([true, true, true])
  expect(said('docker-failed', 'Container abc is not running')).toBe(true)
  expect([said('no-faults'), said('docker-failed', 'permission denied'), isIdle(new Error('x'))]).toEqual([
    false,
    false,
    false,
  ])
})

test('a record tells whom it hits, and all of it', () => {
  const what = { id: 3, kind: 'cable-pull', atMs: 5, lastsMs: 7, host: 'host-a', fabric: 1 } as const
  const body = { id: 3, fault: 'cable-pull', atMs: 5, lastsMs: 7, host: 'host-a', fabric: 1 }
  expect(about(what)).toEqual({ host: 'host-a', body })
  expect(about({ id: 1, kind: 'coordinator-kill', atMs: 0, lastsMs: 1 })).not.toHaveProperty('host')
})
