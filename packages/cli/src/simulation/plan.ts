// What a seed does: the cluster it draws, the faults at random times, those aimed at a migration's phase, and what
// operators do. Drawn whole before the run, from the seed alone.

import { AGENT_KINDS, type AgentKind } from '@stellwerk/agent/hypervisor/qemu/simulated/guest-agent.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { type DiskPlan, type DiskTuning, drawDiskPlan } from './disk-plan.ts'
import { drawExternal, NO_EXTERNAL } from './external-plan.ts'
import { FAULTS, type FaultKind } from './faults.ts'
import { drawLegPlan, type PlannedLegChange } from './leg-plan.ts'

export interface PlannedFault {
  readonly kind: FaultKind
  readonly host: string
  readonly storage: string
  readonly lastsMs: number
}

export interface TimedFault extends PlannedFault {
  readonly atMs: number
}

export const MIGRATION_PHASES = ['preparing', 'precopy', 'switching', 'committed'] as const
export type MigrationPhaseName = (typeof MIGRATION_PHASES)[number]

/** A fault that waits for the n-th migration to come into a phase; `on` says whom it hits. */
export interface AimedFault {
  readonly kind: FaultKind
  readonly migration: number
  readonly phase: MigrationPhaseName
  readonly on: 'source' | 'target' | 'other'
  readonly afterMs: number
  readonly lastsMs: number
}

export interface OperatorAct {
  readonly atMs: number
  readonly act: 'migrate' | 'stop' | 'start' | 'own' | 'create' | 'delete' | 'reset'
  readonly vm: string
  readonly host: string
  /** Of `own`; absent: one of the first two. */
  readonly volume?: string
}

export interface PlannedVm {
  readonly name: string
  readonly volume: string
  readonly parameters: { readonly [name: string]: number | string }
  /** Its card is in; absent: it has none. */
  readonly network?: string
  /** Absent: the model, within its agent. */
  readonly hypervisor?: 'qemu'
}

export interface PlannedVolume {
  readonly name: string
  /** One, or two for a mirror. */
  readonly storages: readonly string[]
}

export interface SeedPlan {
  readonly seed: string
  readonly hosts: readonly string[]
  readonly storages: readonly string[]
  /** Plain NBD servers. */
  readonly external: readonly string[]
  readonly volumes: readonly PlannedVolume[]
  readonly vms: readonly PlannedVm[]
  /** VMs that operators create and delete on the way, so that extents are given back and used again. */
  readonly passing: readonly PlannedVm[]
  readonly settings: Partial<Settings>
  readonly safetyMs: number
  readonly faults: readonly TimedFault[]
  readonly aimed: readonly AimedFault[]
  readonly acts: readonly OperatorAct[]
  readonly disks: DiskPlan
  /** Legs that operators take away and give, of some volumes in some seeds. */
  readonly legs: readonly PlannedLegChange[]
  /** Hosts have a guest network, and VMs cards in it. */
  readonly guestNetwork: boolean
  /** At whose terminal somebody sits. */
  readonly terminal: string | null
  /** Hosts have QEMU, and some VMs are its. */
  readonly qemu: boolean
}

/** The time of faults, simulated: at least two minutes. */
const SAFETY_MS = 120_000
/** Migrations asked for in a run; some are refused or aborted, so that at least six take place. */
const MIGRATIONS_MIN = 10
/** How often guests trim whole extents, so that these are given back, and granted anew, under load. Each costs the judges much. */
const TRIMS_PER_SECOND = [0, 0.01, 0.05]
/** How often a guest computes: often enough that one running twice is seen at once. */
const STEP_MS = 40
/** With names near the longest allowed, a few entries make a journal record longer than a sector. */
const LONG_SUFFIX = `-${'n'.repeat(48)}`
/** VMs that come and go, at most. */
const PASSING_MAX = 12

/** Kinds that were added later, drawn apart and by some seeds only: the others stay the runs that they were. */
const LATER_KINDS: ReadonlySet<string> = new Set(['path-slow'])
const LATER_CHANCE = 0.3
const LATER_AIMED_CHANCE = 0.25
const LATER_MAX = 3

