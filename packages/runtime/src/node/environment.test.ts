// The environment as a whole: it opens its state, logs to its file, traces to its writer, and can be closed and reopened.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { TraceRecord } from '../environment.ts'
import { errorCode } from '../errors.ts'
import { createEnvironment } from './environment.ts'

const root = mkdtempSync(join(tmpdir(), 'stellwerk-environment-'))
afterAll(() => rmSync(root, { recursive: true }))

test('state is kept from one life to the next, and held exclusively meanwhile', async () => {
  const directory = join(root, 'deep', 'state')
  const open = () => createEnvironment({ name: 'coordinator', directory, logLevel: 'silent' })
  const first = open()
  first.store.commit([{ put: 'term', value: 7 }])
  let code = 'none'
  try {
    open()
  } catch (error) {
    code = errorCode(error)
  }
  expect(code).toBe('locked')
  await first.close()
  const second = open()
  expect(second.store.get('term')).toBe(7)
  await second.close()
})

test('a state that is gone is not made anew where files need it', async () => {
  const directory = join(root, 'needy')
  const open = () => createEnvironment({ name: 'san-a', directory, logLevel: 'silent', stateNeededBy: 'luns' })
  await open().close()
  mkdirSync(join(directory, 'luns'))
  rmSync(join(directory, 'state.sqlite'))
  await open().close()
  writeFileSync(join(directory, 'luns', 'x.data'), 'precious')
  await open().close()
  for (const lose of [rmSync, (path: string) => truncateSync(path, 0)]) {
    lose(join(directory, 'state.sqlite'))
    const before = readdirSync(directory)
    expect(open).toThrow(expect.objectContaining({ code: 'lost-state' }))
    expect(readdirSync(directory)).toEqual(before)
    rmSync(join(directory, 'state.sqlite'), { force: true })
    await createEnvironment({ name: 'san-a', directory, logLevel: 'silent' }).close()
  }
})

test('the log is one JSON line an entry, with the process’s name, from its level up', async () => {
  const logFile = join(root, 'logs', 'agent.log')
  const env = createEnvironment({ name: 'host-a/agent', directory: join(root, 'a'), logFile, logLevel: 'info' })
  env.log.debug({}, 'too fine')
  env.log.warn({ vm: 'web-1' }, 'frozen')
  await env.close()
  const lines = readFileSync(logFile, 'utf8').trim().split('\n')
  expect(lines.length).toBe(1)
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ name: 'host-a/agent', vm: 'web-1', msg: 'frozen', level: 40 })
})

test('trace records go to the writer, stamped with wall time near now', async () => {
  const records: TraceRecord[] = []
  const traceWriter = { level: 'message', write: (record: TraceRecord) => void records.push(record) } as const
  const env = createEnvironment({ name: 'p', directory: join(root, 't'), traceWriter, logLevel: 'silent' })
  env.trace.emit({ level: 'decision', kind: 'vm.run', vm: 'web-1' })
  env.trace.emit({ level: 'io', kind: 'guest.step' })
  expect(records.map(record => record.kind)).toEqual(['vm.run'])
  expect(Math.abs((records[0]?.hlc.wallMs ?? 0) - Date.now())).toBeLessThan(60_000)
  await env.close()
})
