// `stellwerk chaos` as it is typed, where nothing is started: a run that is refused leaves no pass behind, and a plan that can't be
// done is said so with its place.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FAILED, OK } from '../command-line/command.ts'
import { typed } from '../command-line/testing/typed.ts'

const DOCKER_HOST = process.env['DOCKER_HOST']
let root = ''
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-chaos-words-'))
  // Whatever this machine has: here no engine answers.
  process.env['DOCKER_HOST'] = 'unix:///nowhere/docker.sock'
})
afterEach(() => {
  if (DOCKER_HOST === undefined) delete process.env['DOCKER_HOST']
  else process.env['DOCKER_HOST'] = DOCKER_HOST
  rmSync(root, { recursive: true, force: true })
})

const run = (...words: readonly string[]) => typed(['chaos', ...words], root)

function plan(faults: string, more = ''): string {
  writeFileSync(join(root, 'p.yaml'), `name: p\nsummary: s\nduration: 5s\nfaults:\n  - ${faults}\n${more}`)
  return './p.yaml'
}
const KILL = '{ at: 1s, kind: host-kill, host: host-a, for: 1s }'

describe('a run that is refused leaves word of that, and nothing of an earlier one that passed', () => {
  const NAMES = ['report.md', 'report.html', 'junit.xml', 'result.json']
  const cases: readonly (readonly [string, () => readonly string[], RegExp])[] = [
    ['no engine', () => [plan(KILL), '--on', 'compose'], /docker|container engine/],
    ['an unknown host', () => [plan(KILL.replace('host-a', 'host-z'))], /host-z/],
    ['a fault that containers can’t do', () => [plan('{ at: 1s, kind: clock-jump }'), '--on', 'compose'], /p\.yaml:5:/],
    ['a rule that can’t be judged', () => [plan(KILL, 'hold: { rules: [RIO1] }'), '--on', 'local'], /RIO1/],
    ['no such plan', () => ['nowhere'], /no plan called/],
    ['an unknown target', () => [plan(KILL), '--on', 'moon'], /moon/],
    ['many seeds of it', () => [plan(KILL.replace('host-a', 'host-z')), '--seeds', '2'], /host-z/],
  ]
  test.for(cases)('%s', async ([, words, why]) => {
    mkdirSync(join(root, 'out'))
    for (const name of NAMES) writeFileSync(join(root, 'out', name), 'PASS')
    const { code, err, out } = await run('run', ...words(), '--report', 'out', '--json')
    expect(code).toBe(FAILED)
    expect(err.at(-1)).toMatch(why)
    for (const name of NAMES.slice(0, 2)) expect(existsSync(join(root, 'out', name))).toBe(false)
    expect(readFileSync(join(root, 'out', 'junit.xml'), 'utf8')).toMatch(/tests="1" failures="1"/)
    const result = JSON.parse(readFileSync(join(root, 'out', 'result.json'), 'utf8'))
    expect(result).toMatchObject({ verdict: 'fail', findings: [expect.stringMatching(why)] })
    expect(out.map(line => JSON.parse(line))).toEqual([result])
  })
})

test.for([
  ['no cluster, nor anything that runs have left', []],
  ['no cluster, but the directory of a run that left nothing broken', ['stellwerk-chaos-left']],
] as const)('heal where there is %s finds nothing broken', async ([, left]) => {
  for (const name of left) mkdirSync(join(root, name))
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = root
  try {
    expect(await run('heal')).toEqual({ code: OK, out: ['nothing is broken'], err: [] })
    // Who names a cluster is told that there is none.
    expect((await run('heal', '--dir', 'nowhere')).code).toBe(FAILED)
  } finally {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
  }
})

describe('without an engine', () => {
  test('a fault that containers can’t do is refused at its line and column', async () => {
    const { code, err } = await run('check', plan('{ at: 1s, kind: clock-jump }'), '--on', 'compose')
    expect([code, err]).toEqual([FAILED, [expect.stringMatching(/clock-jump can't be done to containers.*p\.yaml:5:/)]])
  })

  test('a plan that needs nothing of this machine is sound', async () => {
    const { code, out } = await run('check', plan(KILL), '--on', 'compose')
    expect([code, out]).toEqual([OK, [expect.stringMatching(/^p is sound: .* on compose$/)]])
  })
})

test('the list says on what each plan can be run', async () => {
  const { out } = await run('list', '--json')
  const on = new Map(JSON.parse(out[0] ?? '[]').map((each: { name: string; on: string[] }) => [each.name, each.on]))
  expect(on.get('rolling-kill')).toEqual(['sim', 'local', 'compose'])
  expect(on.get('split-brain')).toEqual(['sim', 'local'])
  const { out: lines } = await run('list')
  expect(lines).toContainEqual(expect.stringMatching(/^coordinator-storm +1min +sim, local, compose +The coordinator/))
})

test('a rule that can’t be judged there is refused at its line and column', async () => {
  const { code, err } = await run('check', plan(KILL, 'hold:\n  rules: [VM1, RIO1]\n'), '--on', 'local')
  expect([code, err]).toEqual([
    FAILED,
    [expect.stringMatching(/rule RIO1 can’t be judged on local \(\.\/p\.yaml:7:16\)/)],
  ])
})

test('heal finds nothing broken where there is no cluster, and says so where it can’t look', async () => {
  const { TMPDIR } = process.env
  process.env['TMPDIR'] = root
  try {
    expect(await run('heal')).toMatchObject({ code: OK, out: [expect.stringMatching(/nothing is broken/)] })
    writeFileSync(join(root, '.stellwerk'), 'a file')
    const { code, out, err } = await run('heal')
    expect([code, [...out, ...err].join('\n')]).toEqual([FAILED, expect.stringMatching(/not a directory/)])
  } finally {
    if (TMPDIR === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = TMPDIR
  }
})
