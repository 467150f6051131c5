// `stellwerk demo --guest` with real machines: the same acts and the same figures as with embedded guests.

import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { qemu, tinyImageFile } from './tiny-image.ts'

const MAIN = fileURLToPath(new URL('../../packages/cli/src/main.ts', import.meta.url))
const LONG = 900_000
const run = promisify(execFile)

let temporary = ''
beforeAll(() => {
  temporary = mkdtempSync(join(tmpdir(), 'stellwerk-demo-of-real-machines-in-a-directory-of-its-own-'))
})
afterAll(() => rmSync(temporary, { recursive: true, force: true }))

it.skipIf(qemu.missing)(
  `demo --guest with ${qemu.note}: Linux moves live and comes back, nothing lost`,
  {
    timeout: LONG,
  },
  async () => {
    const env = createEnvironment({ name: 'test', directory: join(temporary, 'env'), store: memoryStore() })
    const image = await tinyImageFile(env.processes)
    await env.close()
    rmSync(join(temporary, 'env'), { recursive: true, force: true })
    const { stdout, stderr } = await run(process.execPath, [MAIN, 'demo', '--json', '--guest', image], {
      env: { ...process.env, TMPDIR: temporary },
    })
    expect(stderr).toBe('')
    const report = JSON.parse(stdout)
    expect(report.migrations).toHaveLength(3)
    for (const { downtimeMs, rounds, bytesSent } of report.migrations) {
      expect(Math.min(downtimeMs, rounds, bytesSent)).toBeGreaterThan(0)
    }
    expect(report.failovers[0]).toMatchObject({ vm: 'ledger-1', attested: true })
    expect(report.failovers[1]).toMatchObject({ vm: 'ledger-1', attested: false })
    for (const { entries, lost, duplicated } of report.ledgers) {
      expect({ lost, duplicated }).toEqual({ lost: 0, duplicated: 0 })
      expect(entries).toBeGreaterThan(0)
    }
    expect(report.violations).toEqual([])
    expect(Object.values(report.judged)).not.toContain(0)
    expect(readdirSync(temporary)).toEqual([])
  },
)
