// The demo's acts, one after the other on the same cluster: guests that work, moved live, their agent killed, a whole host
// killed, everything brought back, every ledger read back by its guest.

import { join } from 'node:path'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import {
  isStillRunning,
  killRecorded,
  type RecordedProcess,
  readPidRecord,
} from '@stellwerk/runtime/node/pid-record.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { demandAll, untilHostsUp, VOLUME } from '../cluster/first-use.ts'
import type { LedgerGuest } from '../images/ledger-guest.ts'
import { type FailoverFigures, failoverFigures, type MigrationFigures, migrationFigures } from './figures.ts'
import { MIGRATIONS } from './report.ts'
import { recordsSince, STATUS_POLL_MS, type Stage, until, untilStatus } from './stage.ts'

const DISK_BYTES = 64 * MIB

// What a machine that has much else to do may take. An idle one needs a tenth.
/** Until hosts answer the observer. */
const ANSWERS_MS = 60_000
const MIGRATION_MS = 120_000
/** A guest works undisturbed for this long before something is done to it. */
const WORKS_MS = 1_000
/** A cluster that is short of time may refuse or abort a migration, and its guest runs on: it is asked for again. */
const ATTEMPTS_MAX = 5
const AGAIN: ReadonlySet<string> = new Set([
  'migration-aborted',
  'busy',
  'volume-busy',
  'host-unfit',
  'source-away',
  'not-running',
])

export async function startGuests(stage: Stage, ledger: LedgerGuest): Promise<void> {
  const { cluster, observer, vms, cast } = stage
  const hosts = cluster.file.hosts.map(({ name }) => name)
  observer.follow(
    cluster.file.hosts.map(({ name, port }) => ({
      name,
      control: { network: 'cluster', host: cluster.file.address, port },
    })),
  )
  await until(stage, 'the observer follows every host', ANSWERS_MS, () => observer.answered.size === hosts.length)
  for (const [i, name] of vms.entries()) {
    await cluster.api.post('/v1/vms', {
      name,
      ...ledger,
      ...(i === 0 ? cast.heavy : cast.light),
      disks: [{ volume: VOLUME, sizeBytes: DISK_BYTES }],
      host: hosts[i % hosts.length] ?? null,
    })
  }
  await untilAllAcknowledge(stage, cluster.env.clock.now())
  await cluster.sleep(WORKS_MS)
}

async function untilAllAcknowledge(stage: Stage, since: number): Promise<void> {
  const silent = () => stage.vms.filter(vm => (stage.observer.ledger(vm).last?.at ?? -1) <= since)
  await until(stage, 'every guest acknowledges entries', stage.cast.startsMs, () => silent().length === 0)
}

/** Once around the hosts. */
export async function migrateThrice(
  stage: Stage,
  vm: string,
  told: (figures: MigrationFigures) => void,
): Promise<MigrationFigures[]> {
  const all: MigrationFigures[] = []
  for (let i = 0; i < MIGRATIONS; i++) {
    const figures = await migrate(stage, vm)
    told(figures)
    all.push(figures)
    await stage.cluster.sleep(WORKS_MS)
  }
  return all
}

async function migrate(stage: Stage, vm: string): Promise<MigrationFigures> {
  for (let attempt = 1; ; attempt++) {
    try {
      return { ...(await attemptMigration(stage, vm)), attempts: attempt }
    } catch (error) {
      if (!(error instanceof StellwerkError) || !AGAIN.has(error.code) || attempt === ATTEMPTS_MAX) throw error
      stage.say(`  not yet: ${error.message}`)
      await stage.cluster.sleep(WORKS_MS)
    }
  }
}

async function attemptMigration(stage: Stage, vm: string): Promise<Omit<MigrationFigures, 'attempts'>> {
  const { cluster, observer } = stage
  const { clock } = cluster.env
  const hosts = cluster.file.hosts.map(({ name }) => name)
  const ledger = observer.ledger(vm)
  const source = ledger.last?.host ?? ''
  const to = hosts[(hosts.indexOf(source) + 1) % hosts.length]
  const requestedAt = clock.now()
  const { migration } = (await cluster.api.post(`/v1/vms/${vm}/migrate`, { to })) as { migration: string }
  const end = requestedAt + MIGRATION_MS
  for (;;) {
    const { phase, reason, statistics } = await cluster.api.migration(migration)
    if (phase === 'aborted') throw new StellwerkError('migration-aborted', `the migration was aborted: ${reason}`)
    const handover = ledger.handovers.find(moved => moved.to.at > requestedAt && moved.to.host === to)
    if (phase === 'done' && handover !== undefined) {
      const kinds = ['vm.*', 'machine.*', 'migration.*']
      const records = await recordsSince(stage, requestedAt, { vm, kinds })
      return migrationFigures(vm, requestedAt, handover, statistics, records)
    }
    if (clock.now() > end) throw new StellwerkError('demo-stuck', `the migration is still ${phase}`)
    await cluster.sleep(STATUS_POLL_MS)
  }
}

