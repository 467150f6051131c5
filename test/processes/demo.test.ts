// `stellwerk demo` as a user runs it: real processes, real kills, its own verdict; and what it leaves when it is interrupted.

import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'

const MAIN = fileURLToPath(new URL('../../packages/cli/src/main.ts', import.meta.url))
const DEMO_MS = 240_000

let temporary = ''
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), 'stellwerk-demo-test-'))
})
afterEach(() => {
  rmSync(temporary, { recursive: true, force: true })
})

interface Run {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

const stellwerk = (...args: readonly string[]): Promise<Run> => run(args, () => undefined)

const demo = (args: readonly string[], onOutput: (out: string, pid: number) => void = () => undefined): Promise<Run> =>
  run(['demo', ...args], onOutput)

/** Its scratch directory lies in ours, where nobody else's does. */
function run(args: readonly string[], onOutput: (out: string, pid: number) => void): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, TMPDIR: temporary } })
    let out = ''
    let err = ''
    child.stdout.on('data', chunk => {
      out += chunk
      onOutput(out, child.pid ?? 0)
    })
    child.stderr.on('data', chunk => {
      err += chunk
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code, out, err }))
  })
}

/** Command lines of processes that have our directory open or as their own. */
function processesThere(): string[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      try {
        const files = readdirSync(`/proc/${pid}/fd`).length
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
        const ours = environment.split('\0').includes(`TMPDIR=${temporary}`)
        return ours && files > 0 ? [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')] : []
      } catch (error) {
        // It ended while it was looked at, or is somebody else's.
        if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
        throw error
      }
    })
}

const positive = expect.toSatisfy((value: unknown) => typeof value === 'number' && value > 0, 'is above zero')
const notNegative = expect.toSatisfy((value: unknown) => typeof value === 'number' && value >= 0, 'is not below zero')

test(
  'demo --json: moved three times, an agent and a host lost, nothing lost or doubled, no rule broken, nothing left',
  async () => {
    const { code, out, err } = await demo(['--json'])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    const report = JSON.parse(out)

    expect(report.migrations).toHaveLength(3)
    for (const migration of report.migrations) {
      const { totalMs, downtimeMs, rounds, pagesSent, bytesSent } = migration
      expect({ totalMs, downtimeMs, rounds, pagesSent, bytesSent }).toEqual({
        totalMs: positive,
        downtimeMs: positive,
        rounds: positive,
        pagesSent: positive,
        bytesSent: positive,
      })
      expect(migration.attempts).toEqual(positive)
      expect(migration.vm).toBe('ledger-1')
      expect(migration.from).not.toBe(migration.to)
    }

    const [first, ...others] = report.failovers
    expect(first).toMatchObject({ vm: 'ledger-1', attested: true })
    expect(others.length).toBeGreaterThan(0)
    expect(others[0]).toMatchObject({ vm: 'ledger-1', attested: false })
    for (const failover of report.failovers) {
      const { detectMs, fenceMs, waitMs, placeMs, startMs, totalMs } = failover
      for (const phase of [detectMs, fenceMs, waitMs, placeMs, startMs]) expect(phase).toEqual(notNegative)
      expect(detectMs + fenceMs + waitMs + placeMs + startMs).toBeCloseTo(totalMs, 3)
      // What nobody attests is waited out: from the last lease, at most a beat before the kill.
      if (!failover.attested) expect(totalMs).toBeGreaterThan(report.leaseMs - 1_000)
    }

    expect(report.ledgers.map((ledger: { vm: string }) => ledger.vm)).toEqual(['ledger-1', 'ledger-2', 'ledger-3'])
    for (const { entries, heard, lost, duplicated } of report.ledgers) {
      expect({ entries, heard, lost, duplicated }).toEqual({
        entries: positive,
        heard: positive,
        lost: 0,
        duplicated: 0,
      })
    }
    expect(report.violations).toEqual([])
    expect(Object.values(report.judged)).not.toContain(0)

    expect(processesThere()).toEqual([])
    expect(readdirSync(temporary)).toEqual([])
  },
  DEMO_MS,
)

test(
  'interrupted in the middle it ends its cluster in order, fails, and says where its traces are',
  async () => {
    let told = false
    const { code, out, err } = await demo([], (heard, pid) => {
      if (told || !heard.includes('It is up')) return
      told = true
      process.kill(pid, 'SIGINT')
    })
    expect(code).toBe(1)
    expect(out).not.toMatch(/It held/)
    expect(err).toMatch(/interrupted/)
    const [kept = ''] = readdirSync(temporary)
    expect(err).toContain(join(temporary, kept))
    // What it left can be judged, and its coordinator's core decides the same again.
    const from = ['--from', join(temporary, kept), '--json']
    const checked = await stellwerk('trace', 'check', ...from)
    const { violations, rules } = JSON.parse(checked.out)
    expect({ code: checked.code, err: checked.err, violations }).toEqual({ code: 0, err: '', violations: [] })
    const judged = rules.filter((each: { verdict: string }) => each.verdict === 'kept')
    expect(judged.map((each: { rule: string }) => each.rule)).toEqual(expect.arrayContaining(['CSV1', 'CSV3', 'IO3']))
    const replayed = await stellwerk('trace', 'replay', ...from)
    expect(replayed).toMatchObject({ code: 0, err: '' })
    expect(JSON.parse(replayed.out)).toMatchObject({ difference: null, counts: { inputs: positive, skipped: 0 } })
    expect(processesThere()).toEqual([])
  },
  DEMO_MS,
)
