// Runs one seed: makes the cluster, lets the plan happen for two minutes (safety), heals everything, and demands that all
// that should run does within thirty seconds (liveness). The monitors judge all along; nothing else does.

import { createMonitors, type MonitorSet } from '@stellwerk/protocol/monitors/all-monitors.ts'
import { RULES, type Violation } from '@stellwerk/protocol/monitors/monitor.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { SimulationFailure } from '@stellwerk/runtime/sim/simulation.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { DurabilityWitness } from './durability.ts'
import { FaultDriver } from './fault-driver.ts'
import { lacking } from './guards.ts'
import { inspectAt } from './inspection.ts'
import { compareLegs, watchLegs } from './mirror-witness.ts'
import { drawPlan, type PlanTuning, type SeedPlan } from './plan.ts'
import { watchReach } from './reach.ts'
import type { SimRecorder } from './recorder.ts'
import { TerminalOperator } from './terminal-operator.ts'
import { CLUSTER, EXTENTS, extentAt, TOKEN, VOLUME_BYTES, World } from './world.ts'

export interface SeedResult {
  readonly seed: string
  /** The first violation of a rule, or of none (a crash, a run without substance). */
  readonly failure: { readonly rule: string; readonly message: string } | null
  readonly violations: readonly Violation[]
  readonly simulatedMs: number
  readonly events: number
  readonly faults: { readonly [kind: string]: number }
  /** Fault kind → migration phase → how often. */
  readonly coverage: { readonly [kind: string]: { readonly [phase: string]: number } }
  /** Committed, and admitted. */
  readonly migrations: number
  readonly migrationsAdmitted: number
  readonly failovers: number
  readonly acknowledgedWrites: number
  readonly disks: DiskCounts
  readonly legs: LegCounts
  readonly traceHash: string
}

/** Snapshots and clones made, extents copied for a first write, and how often a guest stood still on a full volume. */
export interface DiskCounts {
  readonly snapshots: number
  readonly clones: number
  readonly copies: number
  readonly full: number
}

/** Legs that operators took away, second ones that came to be in sync. */
export interface LegCounts {
  readonly taken: number
  readonly given: number
  /** Second legs taken away again while they were catching up. */
  readonly regretted: number
}

export interface RunOptions {
  readonly onRecord?: (record: TraceRecord) => void
  readonly onLog?: (process: string, level: string, fields: object, message: string) => void
  /** Writes everything down: see recorder.ts. */
  readonly recorder?: SimRecorder
  /** Stop at the first violation. Default true. */
  readonly stopEarly?: boolean
  /** A planted bug, see canaries.ts; gone again when the run is over. One run at a time then. */
  readonly canary?: string
  readonly tuning?: PlanTuning
}

const SETUP_MS = 20_000
/** Asked to stop, everything must have stopped within this; and what it did must have settled after that. */
const QUIESCE_MS = 20_000
const SETTLE_MS = 2_000
/** Healed, everything that should run must, within this. */
export const CONVERGE_MS = 30_000
/** Then whoever types at a terminal is answered within this. */
const ANSWER_MS = 10_000

export async function runSeed(seed: string, options: RunOptions = {}): Promise<SeedResult> {
  if (options.canary === undefined) return run(seed, options)
  canaries.add(options.canary)
  try {
    return await run(seed, options)
  } finally {
    canaries.delete(options.canary)
  }
}

/** A planted bug is looked for in the runs that it was pinned in, which had none of what only some seeds have. */
export const PLANTED_TUNING = {
  ...{ guestNetwork: false, drains: false },
  ...{ storageControl: false, olderState: false, external: false, ownerInJournal: false, qemu: false },
  journalEnd: false,
  qemuHang: false,
  resets: false,
  terminal: false,
  legChanges: false,
} as const

