// `stellwerk demo`: a cluster from nothing on this machine, guests moved live, an agent and then a whole host killed, and
// what became of it, measured and judged from outside all hosts.

import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { machineLoad } from '@stellwerk/runtime/node/machine-load.ts'
import { isStillRunning, type RecordedProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { demandAll, ensureVolume, untilHostsUp, untilQemuRuns, VOLUME } from '../cluster/first-use.ts'
import { LocalCluster } from '../cluster/local-cluster.ts'
import { FAILED, OK, type Terminal } from '../command-line/command.ts'
import { type GuestChoice, ledgerGuest } from '../images/ledger-guest.ts'
import { Observer } from '../observer/observer.ts'
import { agentsOf, bringBack, killAgentOf, killHostOf, migrateThrice, readBack, startGuests } from './acts.ts'
import { audit } from './audit.ts'
import { castOf } from './cast.ts'
import type { FailoverFigures, MigrationFigures } from './figures.ts'
import { type DemoReport, failoverLine, failuresOf, migrationLine, ms, reportLines } from './report.ts'
import { processesOf, type Stage } from './stage.ts'

const HOSTS = 3
const HOST_MEMORY_BYTES = GIB
const VMS = ['ledger-1', 'ledger-2', 'ledger-3'] as const
const PROFILE = 'lab'

export interface DemoArgs {
  readonly json: boolean
  /** The directory stays, whatever came out: its traces and logs are worth a look. */
  readonly keep: boolean
  /** What its guests are. */
  readonly guest: GuestChoice
  readonly terminal: Terminal
}

/** The exit status: 0 when it held. */
export async function demoCommand({ json, keep, guest, terminal }: DemoArgs): Promise<number> {
  const directory = await makeScratchDirectory('stellwerk-demo-')
  const say = json ? () => undefined : (line: string) => terminal.out(line)
  let held = false
  try {
    const report = await perform(directory, guest, say)
    const failures = failuresOf(report)
    held = failures.length === 0
    if (json) terminal.out(JSON.stringify(report))
    else for (const line of reportLines(report)) say(line)
    if (json) for (const failure of failures) terminal.err(failure)
  } finally {
    if (held && !keep) await removeScratchDirectory(directory)
    else terminal.err(`what it left is in ${directory}`)
  }
  return held ? OK : FAILED
}

interface Performance {
  readonly migrations: MigrationFigures[]
  readonly failovers: FailoverFigures[]
  readonly agents: RecordedProcess[]
}

async function perform(directory: string, guest: GuestChoice, say: (line: string) => void): Promise<DemoReport> {
  const cluster = await LocalCluster.open({
    directory,
    hosts: HOSTS,
    memoryBytes: HOST_MEMORY_BYTES,
    profile: PROFILE,
    supervise: false,
    logLevel: 'info',
    traceLevel: 'io',
    onEnded: () => undefined,
  })
  const { env } = cluster
  const observer = new Observer({ env, cluster: cluster.file.cluster, token: cluster.tokens.join })
  const stage: Stage = { cluster, directory, observer, vms: VMS, cast: castOf(guest.hypervisor), say }
  const processes = processesOf(cluster)
  const interrupted = Promise.withResolvers<never>()
  env.processes.onStop(() => interrupted.reject(new StellwerkError('interrupted', 'the demo was interrupted')))
  const acts = play(stage, guest)
  let played: Performance
  try {
    played = await Promise.race([acts, interrupted.promise])
  } catch (error) {
    // What was under way fails of the cluster's end; why it ends is known already.
    acts.catch(() => undefined)
    observer.stop()
    if (!cluster.isStopping) await cluster.stop()
    throw error
  }
  const heard = VMS.map(vm => observer.ledger(vm))
  if (observer.overflowed) throw new StellwerkError('observer-full', 'the observer heard more than it keeps')
  const { leaseMs } = PROFILES[PROFILE]
  const observed = observer.records()
  const looked = await audit({ directory, volume: VOLUME, ledgers: heard, processes, observed, leaseMs })
  const { ledgers, verdict, findings } = looked
  const survivors = [
    ...cluster.processes.filter(({ isEnded }) => !isEnded).map(({ name, pid }) => `${name} (${pid})`),
    ...played.agents.filter(isStillRunning).map(({ name, pid }) => `${name} (${pid})`),
  ]
  return {
    migrations: played.migrations,
    failovers: played.failovers,
    ledgers,
    violations: verdict.violations,
    findings,
    survivors,
    judged: verdict.judged,
    leaseMs,
    machine: machineLoad(),
  }
}

async function play(stage: Stage, guest: GuestChoice): Promise<Performance> {
  const { cluster, observer, vms, say } = stage
  const [vm = ''] = vms
  const began = cluster.env.clock.now()
  const agents: RecordedProcess[] = []
  const note = () => agents.push(...cluster.file.hosts.flatMap(({ name }) => agentsOf(stage, name)))

  say(`A cluster in ${stage.directory}: a coordinator, two storages, three hosts, each its own processes.`)
  const failed = await cluster.start()
  demandAll([...failed].map(([name, error]) => `${name}: ${error.message}`))
  demandAll(await untilHostsUp(cluster))
  demandAll(await ensureVolume(cluster))
  if (guest.hypervisor === 'qemu') demandAll(await untilQemuRuns(cluster))
  await startGuests(stage, await ledgerGuest(guest, cluster.env.processes))
  note()
  say(`It is up after ${ms(cluster.env.clock.now() - began)}: a shared volume, and ${vms.join(', ')} at work.`)

  say(`\n${vm} moves around the hosts, live.`)
  const migrations = await migrateThrice(stage, vm, figures => say(`  ${migrationLine(figures)}`))

  say(`\nThe agent that runs ${vm} is killed (SIGKILL); its guardian sees it.`)
  const first = await killAgentOf(stage, vm)
  for (const figures of first.failovers) say(`  ${failoverLine(figures)}`)
  await cluster.sleep(1_000)

  say(`\nThe host that runs it now is killed whole, guardian and agent: nobody vouches for anything.`)
  const second = await killHostOf(stage, vm)
  for (const figures of second.failovers) say(`  ${failoverLine(figures)}`)

  say(`\n${first.host} and ${second.host} come back.`)
  say(`  both are up after ${ms(await bringBack(stage, [first.host, second.host]))}`)
  note()

  say(`\nEvery guest is stopped and started again: it reads its ledger from the first entry to the last.`)
  await readBack(stage)
  for (const name of vms) {
    const boot = observer.ledger(name).boots.at(-1)
    say(`  ${name} found ${boot?.entries} entries${boot?.intact === true ? ', all intact' : ': DAMAGED'}`)
  }
  await cluster.stop()
  observer.stop()
  say(`\nAll is stopped. Now its volume and its traces are read from outside.`)
  return { migrations, failovers: [...first.failovers, ...second.failovers], agents }
}