/** Kills the agent that runs the VM; its guardian, which lives on, attests it. */
export async function killAgentOf(stage: Stage, vm: string): Promise<{ host: string; failovers: FailoverFigures[] }> {
  const host = stage.observer.ledger(vm).last?.host ?? ''
  const failovers = await loseHost(stage, host, agent => {
    if (!killRecorded(agent)) throw new StellwerkError('no-agent', `the agent of ${host} does not run`)
  })
  return { host, failovers }
}

/** Kills guardian and agent of the host that runs the VM: nothing is left there that could attest anything. */
export async function killHostOf(stage: Stage, vm: string): Promise<{ host: string; failovers: FailoverFigures[] }> {
  const host = stage.observer.ledger(vm).last?.host ?? ''
  const guardian = stage.cluster.processes.find(({ name }) => name === `${host}/guardian`)
  const failovers = await loseHost(stage, host, agent => {
    guardian?.kill()
    killRecorded(agent)
  })
  return { host, failovers }
}

async function loseHost(
  stage: Stage,
  host: string,
  kill: (agent: RecordedProcess) => void,
): Promise<FailoverFigures[]> {
  const { cluster, observer } = stage
  const { vms } = await cluster.api.status()
  const lost = stage.vms.filter(vm => vms[vm]?.host === host)
  const agent = agentOf(stage, host)
  const killedAt = cluster.env.clock.now()
  kill(agent)
  const heard = (vm: string) =>
    observer.ledger(vm).handovers.find(({ from, to }) => from.host === host && to.at > killedAt)?.to
  await until(stage, `${lost.join(', ')} run elsewhere`, stage.cast.startsMs, () =>
    lost.every(vm => heard(vm) !== undefined),
  )
  const kinds = ['decision.*', 'failover.*']
  const records = await recordsSince(stage, killedAt, { kinds })
  return lost.flatMap(vm => {
    const first = heard(vm)
    return first === undefined ? [] : [failoverFigures(host, vm, killedAt, first, records)]
  })
}

function agentOf(stage: Stage, host: string): RecordedProcess {
  const agent = agentsOf(stage, host)[0]
  if (agent !== undefined) return agent
  throw new StellwerkError('no-agent', `the agent of ${host} is not on record`, { where: host })
}

/** As their guardian keeps them on record, for its successor to end what outlived it. */
export function agentsOf(stage: Stage, host: string): readonly RecordedProcess[] {
  return readPidRecord(join(stage.directory, host, 'guardian', 'children.json')).filter(isStillRunning)
}

/** Everything that is down comes back, and is admitted; then every guest is watched making progress. */
export async function bringBack(stage: Stage, hosts: readonly string[]): Promise<number> {
  const { cluster, observer, cast } = stage
  const since = cluster.env.clock.now()
  for (const host of hosts) await cluster.startHost(host)
  demandAll(await untilHostsUp(cluster))
  const tookMs = cluster.env.clock.now() - since
  observer.faultsEnded(cast.livelyMs, stage.vms)
  await cluster.sleep(cast.livelyMs * 1.1)
  return tookMs
}

/** Stops every guest and starts it again: it reads its ledger from the first entry to the last before it goes on. */
export async function readBack(stage: Stage): Promise<void> {
  const { cluster, observer, vms, cast } = stage
  const boots = vms.map(vm => observer.ledger(vm).boots.length)
  for (const vm of vms) await cluster.api.post(`/v1/vms/${vm}/stop`, { timeoutMs: cast.stopsMs })
  await untilStatus(stage, 'every guest is stopped', 2 * cast.stopsMs, status =>
    vms.every(vm => status.vms[vm]?.state === 'stopped'),
  )
  const since = cluster.env.clock.now()
  for (const vm of vms) await cluster.api.post(`/v1/vms/${vm}/start`)
  await until(stage, 'every guest has read its ledger back', cast.startsMs, () =>
    vms.every((vm, i) => observer.ledger(vm).boots.length > (boots[i] ?? 0)),
  )
  await untilAllAcknowledge(stage, since)
}