async function run(seed: string, options: RunOptions): Promise<SeedResult> {
  const tuning = options.canary === undefined ? options.tuning : { ...PLANTED_TUNING, ...options.tuning }
  const plan = drawPlan(seed, new SimRandom(`plan/${seed}`), tuning)
  const { recorder } = options
  const world: World = new World({
    seed,
    hosts: plan.hosts,
    storages: plan.storages,
    external: plan.external,
    settings: plan.settings,
    hostMemoryBytes: 4 * GIB,
    guestNetwork: plan.guestNetwork,
    qemu: plan.qemu,
    ...(options.onLog === undefined ? {} : { onLog: options.onLog }),
    ...(recorder === undefined ? {} : { onCoreInput: input => recorder.core(input, wallOf(world, input.process)) }),
  })
  const rules = RULES.filter(rule => plan.guestNetwork || !rule.startsWith('NET'))
  const mayMissLines = [...plan.vms, ...plan.passing].flatMap(vm => (vm.hypervisor === 'qemu' ? [vm.name] : []))
  const monitors = createMonitors({
    ...{ rules, fen2: { driftFraction: world.settings.drift }, csv2: { extentAt } },
    vm2: { mayMissLines: vm => mayMissLines.includes(vm) },
  })
  const counts = new Counts()
  const { sim } = world
  const facts = { rules, driftFraction: world.settings.drift, extents: EXTENTS, mayMissLines }
  recorder?.begin(facts, sim.wallStartMs)
  sim.onRecord(record => {
    monitors.observe(record, sim.now)
    counts.observe(record)
    options.onRecord?.(record)
    recorder?.record(record)
  })
  const terminal = plan.terminal === null ? null : new TerminalOperator(world)
  new DurabilityWitness(world, VOLUME_BYTES)
  watchReach(world)
  watchLegs(world)
  const driver = new FaultDriver(world, plan)
  const stopEarly = options.stopEarly ?? true
  let crash: string | null = null
  try {
    await phases({ world, plan, driver, terminal }, () => stopEarly && monitors.violations.length > 0)
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error
    crash = error.stack ?? errorMessage(error)
  }
  recorder?.end(sim.now)
  // A run cut short, or with a bug planted, need not have substance.
  const lack = options.tuning === undefined && options.canary === undefined ? lackOf(plan, counts, monitors) : null
  return {
    seed,
    failure: failureOf(monitors, sim.now, crash, lack),
    violations: monitors.violations,
    simulatedMs: sim.now,
    events: sim.events,
    faults: driver.counts(),
    coverage: driver.coverage(),
    migrations: counts.migrations,
    migrationsAdmitted: counts.admitted,
    failovers: counts.failovers,
    acknowledgedWrites: counts.acknowledged,
    disks: { ...counts.disks },
    legs: driver.legs.counts,
    traceHash: sim.traceHash(),
  }
}

/** A process's own clock. */
function wallOf({ sim }: World, process: string): number {
  return sim.process(process)?.host.wall() ?? sim.wallStartMs + sim.now
}

interface Run {
  readonly world: World
  readonly plan: SeedPlan
  readonly driver: FaultDriver
  readonly terminal: TerminalOperator | null
}

async function phases({ world, plan, driver, terminal }: Run, over: () => boolean): Promise<void> {
  const { sim } = world
  world.start()
  await setUp(world, plan)
  driver.start()
  const { hosts, terminal: vm } = plan
  if (vm !== null) terminal?.start({ vm, hosts, cluster: CLUSTER, token: TOKEN })
  if (await sim.runUntil(over, plan.safetyMs)) return
  driver.healAll()
  // A rolling operator: what was stopped by hand is started again, so that the end state is known.
  for (const vm of plan.vms) startAgain(world, vm.name)
  sim.emit({
    level: 'decision',
    kind: 'faults.ended',
    body: { withinMs: CONVERGE_MS, vms: plan.vms.map(vm => vm.name) },
  })
  inspectAt(world, CONVERGE_MS)
  if (await sim.runUntil(over, CONVERGE_MS)) return
  const answered = terminal?.answered ?? 0
  const answers = (): boolean => terminal === null || terminal.answered > answered
  if (!(await sim.runUntil(() => over() || answers(), ANSWER_MS))) {
    throw new SimulationFailure(plan.seed, sim.now, null, new Error(`${vm}: what is typed at its terminal is not read`))
  }
  if (over()) return
  const { unfinished } = driver.legs
  if (unfinished !== null) throw new SimulationFailure(plan.seed, sim.now, null, new Error(unfinished))
  await quiesce(world, over)
}

