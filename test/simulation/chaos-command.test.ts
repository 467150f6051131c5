// `stellwerk chaos` as it is typed: exit statuses, what it prints for programs, its files, and one line for each mistake.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommandLine } from 'stellwerk/command-line/run.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { TIMEOUT } from './support.ts'

/** As small as it gets: one guest that moves between two hosts, and one clock that jumps. */
const SMALL = `name: small
summary: One guest moves, one clock jumps.
cluster: { hosts: 2, storages: 1 }
workload: { vms: 1, migrateEvery: 1s }
duration: 4s
converge: 2s
random: { from: 1s, meanGap: 2s, kinds: { clock-jump: { for: 300ms } } }
hold: { objectives: { migrations: 2, outage: 1s } }
`
let directory = ''

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'chaos-'))
  writeFileSync(join(directory, 'small.yaml'), SMALL)
})
afterAll(() => rmSync(directory, { recursive: true }))

async function stellwerk(...argv: readonly string[]): Promise<{ status: number; out: string; err: string }> {
  let out = ''
  let err = ''
  const terminal = {
    ...{ cwd: directory, variables: {}, isTty: false, columns: 120 },
    out: (line: string) => {
      out += `${line}\n`
    },
    write: (text: string) => {
      out += text
    },
    err: (line: string) => {
      err += `${line}\n`
    },
  }
  const status = await runCommandLine(['chaos', ...argv], terminal)
  return { status, out, err }
}

test('a plan that holds: exit status 0, JSON on stdout, progress on stderr, all its reports', TIMEOUT, async () => {
  const { status, out, err } = await stellwerk('run', 'small.yaml', '--seed', '3', '--json', '--report', 'out')
  expect([status, err.includes('clock-jump host-')]).toEqual([0, true])
  const result = JSON.parse(out)
  expect(result).toMatchObject({ verdict: 'pass', seed: '3', violations: [], findings: [], lack: null })
  expect(result.faults['clock-jump']).toBeGreaterThan(0)
  expect(result.objectives).toMatchObject([
    { name: 'migrations', limit: 2, ok: true },
    { name: 'outage', limit: 1_000, ok: true },
  ])
  expect(readdirSync(join(directory, 'out')).sort()).toEqual(['junit.xml', 'report.html', 'report.md', 'result.json'])
  expect(JSON.parse(readFileSync(join(directory, 'out/result.json'), 'utf8'))).toEqual(result)
})

test('a planted bug: exit status 1, the rule is named, and a smaller plan fails by it, too', TIMEOUT, async () => {
  const canary = ['--canary', 'run-before-commit']
  const { status, out } = await stellwerk('run', 'small.yaml', '--seed', '3', ...canary)
  expect(status).toBe(1)
  expect(out).toMatch(/MIG1: vm-1: runs at the target/)
  const again = /stellwerk chaos (run \S*small-3-shrunk\.yaml --on sim --seed 3 --canary run-before-commit)/.exec(out)
  const second = await stellwerk(...(again?.[1] ?? '').split(' '), '--json')
  expect(second.status).toBe(1)
  expect(JSON.parse(second.out).violations[0].rule).toBe('MIG1')
})

test('many seeds come to one verdict', TIMEOUT, async () => {
  const { status, out } = await stellwerk(
    'run',
    'small.yaml',
    '--seeds',
    '2',
    '--first',
    '5',
    '--json',
    '--report',
    'many',
  )
  expect(status).toBe(0)
  expect(JSON.parse(out)).toMatchObject({ verdict: 'pass', seeds: 2, failed: [] })
  expect(readFileSync(join(directory, 'many/junit.xml'), 'utf8')).toContain('name="seed 6"/>')
})

test('what a plan would do is shown, and nothing is started', async () => {
  const shown = await stellwerk('show', 'rolling-kill', '--seed', '1')
  expect(shown.status).toBe(0)
  expect(shown.out).toMatch(/27\.0 s {2}#4 {2}host-kill host-a for 6s/)
  expect((await stellwerk('check', 'everything')).out).toMatch(/^everything is sound: \d+ faults with seed \d+/)
  expect((await stellwerk('list')).out.split('\n').filter(line => line.includes('1min'))).toHaveLength(6)
})

describe('a mistake is one line that says what, where and what to do, and nothing is run', () => {
  const cases: readonly (readonly [words: readonly string[], status: number, said: string])[] = [
    [['run', 'no-such'], 1, 'there is no plan called "no-such" (PLAN); say cable-monkey,'],
    [['run', 'no/such.yaml'], 1, 'there is no such plan (no/such.yaml)'],
    [['run', 'small.yaml', '--on', 'moon'], 1, 'plans don’t run on "moon" (--on); say sim'],
    [['run', 'small.yaml', '--canary', 'tweety'], 1, 'there is no canary "tweety" (--canary)'],
    [['run', 'small.yaml', '--duration', '5'], 1, '"5" is no duration from 1s to 1h (--duration)'],
    [['run', 'small.yaml', '--seed', 'a b'], 2, '"a b" is no seed'],
    [['run', 'small.yaml', '--seed', '1', '--seeds', '2'], 2, '--seed names one seed'],
    [['run', 'small.yaml', '--jobs', '2'], 2, '--jobs is for --seeds'],
    [['run'], 2, 'PLAN is missing'],
    [['check', 'bad.yaml'], 1, 'unknown fault "cable-pul" (bad.yaml:4:33)'],
    [['check', 'guest.yaml'], 1, 'loss: a plan’s guests have no network there (guest.yaml:4:10)'],
    [['check', 'rules.yaml'], 1, 'rule NET1 can’t be judged on sim (rules.yaml:5:17)'],
  ]
  const head = 'name: p\nsummary: s\nduration: 9s\n'
  beforeAll(() => {
    writeFileSync(join(directory, 'bad.yaml'), `${head}random: { meanGap: 1s, kinds: { cable-pul: 1 } }\n`)
    writeFileSync(join(directory, 'guest.yaml'), `${head}faults: [{ at: 1s, kind: loss, network: guest }]\n`)
    writeFileSync(
      join(directory, 'rules.yaml'),
      `${head}faults: [{ at: 1s, kind: agent-kill }]\nhold: { rules: [NET1] }\n`,
    )
  })
  for (const [words, status, said] of cases) {
    test(words.join(' '), async () => {
      const result = await stellwerk(...words)
      expect(result.err).toContain(said)
      expect(result.err.trim().split('\n')).toHaveLength(1)
      expect(result).toMatchObject({ status, out: '' })
    })
  }
})
