// `stellwerk up` of a cluster of which a part is bad: the rest comes up, and what is missing is said with its reason.

import { openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { planLayout } from '@stellwerk/csv/format/layout.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { HOST_MS } from 'stellwerk/cluster/first-use.ts'
import { afterAll, expect, test } from 'vitest'
import { interrupt, Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const stellwerk = new Stellwerk('partial')
const { state } = stellwerk

afterAll(() => stellwerk.remove())

test('a damaged volume and a host whose port is taken leave the others up', { timeout: LONG }, async () => {
  const first = stellwerk.start('up', '--hosts', '2')
  await first.said(/^up after/)
  await interrupt(first)

  const { journalOffset, journalBytes } = planLayout({ volumeId: 'any', clusterId: 'any', volumeBytes: 4 * GIB })
  // On both legs: either alone would serve.
  for (const storage of ['san-a', 'san-b']) {
    const luns = join(state, storage, 'luns')
    const [file = ''] = readdirSync(luns).filter(name => name.endsWith('.data'))
    writeSync(openSync(join(luns, file), 'r+'), new Uint8Array(journalBytes), 0, journalBytes, journalOffset)
  }
  const check = await stellwerk.run('volume', 'check', 'csv1')
  expect(check.code).toBe(1)
  expect(check.lines.join('\n')).toMatch(/damage: san-a, journal: .*records are lost \(journal-lost\)/)

  const { hosts } = JSON.parse(readFileSync(join(state, 'cluster.json'), 'utf8')) as { hosts: { port: number }[] }
  const squatter = createServer()
  await new Promise<void>(resolve => squatter.listen(hosts[1]?.port, '127.0.0.1', resolve))
  const up = await stellwerk.run('up', '--detach')
  // What has said that it can't start is not waited for.
  expect(Number(/^up after ([\d.]+) s/m.exec(up.lines.join('\n'))?.[1])).toBeLessThan(HOST_MS / 1_000)
  expect([up.code, up.lines.at(-1)]).toEqual([1, expect.stringMatching(/^the cluster runs on \(pid/)])
  const missing = up.lines.filter(line => line.startsWith('missing: '))
  expect(missing).toEqual([
    expect.stringMatching(`^missing: host-b did not start: .* taken by another process .*:${hosts[1]?.port}\\); stop`),
    expect.stringMatching(/^missing: volume csv1 is damaged: the journal ends at owner epoch 0/),
  ])
  const shown = await stellwerk.run('volume', 'show', 'csv1')
  expect(shown.lines.join('\n')).toMatch(/state +damaged.*\nwhy +the journal ends/)
  // By its owner, who can read what it does not open.
  const live = await stellwerk.run('volume', 'check', 'csv1')
  expect([live.code, live.lines.join('\n')]).toEqual([1, expect.stringMatching(/records are lost \(journal-lost\)/)])
  expect(await stellwerk.run('down')).toMatchObject({ code: 0 })
  squatter.close()
})

test('where no host can start, up ends with why the first can not', { timeout: LONG }, async () => {
  const other = new Stellwerk('no-host')
  const first = other.start('up', '--hosts', '1')
  await first.said(/^up after/)
  await interrupt(first)
  const { hosts } = JSON.parse(readFileSync(join(other.state, 'cluster.json'), 'utf8')) as { hosts: { port: number }[] }
  const squatter = createServer()
  await new Promise<void>(resolve => squatter.listen(hosts[0]?.port, '127.0.0.1', resolve))
  const { code, lines } = await other.run('up', '--detach')
  expect([code, lines]).toEqual([1, [expect.stringMatching(`taken by another process .*:${hosts[0]?.port}\\); stop`)]])
  squatter.close()
  await other.remove()
})

test('up gives a running cluster back the process that it has lost', { timeout: LONG }, async () => {
  const other = new Stellwerk('restarted')
  const up = other.start('up', '--hosts', '1')
  await up.said(/^up after/)
  expect((await other.run('up')).lines).toEqual([expect.stringMatching(/a cluster already runs there/)])
  const records = JSON.parse(readFileSync(join(other.state, 'children.json'), 'utf8')) as {
    pid: number
    name: string
  }[]
  process.kill(records.find(({ name }) => name === 'coordinator')?.pid ?? 0, 'SIGKILL')
  await up.said(/process coordinator ended/)
  expect((await other.run('status')).lines.join('\n')).toMatch(/coordinator is away[\s\S]*VM +STATE +HOST/)
  expect(await other.run('up')).toEqual({ code: 0, lines: [expect.stringMatching(/they were started again/)] })
  expect((await other.run('status')).code).toBe(0)
  await interrupt(up)
  await other.remove()
})

test('nothing says that it is up after it was told to end', { timeout: LONG }, async () => {
  const up = stellwerk.start('up')
  await up.said(/^recovering/)
  up.process.kill('SIGINT')
  await up.ended
  expect(up.lines.filter(line => line.startsWith('up after'))).toEqual([])
})
