// A million records of six processes, filtered by the command as it is typed: in at most 3 s of processor time and 300 MiB; what
// must read them all, message by message, may take more.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeLongTrace } from './testing/million.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
const RECORDS = 1_000_000
const FEW = { ms: 3_000, bytes: 300 * 2 ** 20 }
/** Reading alone takes two thirds of it. */
const ALL = { ms: 12_000, bytes: 600 * 2 ** 20 }

/** Tells at its end what it has cost. */
const METER = `process.on('exit', () => {
  const { user, system } = process.cpuUsage()
  const rssBytes = process.resourceUsage().maxRSS * 1024
  process.stderr.write(JSON.stringify({ cpuMs: (user + system) / 1000, rssBytes }) + '\\n')
})`

let root = ''
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'stellwerk-million-'))
  writeLongTrace(join(root, 'long'), RECORDS)
  writeFileSync(join(root, 'meter.mjs'), METER)
}, 120_000)
afterAll(() => rmSync(root, { recursive: true, force: true }))

function metered(...words: readonly string[]) {
  const args = ['--import', join(root, 'meter.mjs'), MAIN, 'trace', ...words, '--from', join(root, 'long')]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 2 ** 30 })
  const cost = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as { cpuMs: number; rssBytes: number }
  return { status, lines: stdout.split('\n').length - 1, ...cost }
}

test.each([
  [['show', '--vm', 'vm-3'], 99, FEW],
  [['show', '--kind', 'vm.run', '--last', '1000000'], 10_002, FEW],
  [['show', '--host', 'host-a', '--level', 'message', '--since', '1m'], 1_000, FEW],
  [['list'], 7, FEW],
  // Beats that nobody answers, a third of all.
  [['stats'], 3, ALL],
] as const)(
  'trace %j',
  (words, atLeast, most) => {
    // The machine may be at something else: the best of three counts.
    const ran = [1, 2, 3].map(() => metered(...words))
    for (const { status, lines, rssBytes } of ran) {
      expect(status).toBe(0)
      expect(lines).toBeGreaterThanOrEqual(atLeast)
      expect(rssBytes).toBeLessThan(most.bytes)
    }
    expect(Math.min(...ran.map(({ cpuMs }) => cpuMs))).toBeLessThan(most.ms)
  },
  120_000,
)
