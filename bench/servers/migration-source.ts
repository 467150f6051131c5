// The source of live migrations as a process of its own: a ledger guest that dirties memory at a set rate, sent to whoever
// opens the expected migration over a bulk link. After each the source runs on, as after an abort, so that the next finds
// the guest as busy as this one.

import { renameSync, writeFileSync } from 'node:fs'
import type { Outgoing } from '@stellwerk/agent/hypervisor/hypervisor.ts'
import { WasmHypervisor } from '@stellwerk/agent/hypervisor/wasm/hypervisor.ts'
import { relay } from '@stellwerk/agent/migration/byte-relay.ts'
import { BulkStreams } from '@stellwerk/agent/migration/streams.ts'
import { listenSessions } from '@stellwerk/protocol/session-handshake.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'
import {
  ledgerSpec,
  type MigrationSourceConfig,
  machineNow,
  migrationId,
  RESUME,
  type SourceTold,
} from './migration-shapes.ts'

const MAX_ROUNDS = 30

const options = config<MigrationSourceConfig>()
const env = serverEnvironment('source', options.directory, options)
const identity = benchIdentity('source')
const streams = new BulkStreams(env, identity)
const hypervisor = new WasmHypervisor({
  env,
  mayExecute: () => true,
  until: () => Number.POSITIVE_INFINITY,
  evidence: () => undefined,
})
const machine = await hypervisor.create(ledgerSpec(options.dirtyMiBPerSecond), [], [])
machine.onEvent(event => {
  if (event.kind === 'crashed' || event.kind === 'halted') fail(`the guest ${event.kind}: ${event.reason}`)
})
machine.start()
await new Promise<void>(resolve => env.timers.after(options.warmUpMs, resolve))
const listener = await listenSessions(
  env,
  { network: 'cluster', host: '127.0.0.1', port: 0 },
  identity,
  () => ({ ok: true }),
  session => streams.accept(session),
)
let current: Outgoing | null = null
expectMigration(1)
writeFileSync(`${options.readyFile}.part`, JSON.stringify({ port: listener.address.port }))
renameSync(`${options.readyFile}.part`, options.readyFile)
process.stdin.on('data', chunk => {
  if (chunk.toString() === RESUME) current?.abort().catch((error: unknown) => fail(String(error)))
})
endWithParent()

function expectMigration(n: number): void {
  streams.expect(migrationId(n), stream => {
    const startedAt = machineNow()
    const outgoing = machine.send({
      downtimeMs: PROFILES.lab.downtimeMs,
      maxRounds: MAX_ROUNDS,
      whenDiverging: 'pause',
    })
    current = outgoing
    relay(outgoing.stream, stream)
    migrate(outgoing, startedAt).then(
      () => expectMigration(n + 1),
      (error: unknown) => fail(String(error)),
    )
  })
}

async function migrate(outgoing: Outgoing, startedAt: number): Promise<void> {
  let rounds = 1
  outgoing.onProgress(() => {
    rounds += 1
  })
  await outgoing.converged
  const pausedAt = machineNow()
  const told = (): SourceTold => ({ startedAt, pausedAt, rounds })
  await outgoing.release(async () => ({ ...told() }))
}

function fail(why: string): never {
  process.stderr.write(`bench: the migration's source failed: ${why}\n`)
  process.exit(1)
}