/** Kinds that some seeds have besides, each group drawn by a fork of its own, and how often one is aimed at a migration there. */
const APART = {
  guestNetwork: ['guest-links'],
  drains: ['host-drained'],
  storageControl: [
    ...['storage-control-one-way', 'storage-control-partial'],
    ...['storage-control-slow', 'storage-control-clog'],
  ],
  olderState: ['coordinator-rolled-back'],
  external: ['external-kill', 'external-cut', 'external-slow'],
  ownerInJournal: ['owner-in-journal'],
  qemu: ['qemu-kill', 'qemu-pause'],
  qemuHang: ['qemu-hang'],
  journalEnd: ['journal-end-unreadable'],
} as const satisfies { readonly [group: string]: readonly string[] }
const APART_KINDS: ReadonlySet<string> = new Set(Object.values(APART).flat())
const APART_CHANCE = 0.3
const APART_AIMED_CHANCE = 0.25
const APART_MAX = 4
const NETWORKS = ['lan', 'dmz'] as const
const RESETS_MAX = 6
const TERMINAL_CHANCE = 0.5
/** A migration is mostly over by then. */
const RESET_AFTER_MS = 1_500

/** How a plan departs from the usual: for canaries that a rare fault brings to light, and for runs cut short. */
export interface PlanTuning extends DiskTuning {
  /** The only faults, by name. */
  readonly faults?: readonly string[]
  /** Each seed uses all of them, not some. */
  readonly together?: boolean
  readonly meanGapMs?: number
  /** Migrations asked for. */
  readonly migrations?: number
  /** The phases at which aimed faults strike. */
  readonly phases?: readonly MigrationPhaseName[]
  /** Every migration is aimed at. */
  readonly aimAtAll?: boolean
  /** How often a second guests write, zero and trim the same few sectors. */
  readonly scratchPerSecond?: number
  readonly trimsPerSecond?: number
  readonly longNames?: boolean
  /** VMs that come and go. */
  readonly passing?: number
  /** False: every volume has one leg. */
  readonly mirrored?: boolean
  readonly settings?: Partial<Settings>
  /** Whether guests have a network; absent: some seeds' have. */
  readonly guestNetwork?: boolean
  /** Whether operators drain hosts; absent: in some seeds. */
  readonly drains?: boolean
  /** Whether the coordinator's links to the storages have faults of their own; absent: in some seeds. */
  readonly storageControl?: boolean
  /** Whether the coordinator is put back from older copies of its state; absent: in some seeds. */
  readonly olderState?: boolean
  /** Whether there is a volume on a storage without epochs; absent: in some seeds. */
  readonly external?: boolean
  /** Whether owners die or fall asleep in the middle of writes of their journals; absent: in some seeds. */
  readonly ownerInJournal?: boolean
  /** Whether some VMs run in QEMU; absent: in some seeds. */
  readonly qemu?: boolean
  /** Whether operators reset real machines; absent: where there are some. */
  readonly resets?: boolean
  /** Whether somebody sits at a real machine's terminal; absent: where there are some, in some seeds. */
  readonly terminal?: boolean
  /** Whether a QEMU hangs for good; absent: in some seeds. */
  readonly qemuHang?: boolean
  /** Whether a journal's last record cannot be read when its owner has died; absent: in some seeds. */
  readonly journalEnd?: boolean
  /** Whether operators take legs of volumes away and give them second ones; absent: in some seeds. */
  readonly legChanges?: boolean
  /** The time of faults ends so early; what was planned for later is left out, the rest stays as it was. */
  readonly safetyMs?: number
}

/** Three for half of the seeds, four, or five: what three of a kind can do wrong is most of it, and each costs time. */
function fewOrMore(random: SimRandom): number {
  return Math.max(3, 2 + random.int(4))
}

function isDrawnApart(kind: string): boolean {
  return LATER_KINDS.has(kind) || APART_KINDS.has(kind)
}