/** Stops everything in order; then the legs of each volume must be equal, and each volume sound. */
export async function quiesce(world: World, over: () => boolean): Promise<void> {
  const { sim } = world
  const state = world.coordinator?.state
  for (const vm of [...(state?.vms.keys() ?? [])]) world.command({ kind: 'vm-stop', name: vm })
  const stopped = (): boolean =>
    [...(world.coordinator?.state.vms.values() ?? [])].every(vm => vm.placement === null && vm.desired !== 'running')
  const fail = (why: string): never => {
    throw new SimulationFailure(world.options.seed.toString(), sim.now, null, new Error(why))
  }
  if (!(await sim.runUntil(() => over() || stopped(), QUIESCE_MS))) fail('not stopped in order')
  if (over()) return
  // Disks are scrubbed also where nobody holds them.
  if (!(await sim.runUntil(() => over() || world.scrubs.idle, QUIESCE_MS)))
    fail('a leg that had rotted was not scrubbed')
  if (over()) return
  // What stands still for so long has cleared its marks.
  await sim.runUntil(over, SETTLE_MS)
  const wrong = await compareLegs(world)
  if (wrong.length > 0) fail(`a volume is damaged: ${wrong.join('; ')}`)
}

/** The coordinator may still be starting: asked until it has said yes, or that it runs. */
function startAgain(world: World, name: string): void {
  world.command({ kind: 'vm-start', name, host: null }, result => {
    if (!result.ok && result.code !== 'already-running') world.sim.after(500, () => startAgain(world, name))
  })
}

async function setUp(world: World, plan: SeedPlan): Promise<void> {
  const { sim } = world
  const admitted = () => {
    const known = world.coordinator?.state.hosts
    return plan.hosts.every(host => known?.get(host)?.phase === 'admitted')
  }
  await sim.runUntil(admitted, SETUP_MS)
  for (const { name, storages } of plan.volumes) {
    world.command({ kind: 'volume-create', name, id: `volume-${name}`, sizeBytes: VOLUME_BYTES, storages })
  }
  for (const vm of plan.vms) world.create(vm)
  const running = () => {
    const state = world.coordinator?.state
    return plan.vms.every(vm => state?.vms.get(vm.name)?.placement?.phase === 'running')
  }
  if (!(await sim.runUntil(running, SETUP_MS))) {
    const missing = plan.vms.filter(vm => world.coordinator?.state.vms.get(vm.name)?.placement?.phase !== 'running')
    const why = missing.map(vm => `${vm.name}: ${whyNot(world, vm.name)}`)
    throw new SimulationFailure(
      world.options.seed.toString(),
      sim.now,
      null,
      new Error(`not set up: ${why.join('; ')}`),
    )
  }
}

function whyNot(world: World, name: string): string {
  const state = world.coordinator?.state
  const record = state?.vms.get(name)
  if (record === undefined) return 'no such VM: its creation was refused'
  return state?.liveVms.get(name)?.whyNot ?? JSON.stringify({ placement: record.placement, disks: record.disks })
}

function failureOf(
  monitors: MonitorSet,
  now: number,
  crash: string | null,
  lack: string | null,
): SeedResult['failure'] {
  if (crash !== null) return { rule: 'crash', message: crash }
  const first = monitors.violations[0] ?? monitors.finish(now)[0]
  if (first !== undefined) return { rule: first.rule, message: first.message }
  return lack === null ? null : { rule: 'vacuous', message: lack }
}

function lackOf({ vms, safetyMs }: SeedPlan, counts: Counts, monitors: MonitorSet): string | null {
  const { acknowledgedBy: acknowledged, admitted: migrationsAdmitted } = counts
  return lacking({ vms: vms.map(vm => vm.name), safetyMs, acknowledged, migrationsAdmitted, monitors })
}

class Counts {
  migrations = 0
  failovers = 0
  admitted = 0
  acknowledged = 0
  readonly disks = { snapshots: 0, clones: 0, copies: 0, full: 0 }
  readonly acknowledgedBy = new Map<string, number>()

  observe(record: TraceRecord): void {
    if (record.kind === 'guest.acknowledged') {
      this.acknowledged++
      const vm = record.vm ?? ''
      this.acknowledgedBy.set(vm, (this.acknowledgedBy.get(vm) ?? 0) + 1)
    } else if (record.kind === 'migration.requested') this.admitted++
    else if (record.kind === 'migration.committed') this.migrations++
    else if (record.kind === 'failover.start') this.failovers++
    else if (record.kind === 'extent.copied') this.disks.copies++
    else if (record.kind === 'vm.paused-critical') this.disks.full++
    else if (record.kind === 'disk.cloned') {
      if ((record.body as { snapshot: boolean }).snapshot) this.disks.snapshots++
      else this.disks.clones++
    }
  }
}
