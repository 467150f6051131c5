// The faults a seed may do to the simulated cluster. Each has a name, does something now, and is over after a while.

import type { NetworkName } from '@stellwerk/runtime/environment.ts'
import type { TrafficMatch } from '@stellwerk/runtime/network-rules.ts'
import type { SimProcess } from '@stellwerk/runtime/sim/process.ts'
import type { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { SECTOR_BYTES } from '@stellwerk/runtime/sim/sparse-file.ts'
import { keepJournalBusy } from './busy-journal.ts'
import { lunFile, lunPath } from './durability.ts'
import { EXTERNAL_FAULTS } from './external-faults.ts'
import { MEDIA_FAULTS } from './media-fault-kinds.ts'
import { OLDER_STATE_FAULTS } from './older-state-faults.ts'
import { insist } from './operator-word.ts'
import { OWNER_FAULTS } from './owner-faults.ts'
import { PATH_FAULTS } from './path-faults.ts'
import { QEMU_FAULTS } from './qemu-faults.ts'
import { STORAGE_CONTROL_FAULTS } from './storage-control-faults.ts'
import { COORDINATOR_HOST, FABRICS, isInJournal, type World } from './world.ts'

export interface FaultContext {
  readonly world: World
  readonly random: SimRandom
  /** The host it is to hit, where it hits one. */
  readonly host: string
  readonly storage: string
  /** It takes effect now: what is counted, and falls into a cell of fault × phase, is this. */
  readonly struck: () => void
  /** Of one that is aimed at a phase of migrations: whether some migration is in it now. Null: it comes whenever it comes. */
  readonly inPhase: (() => boolean) | null
}

export interface FaultKind {
  readonly name: string
  /** How long it lasts, ms: at least, at most. */
  readonly lasts: readonly [number, number]
  /** It says itself when it strikes, if it does: there may be nothing for it to hit, or not yet. Others strike as they begin. */
  readonly mayMiss?: true
  /** It waits for its moment: one that is aimed at a phase begins with the migration, and strikes when some migration is in it. */
  readonly waits?: true
  /** The storage it is to hit is one without epochs. */
  readonly external?: true
  /** Begins it and gives the way to end it. */
  readonly begin: (context: FaultContext) => () => void
}

/** A process that is there to be hit. */
function victim({ world, struck }: FaultContext, host: string, name: string): SimProcess | undefined {
  const process = world.sim.host(host).process(name)
  if (process?.alive !== true) return undefined
  struck()
  return process
}

function restartHost({ world, host }: FaultContext): () => void {
  return () => world.startHost(host)
}

/** Counted as faults are, though it is an operator who does it: the reset button of a real machine. */
export const GUEST_RESET = 'guest-reset'

export const FAULTS: readonly FaultKind[] = [
  {
    name: 'agent-kill',
    lasts: [500, 3_000],
    mayMiss: true,
    begin: context => {
      victim(context, context.host, `${context.host}/agent`)?.kill()
      return restartHost(context)
    },
  },
  {
    name: 'guardian-kill',
    lasts: [1_000, 8_000],
    mayMiss: true,
    begin: context => {
      victim(context, context.host, `${context.host}/guardian`)?.kill()
      return restartHost(context)
    },
  },
  {
    name: 'host-crash',
    lasts: [1_000, 15_000],
    begin: context => {
      context.world.sim.host(context.host).crash({ unsynced: 'torn' })
      return restartHost(context)
    },
  },
  {
    name: 'host-pause',
    lasts: [500, 15_000],
    begin: ({ world, host, random }) => {
      world.sim.host(host).pause()
      return () => {
        // Who wakes first is the machine's whim: an agent may run before its guardian.
        const sleepers = [...world.sim.host(host).processes]
        while (sleepers.length > 0) sleepers.splice(random.int(sleepers.length), 1)[0]?.resume()
      }
    },
  },
  {
    name: 'agent-pause',
    lasts: [500, 12_000],
    mayMiss: true,
    begin: context => {
      const agent = victim(context, context.host, `${context.host}/agent`)
      agent?.pause()
      return () => agent?.resume()
    },
  },
  {
    // Longer than its deadlines: it wakes up to ones that are long past, and must read what has come before it kills.
    name: 'guardian-pause',
    lasts: [500, 15_000],
    mayMiss: true,
    begin: context => {
      const guardian = victim(context, context.host, `${context.host}/guardian`)
      guardian?.pause()
      return () => guardian?.resume()
    },
  },
  {
    name: 'coordinator-crash',
    lasts: [200, 6_000],
    mayMiss: true,
    begin: context => {
      const { world } = context
      victim(context, COORDINATOR_HOST, 'coordinator')
      world.sim.host(COORDINATOR_HOST).crash({ unsynced: 'lost' })
      return () => world.startCoordinator()
    },
  },
  {
    name: 'coordinator-pause',
    lasts: [500, 8_000],
    mayMiss: true,
    begin: context => {
      const { world } = context
      victim(context, COORDINATOR_HOST, 'coordinator')
      world.sim.host(COORDINATOR_HOST).pause()
      return () => world.sim.host(COORDINATOR_HOST).resume()
    },
  },
  {
    name: 'storage-kill',
    lasts: [300, 5_000],
    mayMiss: true,
    begin: context => {
      const { world, storage } = context
      victim(context, storage, storage)?.kill()
      return () => world.startStorage(storage)
    },
  },
  {
    name: 'storage-power',
    lasts: [300, 5_000],
    mayMiss: true,
    begin: context => {
      const { world, storage, random } = context
      const { sim } = world
      victim(context, storage, storage)
      sim.emit({ level: 'decision', kind: 'storage.power-cycled', body: { storage } })
      sim.host(storage).crash({ unsynced: random.chance(0.5) ? 'lost' : 'torn' })
      return () => world.startStorage(storage)
    },
  },
  {
    // A crash at the target of a pending write: what a volume's owner writes of its journal is torn, sector by sector.
    name: 'storage-power-in-journal',
    lasts: [1_000, 8_000],
    mayMiss: true,
    waits: true,
    begin: context => {
      const { world, storage, random, struck, inPhase } = context
      const { sim } = world
      // Half of them wait for a record longer than a sector, which are rare: only these can be torn within.
      const long = random.chance(0.5) && inPhase === null
      const skipped = long || inPhase !== null ? 0 : random.int(4)
      let seen = 0
      const quiet = inPhase === null ? () => undefined : keepJournalBusy(world, storage)
      const stop = sim.onRecord(({ kind, process, volume, body }) => {
        if (kind !== 'storage.applied' || process !== storage) return
        const { offset } = body as { offset: number }
        if (!isInJournal(offset) || inPhase?.() === false) return
        const second = long ? lunFile(world, storage, volume ?? '')?.read(offset + SECTOR_BYTES, SECTOR_BYTES) : null
        if (second?.some(byte => byte !== 0) === false || seen++ !== skipped) return
        sim.after(0, () => {
          sim.emit({ level: 'decision', kind: 'storage.power-cycled', body: { storage } })
          sim.host(storage).crash({ unsynced: 'torn' })
          struck()
        })
        quiet()
      })
      return () => {
        stop()
        quiet()
        world.startStorage(storage)
      }
    },
  },
  {
    // Longer than a leg's deadline: whoever has a mirror goes on with the other leg, and this one is resynced afterwards.
    name: 'storage-outage',
    lasts: [6_000, 18_000],
    mayMiss: true,
    begin: context => {
      const { world, storage, random } = context
      const { sim } = world
      victim(context, storage, storage)
      if (random.chance(0.5)) sim.host(storage).process(storage)?.kill()
      else {
        sim.emit({ level: 'decision', kind: 'storage.power-cycled', body: { storage } })
        sim.host(storage).crash({ unsynced: random.chance(0.5) ? 'lost' : 'torn' })
      }
      return () => world.startStorage(storage)
    },
  },
  {
    // A leg that answers, but with errors: only of mirrors, and only while another leg can take its place.
    name: 'leg-errors',
    lasts: [300, 6_000],
    mayMiss: true,
    begin: ({ world, storage, random, struck }) => {
      const verdict = random.chance(0.5) ? 'EIO' : 'ENOSPC'
      const operation = verdict === 'EIO' && random.chance(0.5) ? 'read' : 'write'
      const faults = mirrorsOn(world, storage).map(path =>
        world.sim.host(storage).disk.fault({ path, operation, verdict, chance: 0.2 + random.float() * 0.8 }),
      )
      if (faults.length > 0) struck()
      const heal = (): void => {
        for (const fault of faults) fault.heal()
      }
      const stop = world.sim.onRecord(({ kind }) => {
        // The other one may be given up instead: the last in-sync leg's errors would be the guests'.
        if (kind === 'decision.generation') heal()
      })
      return () => {
        stop()
        heal()
      }
    },
  },
  {
    name: 'control-cut',
    lasts: [1_000, 15_000],
    begin: ({ world, host }) => heal(world.sim.network.cut(host, COORDINATOR_HOST, { network: 'cluster' })),
  },
  {
    name: 'control-one-way',
    lasts: [1_000, 12_000],
    begin: ({ world, host, random }) => {
      const out = random.chance(0.5)
      const from = out ? host : COORDINATOR_HOST
      const to = out ? COORDINATOR_HOST : host
      return heal(world.sim.network.cut(from, to, { network: 'cluster', oneWay: true }))
    },
  },
  {
    name: 'cluster-partition',
    lasts: [1_000, 12_000],
    begin: ({ world, random }) => {
      const all = [...world.options.hosts, COORDINATOR_HOST]
      const groups: string[][] = [[], []]
      for (const name of all) groups[random.int(2)]?.push(name)
      // A bridge, sometimes: one that both sides reach.
      if (random.chance(0.3)) {
        const bridge = all[random.int(all.length)]!
        for (const group of groups) if (!group.includes(bridge)) group.push(bridge)
      }
      for (const storage of world.options.storages) for (const group of groups) group.push(storage)
      return heal(world.sim.network.partition(groups, { network: 'cluster' }))
    },
  },
  {
    name: 'host-isolated',
    lasts: [1_000, 12_000],
    begin: ({ world, host }) => {
      const { network } = world.sim
      // What is on its way to a storage without sessions is lost: held, it would come when it is counted on no more.
      if (world.external.names.length > 0)
        network.reset({ from: host, to: world.external.names, bothWays: true, class: 'stream' })
      return heal(network.isolate(host))
    },
  },
  {
    name: 'fabric-cut',
    lasts: [1_000, 12_000],
    begin: ({ world, host, storage, random }) =>
      heal(world.sim.network.cut(host, storage, { network: FABRICS[random.int(2)]! })),
  },
  {
    name: 'fabrics-cut',
    lasts: [1_000, 10_000],
    begin: ({ world, host, storage }) => heal(world.sim.network.cut(host, storage, { network: FABRICS })),
  },
  {
    name: 'fabric-one-way',
    lasts: [1_000, 10_000],
    begin: ({ world, host, storage, random }) => {
      const toStorage = random.chance(0.5)
      const from = toStorage ? host : storage
      const to = toStorage ? storage : host
      return heal(world.sim.network.cut(from, to, { network: FABRICS[random.int(2)]!, oneWay: true }))
    },
  },
  {
    name: 'storage-control-cut',
    lasts: [1_000, 12_000],
    begin: ({ world, storage }) => heal(world.sim.network.cut(COORDINATOR_HOST, storage)),
  },
  {
    name: 'storages-split',
    lasts: [1_000, 10_000],
    begin: ({ world, host, storage }) => {
      // The host and the coordinator reach different storage.
      const other = world.options.storages.find(name => name !== storage) ?? storage
      const one = world.sim.network.cut(host, storage)
      const two = world.sim.network.cut(COORDINATOR_HOST, other)
      return () => {
        one.heal()
        two.heal()
      }
    },
  },
  {
    name: 'paths-reset',
    lasts: [1, 50],
    begin: ({ world, host, random }) => {
      const match = random.chance(0.5) ? { from: host, network: FABRICS[random.int(2)]! } : { from: host }
      world.sim.network.reset({ ...match, bothWays: true, class: 'stream' })
      return () => undefined
    },
  },
  {
    name: 'links-reset',
    lasts: [1, 50],
    begin: ({ world, host }) => {
      world.sim.network.reset({ from: host, bothWays: true, class: ['control', 'bulk'] })
      return () => undefined
    },
  },
  {
    // Old connections bring the last that was sent on them behind what their successors brought.
    name: 'links-stranded',
    lasts: [1_000, 9_000],
    begin: ({ world, host, random }) =>
      heal(world.sim.network.strand({ from: host, bothWays: true, class: 'control' }, 200 + random.float() * 2_500)),
  },
  {
    name: 'orders-repeated',
    lasts: [3_000, 15_000],
    begin: ({ world, host, random }) => {
      const ofHost = { from: host, bothWays: true, class: 'control' } as const
      world.repeated.begin(host, 0.1 + random.float() * 0.4)
      world.sim.network.reset(ofHost)
      return () => {
        world.repeated.end(host)
        world.sim.network.reset(ofHost)
      }
    },
  },
  {
    name: 'network-slow',
    lasts: [2_000, 15_000],
    begin: ({ world, host, random }) =>
      heal(
        world.sim.network.slow(
          { from: host, bothWays: true, ...(random.chance(0.5) ? CLUSTER : toSessions(world, FABRICS)) },
          { delayMs: 5 + random.int(120), jitterMs: 50, loss: random.float() * 0.2 },
        ),
      ),
  },
  {
    name: 'network-clog',
    lasts: [500, 8_000],
    begin: ({ world, host, random }) =>
      heal(
        world.sim.network.clog({
          from: host,
          bothWays: true,
          ...(random.chance(0.5) ? CLUSTER : toSessions(world, [FABRICS[random.int(2)]!])),
        }),
      ),
  },
  {
    // An operator takes it out of service and, sooner or later, back, whatever else happens meanwhile.
    name: 'host-drained',
    lasts: [1_000, 30_000],
    mayMiss: true,
    begin: ({ world, host, struck }) => {
      if (world.coordinator !== null) struck()
      world.command({ kind: 'host-drain', name: host, why: 'its operator has plans' })
      return () => insist(world, { kind: 'host-resume', name: host }, 'not-quarantined')
    },
  },
  {
    // Of the guests' own network: cut, or, worse, held and let go when what it says is long past.
    name: 'guest-links',
    lasts: [500, 20_000],
    begin: ({ world, host, random }) => {
      const match = { from: host, bothWays: random.chance(0.7), network: 'guest' } as const
      const how = random.int(4)
      if (how === 0) world.sim.network.reset(match)
      if (how === 1) return heal(world.sim.network.rule({ ...match, verdict: 'hold' }))
      return how === 0 ? () => undefined : heal(world.sim.network.clog(match))
    },
  },
  {
    name: 'disk-slow',
    lasts: [1_000, 10_000],
    begin: ({ world, storage, random }) =>
      heal(
        world.sim.host(storage).disk.fault({
          operation: ['read', 'write', 'sync'],
          verdict: { delayMs: 20 + random.int(500), jitterMs: 100 },
        }),
      ),
  },
  {
    // Two machines may differ by the configured drift: half of it to either side.
    name: 'clock-drift',
    lasts: [5_000, 30_000],
    begin: ({ world, host, random }) => {
      const all = random.chance(0.5)
      const machines = all ? world.sim.hosts : [world.sim.host(host)]
      for (const machine of machines) machine.setClockRate(1 + (random.float() - 0.5) * world.settings.drift)
      return () => {
        for (const machine of machines) machine.setClockRate(1)
      }
    },
  },
  {
    // Once, or back and forth all the while. Nothing may hang on the wall clock, and only logs may look odd.
    name: 'clock-jump',
    lasts: [1_000, 10_000],
    begin: ({ world, host, random }) => {
      const machines = random.chance(0.3) ? world.sim.hosts : [world.sim.host(host)]
      let strobes = random.chance(0.3)
      const jump = (): void => {
        for (const machine of machines) machine.jumpWall((random.float() - 0.5) * 576_000)
        if (strobes) world.sim.after(50 + random.float() * 500, () => strobes && jump())
      }
      jump()
      return () => {
        strobes = false
      }
    },
  },
  ...PATH_FAULTS,
  ...MEDIA_FAULTS,
  ...STORAGE_CONTROL_FAULTS,
  ...OLDER_STATE_FAULTS,
  ...EXTERNAL_FAULTS,
  ...OWNER_FAULTS,
  ...QEMU_FAULTS,
]

const CLUSTER: TrafficMatch = { network: 'cluster' }

/** Storages with sessions find out what comes late; those without are spared what holds requests for long. */
function toSessions({ options }: World, network: readonly NetworkName[]): TrafficMatch {
  return { network, to: options.storages }
}

function heal(fault: { heal(): void }): () => void {
  return () => fault.heal()
}

/** The data files of volumes that have another in-sync leg than the one on this storage. */
function mirrorsOn(world: World, storage: string): string[] {
  const paths: string[] = []
  for (const volume of world.coordinator?.state.volumes.values() ?? []) {
    const inSync = volume.legs.filter(leg => leg.role === 'in-sync')
    const leg = inSync.find(each => each.storage === storage)
    if (leg === undefined || inSync.length < 2) continue
    const path = lunPath(world, storage, leg.lun)
    if (path !== null) paths.push(path)
  }
  return paths
}

/** All that is counted, and falls into a phase of migrations. */
export const COUNTED: readonly string[] = [...FAULTS.map(({ name }) => name), GUEST_RESET]