export function drawPlan(seed: string, random: SimRandom, tuning: PlanTuning = {}): SeedPlan {
  const nets = random.fork('guest-network')
  const guestNetwork = tuning.guestNetwork ?? nets.chance(APART_CHANCE)
  const networks = nets.chance(0.5) ? NETWORKS : NETWORKS.slice(0, 1)
  const inNetwork = (i: number) => (guestNetwork ? { network: networks[i % networks.length]! } : {})
  const suffix = (tuning.longNames ?? random.fork('names').chance(0.2)) ? LONG_SUFFIX : ''
  const hosts = ['host-a', 'host-b', 'host-c', 'host-d', 'host-e']
    .slice(0, fewOrMore(random))
    .map(name => name + suffix)
  const storages = ['san-a', 'san-b']
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)]!
  const mirrors = random.fork('mirrors')
  const volumes: PlannedVolume[] = storages.map((storage, i) => {
    const others = storages.filter(other => other !== storage)
    // The first is always one, so that every seed has a mirror to judge.
    const mirrored = i === 0 || mirrors.chance(0.5)
    return { name: `csv${i + 1}`, storages: mirrored && tuning.mirrored !== false ? [storage, ...others] : [storage] }
  })
  const vms: PlannedVm[] = []
  const trims = random.fork('trims')
  const trimsPerSecond = (): number => tuning.trimsPerSecond ?? TRIMS_PER_SECOND[trims.int(TRIMS_PER_SECOND.length)]!
  const count = fewOrMore(random)
  for (let i = 0; i < count; i++) {
    vms.push({
      name: `vm-${i + 1}${suffix}`,
      volume: i < 2 ? `csv${i + 1}` : pick(['csv1', 'csv2']),
      parameters: {
        writesPerSecond: 10 + random.int(5),
        dirtyPagesPerStep: 1 + random.int(4),
        pages: 32 + random.int(64),
        stepMs: STEP_MS,
        scratchPerSecond: tuning.scratchPerSecond ?? 2 * random.int(3),
        trimsPerSecond: trimsPerSecond(),
      },
      ...inNetwork(i),
    })
  }
  const duration = (kind: FaultKind, of = random): number =>
    kind.lasts[0] + of.float() * (kind.lasts[1] - kind.lasts[0])
  // A seed uses some of the kinds only: what each of them does alone shows better.
  const all = FAULTS.filter(({ name }) => tuning.faults?.includes(name) ?? !isDrawnApart(name))
  const kinds = all.filter(() => tuning.together === true || random.chance(0.5))
  if (kinds.length === 0) kinds.push(pick(all))
  const faults: TimedFault[] = []
  const meanGapMs = tuning.meanGapMs ?? 4_000 + random.int(16_000)
  for (let at = 3_000 + random.float() * meanGapMs; at < SAFETY_MS - 5_000; at += random.float() * 2 * meanGapMs) {
    const kind = pick(kinds)
    faults.push({ kind, atMs: at, host: pick(hosts), storage: pick(storages), lastsMs: duration(kind) })
  }
  const later = random.fork('later-faults')
  const pickLater = <T>(items: readonly T[]): T => items[later.int(items.length)]!
  const laterKinds = FAULTS.filter(({ name }) => LATER_KINDS.has(name))
  const drawsLater = tuning.faults === undefined && later.chance(LATER_CHANCE)
  for (let i = drawsLater ? 1 + later.int(LATER_MAX) : 0; i > 0; i--) {
    const kind = pickLater(laterKinds)
    const atMs = 3_000 + later.float() * (SAFETY_MS - 8_000)
    faults.push({ kind, atMs, host: pickLater(hosts), storage: pickLater(storages), lastsMs: duration(kind, later) })
  }
  const forks = {
    drains: random.fork('drains'),
    storageControl: random.fork('storage-control'),
    olderState: random.fork('older-state'),
    external: random.fork('external'),
    ownerInJournal: random.fork('owner-in-journal'),
    qemu: random.fork('qemu'),
    qemuHang: random.fork('qemu-hang'),
    journalEnd: random.fork('journal-end'),
  }
  const groups = Object.entries(forks).flatMap(([group, of]) => {
    const name = group as keyof typeof forks
    return (tuning[name] ?? of.chance(APART_CHANCE)) ? [{ name, names: APART[name], of }] : []
  })
  const qemu = groups.some(({ name }) => name === 'qemu')
  const machines = random.fork('qemu-vms')
  // The first always, so that what is drawn for them hits something.
  const inGuests = random.fork('guest-agents')
  const placed = (vm: PlannedVm, i: number): PlannedVm =>
    qemu && (machines.chance(0.5) || i === 0)
      ? { ...vm, hypervisor: 'qemu', parameters: { ...vm.parameters, ...drawAgent(inGuests) } }
      : vm
  const plain = groups.some(({ name }) => name === 'external')
    ? drawExternal(random.fork('external-volume'), { hosts, storages, safetyMs: SAFETY_MS, suffix, stepMs: STEP_MS })
    : NO_EXTERNAL
  const apart = [...(guestNetwork ? [{ names: APART.guestNetwork, of: nets }] : []), ...groups].flatMap(
    ({ names, of }) => {
      const kinds = FAULTS.filter(({ name }) => (names as readonly string[]).includes(name))
      return tuning.faults === undefined
        ? [{ of, pickKind: () => kinds[kinds.length === 1 ? 0 : of.int(kinds.length)]! }]
        : []
    },
  )
  for (const { pickKind, of } of apart) {
    const pickOf = <T>(items: readonly T[]): T => items[of.int(items.length)]!
    for (let i = 1 + of.int(APART_MAX); i > 0; i--) {
      const kind = pickKind()
      const atMs = 3_000 + of.float() * (SAFETY_MS - 8_000)
      const storage = pickOf(kind.external === true ? plain.storages : storages)
      faults.push({ kind, atMs, host: pickOf(hosts), storage, lastsMs: duration(kind, of) })
    }
  }
  const aimed: AimedFault[] = []
  const acts: OperatorAct[] = []
  const machinesAndModels = vms.map(placed)
  const migrations = tuning.migrations ?? MIGRATIONS_MIN + random.int(6)
  for (let i = 0; i < migrations; i++) {
    const atMs = 4_000 + ((SAFETY_MS - 8_000) * (i + random.float())) / migrations
    acts.push({ atMs, act: 'migrate', vm: pick(vms).name, host: pick(hosts) })
    if (!random.chance(0.5) && tuning.aimAtAll !== true) continue
    const usual = pick(all)
    const isLater = drawsLater && later.chance(LATER_AIMED_CHANCE)
    const isApart = apart.find(({ of }) => of.chance(APART_AIMED_CHANCE))
    const kind = isApart?.pickKind() ?? (isLater ? pickLater(laterKinds) : usual)
    aimed.push({
      kind,
      migration: i,
      phase: pick(tuning.phases ?? MIGRATION_PHASES),
      on: pick(['source', 'target', 'other'] as const),
      afterMs: random.chance(0.5) ? 0 : random.float() * 15,
      lastsMs: duration(kind),
    })
  }
  for (let i = random.int(5); i > 0; i--) {
    const vm = pick(vms).name
    const atMs = 10_000 + random.float() * (SAFETY_MS - 30_000)
    acts.push({ atMs, act: 'stop', vm, host: pick(hosts) })
    acts.push({ atMs: atMs + 1_000 + random.float() * 8_000, act: 'start', vm, host: pick(hosts) })
  }
  for (let i = random.int(3); i > 0; i--) {
    acts.push({
      atMs: 10_000 + random.float() * (SAFETY_MS - 20_000),
      act: 'own',
      vm: pick(vms).name,
      host: pick(hosts),
    })
  }
  const passing: PlannedVm[] = []
  const comers = tuning.passing ?? random.int(PASSING_MAX + 1)
  for (let i = 0; i < comers; i++) {
    const vm = `passing-${i + 1}${suffix}`
    const parameters = {
      writesPerSecond: 10,
      pages: 32,
      stepMs: STEP_MS,
      scratchPerSecond: 5,
      trimsPerSecond: trimsPerSecond(),
    }
    passing.push({ name: vm, volume: i % 2 === 0 ? 'csv1' : 'csv2', parameters, ...inNetwork(i) })
    const atMs = 3_000 + ((SAFETY_MS - 20_000) * (i + random.float())) / comers
    acts.push({ atMs, act: 'create', vm, host: pick(hosts) })
    acts.push({ atMs: atMs + 3_000 + random.float() * 6_000, act: 'delete', vm, host: pick(hosts) })
  }
  acts.push(...plain.acts)
  if (tuning.resets ?? tuning.faults === undefined)
    acts.push(...drawResets(random.fork('resets'), machinesAndModels, acts))
  acts.sort((a, b) => a.atMs - b.atMs)
  const settings: Partial<Settings> = {
    isolatedMs: 5_000 + random.int(20_000),
    migrationsPerHost: 1 + random.int(3),
    ioDeadlineMs: pick([1_000, 2_000]),
    // So few that a migration may be forgotten while one of its sides is cut off.
    migrationsKept: random.fork('migrations-kept').int(3),
    ...tuning.settings,
  }
  const legs = drawLegPlan(random.fork('leg-changes'), {
    // Where every volume is to have one leg, it stays so.
    wanted: tuning.mirrored === false ? false : tuning.legChanges,
    ...{ hosts, storages, external: plain.storages, volumes: [...volumes, ...plain.volumes], kinds: all },
    safetyMs: SAFETY_MS,
  })
  const safetyMs = tuning.safetyMs ?? SAFETY_MS
  const terminal = drawTerminal(random.fork('terminal'), machinesAndModels, tuning)
  const disks = drawDiskPlan(random.fork('disks'), vms, SAFETY_MS, tuning)
  return {
    ...{ seed, hosts, storages: [...storages, ...legs.spares], external: plain.storages },
    ...{ volumes: legs.volumes, vms: [...machinesAndModels, ...plain.vms] },
    ...{ passing: passing.map(placed), settings, safetyMs, aimed, acts, disks, guestNetwork, qemu, terminal },
    ...{ faults: [...faults, ...legs.faults], legs: legs.changes },
  }
}

