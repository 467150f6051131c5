// The bench: Stellwerk side by side with its peers, in one run, with ratios. `npm run bench [-- --json] [--only GROUP,…]
// [--quick] [--rounds N] [--seconds S]`. Shows each row as it is measured; `--json` prints { rows: […] } at the end and nothing else on stdout.

import { loadavg } from 'node:os'
import { describeError, errorCode } from '@stellwerk/runtime/errors.ts'
import { bulk } from './bulk.ts'
import { clone } from './clone.ts'
import { diskPath } from './disk-path.ts'
import { guestNetwork } from './guest-network.ts'
import { type BenchOptions, parseBenchOptions } from './lib/bench-options.ts'
import type { BenchContext, Group } from './lib/group.ts'
import { missingPrograms } from './lib/peers.ts'
import { formatRow, type Row } from './lib/rows.ts'
import { migration } from './migration.ts'
import { mirror } from './mirror.ts'
import { owner } from './owner.ts'
import { qemuMigration } from './qemu-migration.ts'
import { redirect } from './redirect.ts'
import { resync } from './resync.ts'
import { simulator } from './simulator.ts'
import { storage } from './storage.ts'
import { trace } from './trace.ts'

const GROUPS: readonly Group[] = [
  ...[
    diskPath,
    redirect,
    mirror,
    resync,
    owner,
    clone,
    storage,
    bulk,
    guestNetwork,
    migration,
    qemuMigration,
    trace,
    simulator,
  ],
]

/** Gives the exit status. */
export async function bench(args: string[]): Promise<number> {
  let options: BenchOptions
  try {
    options = parseBenchOptions(
      args,
      GROUPS.map(({ name }) => name),
    )
  } catch (error) {
    if (errorCode(error) !== 'usage') throw error
    process.stderr.write(`bench: ${describeError(error)}\n`)
    return 2
  }
  const { names, json, quick, rounds, seconds } = options
  const rows: Row[] = []
  const context: BenchContext = {
    quick,
    rounds,
    fio: { runtimeS: seconds, rampS: seconds / 4 },
    report(row) {
      rows.push(row)
      clearProgress()
      if (!json) process.stdout.write(`${formatRow(row)}\n`)
    },
    progress(text) {
      if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
    },
  }
  process.stderr.write(
    `load average at the start: ${loadavg()
      .map(load => load.toFixed(1))
      .join(' ')}\n`,
  )
  for (const group of GROUPS) if (names.includes(group.name)) await group.run(context)
  clearProgress()
  for (const line of missingPrograms()) process.stderr.write(`${line}\n`)
  process.stderr.write(
    `load average at the end: ${loadavg()
      .map(load => load.toFixed(1))
      .join(' ')}\n`,
  )
  if (json) process.stdout.write(`${JSON.stringify({ rows }, null, 1)}\n`)
  return 0
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
}

if (import.meta.main) process.exitCode = await bench(process.argv.slice(2))
