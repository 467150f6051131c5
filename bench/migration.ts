// Live migration of a 256 MiB `ledger` guest, by how fast it dirties memory: pre-copy over a bulk link between two
// processes. Downtime is from the source's pause to the target's run; what a coordinator's commit takes is not in it, nor is
// a disk's drain. Bytes sent stand beside the size of the memory.

import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Incoming } from '@stellwerk/agent/hypervisor/hypervisor.ts'
import { WasmHypervisor } from '@stellwerk/agent/hypervisor/wasm/hypervisor.ts'
import { BulkStreams } from '@stellwerk/agent/migration/streams.ts'
import type { ByteStream, TraceLevel } from '@stellwerk/runtime/environment.ts'
import type { NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { type BenchContext, type Group, withServers } from './lib/group.ts'
import { median, row } from './lib/rows.ts'
import { benchIdentity, serverEnvironment } from './servers/config.ts'
import {
  ledgerSpec,
  MEMORY_BYTES,
  MIGRATED_VM,
  type MigrationSourceConfig,
  machineNow,
  migrationId,
  RESUME,
  type SourceTold,
} from './servers/migration-shapes.ts'

const MIB = 1024 * 1024
const DIRTY_MIB_PER_SECOND = [0, 16, 64, 128]
/** Until a guest has written all of its memory once, or this long. */
const WARM_UP_MAX_MS = 17_000
const WARM_UP_QUICK_MS = 2_500

interface Migrated {
  readonly totalMs: number
  readonly downtimeMs: number
  readonly bytes: number
}

export const migration: Group = {
  name: 'migration',
  about: 'live migration of a 256 MiB guest at several dirty rates',
  async run(context) {
    for (const rate of DIRTY_MIB_PER_SECOND) {
      const { totalMs, downtimeMs, bytes } = await measureMigrations(context, rate)
      const name = `migration, 256 MiB, ${rate} MiB/s dirtied`
      context.report(row(`${name}, total`, totalMs, 'ms', null, null))
      context.report(row(`${name}, downtime`, downtimeMs, 'ms', null, null))
      context.report(row(`${name}, sent`, bytes / MIB, 'MiB', MEMORY_BYTES / MIB, 'the memory'))
    }
  },
}

/** Medians. `trace`: what both sides record; absent: nothing. */
export function measureMigrations(context: BenchContext, rate: number, trace?: TraceLevel): Promise<Migrated> {
  return withServers(async (servers, directory) => {
    const readyFile = join(directory, 'source.json')
    const whole = rate === 0 ? 1_000 : (MEMORY_BYTES / MIB / rate) * 1_100
    const recording = trace === undefined ? {} : { trace }
    const config: MigrationSourceConfig = {
      directory,
      readyFile,
      dirtyMiBPerSecond: rate,
      warmUpMs: Math.min(whole, context.quick ? WARM_UP_QUICK_MS : WARM_UP_MAX_MS),
      ...recording,
    }
    context.progress(`migration: warming a guest up that dirties ${rate} MiB/s`)
    const source = await servers.serve('migration-source.ts', config, readyFile)
    const { port } = JSON.parse(readFileSync(readyFile, 'utf8')) as { port: number }
    const env = serverEnvironment('target', directory, recording)
    try {
      return await measureRate(context, env, source, port, rate)
    } finally {
      await env.close()
    }
  })
}

async function measureRate(
  context: BenchContext,
  env: NodeEnvironment,
  source: ChildProcess,
  port: number,
  rate: number,
): Promise<Migrated> {
  const migrations: Migrated[] = []
  for (let n = 1; n <= context.rounds; n += 1) {
    context.progress(`migration: ${rate} MiB/s dirtied, ${n} of ${context.rounds}`)
    migrations.push(await migrate(env, port, n, rate))
    // The target is gone: the source may run on.
    source.stdin?.write(RESUME)
  }
  const of = (pick: (migrated: Migrated) => number): number => median(migrations.map(pick))
  return { totalMs: of(m => m.totalMs), downtimeMs: of(m => m.downtimeMs), bytes: of(m => m.bytes) }
}

async function migrate(env: NodeEnvironment, port: number, n: number, rate: number): Promise<Migrated> {
  const hypervisor = new WasmHypervisor({
    env,
    mayExecute: () => true,
    until: () => Number.POSITIVE_INFINITY,
    evidence: () => undefined,
  })
  const incoming: Incoming = await hypervisor.receive(ledgerSpec(rate), [], [])
  const address = { network: 'cluster', host: '127.0.0.1', port } as const
  const stream = await opened(new BulkStreams(env, benchIdentity('target')), migrationId(n), address)
  let bytes = 0
  const counted: ByteStream = {
    ...stream,
    onData: f =>
      stream.onData(chunk => {
        bytes += chunk.length
        f(chunk)
      }),
  }
  const { trailer } = await incoming.load(counted)
  const machine = await incoming.run({ migration: migrationId(n), vm: MIGRATED_VM, placementEpoch: n })
  const runsAt = machineNow()
  const { startedAt, pausedAt } = trailer as unknown as SourceTold
  await machine.kill()
  return { totalMs: runsAt - startedAt, downtimeMs: runsAt - pausedAt, bytes }
}

/** The source expects the next migration only when it is over with the last one. */
async function opened(
  streams: BulkStreams,
  id: string,
  address: Parameters<BulkStreams['open']>[1],
): Promise<ByteStream> {
  for (;;) {
    try {
      return await streams.open(id, address)
    } catch (error) {
      if ((error as { code?: string }).code !== 'unknown-migration') throw error
    }
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