/** Of real machines: some whenever it is, some soon after a migration was asked for. */
function drawResets(random: SimRandom, vms: readonly PlannedVm[], acts: readonly OperatorAct[]): OperatorAct[] {
  const machines = vms.filter(vm => vm.hypervisor === 'qemu')
  if (machines.length === 0) return []
  return Array.from({ length: 1 + random.int(RESETS_MAX) }, () => {
    const { name } = machines[random.int(machines.length)]!
    const moves = acts.filter(({ act, vm }) => act === 'migrate' && vm === name)
    const move = random.chance(0.7) ? moves[random.int(Math.max(1, moves.length))] : undefined
    const atMs =
      move === undefined ? 3_000 + random.float() * (SAFETY_MS - 8_000) : move.atMs + random.float() * RESET_AFTER_MS
    return { atMs, act: 'reset' as const, vm: name, host: '' }
  })
}

function drawTerminal(random: SimRandom, vms: readonly PlannedVm[], { terminal, faults }: PlanTuning): string | null {
  const machines = vms.filter(vm => vm.hypervisor === 'qemu')
  const isWanted = terminal ?? (faults === undefined && random.chance(TERMINAL_CHANCE))
  return isWanted ? (machines[random.int(Math.max(1, machines.length))]?.name ?? null) : null
}

/** What has the port of the agent in a real machine's guest: one that answers, one that does its worst, or nothing. */
function drawAgent(random: SimRandom): { agent?: AgentKind } {
  if (random.chance(0.3)) return {}
  return { agent: random.chance(0.5) ? 'there' : (AGENT_KINDS[random.int(AGENT_KINDS.length)] ?? 'there') }
}
