// Carries a plan out: begins and ends faults, aims some at migrations' phases, plays the operators, and counts what
// happened in which phase of which migration.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { DiskOperator } from './disk-operator.ts'
import { type FaultKind, GUEST_RESET } from './faults.ts'
import { LegOperator } from './leg-operator.ts'
import { type AimedFault, MIGRATION_PHASES, type MigrationPhaseName, type OperatorAct, type SeedPlan } from './plan.ts'
import type { World } from './world.ts'

const PHASE_OF: { readonly [kind: string]: MigrationPhaseName | 'over' } = {
  'migration.requested': 'preparing',
  'migration.precopy': 'precopy',
  'migration.switching': 'switching',
  'migration.committed': 'committed',
  'migration.done': 'over',
  'migration.aborted': 'over',
}

/** How often, and how soon, an operator asks again whose migration was refused. */
const MIGRATE_TRIES = 10
const MIGRATE_AGAIN_MS = 1_500

export class FaultDriver {
  readonly #world: World
  readonly #plan: SeedPlan
  readonly #random: SimRandom
  readonly #active = new Set<() => void>()
  readonly #counts = new Map<string, number>()
  readonly #coverage = new Map<string, Map<string, number>>()
  readonly #underWay = new Map<string, MigrationPhaseName>()
  readonly #numbers = new Map<string, number>()
  readonly disks: DiskOperator
  readonly legs: LegOperator
  #over = false

  constructor(world: World, plan: SeedPlan) {
    this.#world = world
    this.#plan = plan
    this.#random = new SimRandom(`faults/${plan.seed}`)
    this.disks = new DiskOperator(world, plan.disks)
    this.legs = new LegOperator(world, plan.legs)
    world.sim.onRecord(record => this.#observe(record))
  }

  start(): void {
    const { sim } = this.#world
    for (const fault of this.#plan.faults) {
      sim.after(fault.atMs, () => this.#begin(fault.kind, fault.host, fault.storage, fault.lastsMs))
    }
    for (const act of this.#plan.acts) sim.after(act.atMs, () => this.#act(act))
    this.disks.start()
    this.legs.start()
  }

  #begin(
    kind: FaultKind,
    host: string,
    storage: string,
    lastsMs: number,
    phase: MigrationPhaseName | null = null,
  ): void {
    if (this.#over) return
    const { sim } = this.#world
    const struck = (): void => this.#struckBy(kind.name)
    if (kind.mayMiss !== true) struck()
    sim.emit({ level: 'decision', kind: 'fault.begun', body: { fault: kind.name, host, storage, lastsMs } })
    const inPhase = phase === null ? null : () => [...this.#underWay.values()].includes(phase)
    const end = kind.begin({ world: this.#world, random: this.#random, host, storage, struck, inPhase })
    let ended = false
    const endOnce = (): void => {
      if (ended) return
      ended = true
      this.#active.delete(endOnce)
      end()
      sim.emit({ level: 'decision', kind: 'fault.ended', body: { fault: kind.name, host, storage } })
    }
    this.#active.add(endOnce)
    sim.after(lastsMs, endOnce)
  }

  #struckBy(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
    for (const phase of this.#underWay.values()) this.#cover(name, phase)
  }

  #observe(record: TraceRecord): void {
    if (record.kind === 'vm.reset' && !this.#over) this.#struckBy(GUEST_RESET)
    const phase = PHASE_OF[record.kind]
    if (phase === undefined || record.migration === undefined) return
    const id = record.migration
    if (phase === 'over') {
      this.#underWay.delete(id)
      return
    }
    this.#underWay.set(id, phase)
    if (!this.#numbers.has(id)) this.#numbers.set(id, this.#numbers.size)
    for (const aimed of this.#plan.aimed) {
      const begins = aimed.kind.waits === true ? 'preparing' : aimed.phase
      if (aimed.migration === this.#numbers.get(id) && begins === phase) this.#aim(aimed, record)
    }
  }

  #aim(aimed: AimedFault, record: TraceRecord): void {
    const body = record.body as { source?: string; target?: string } | undefined
    const { hosts, storages } = this.#plan
    const others = hosts.filter(host => host !== body?.source && host !== body?.target)
    const host = aimed.on === 'source' ? body?.source : aimed.on === 'target' ? body?.target : others[0]
    const embedded = storages[this.#random.int(storages.length)]!
    const storage = aimed.kind.external === true ? (this.#plan.external[0] ?? embedded) : embedded
    // Not inside the record's own call: a crash right behind it.
    const { kind, phase, lastsMs, afterMs } = aimed
    this.#world.sim.after(kind.waits === true ? 0 : afterMs, () =>
      this.#begin(kind, host ?? hosts[0]!, storage, lastsMs, phase),
    )
  }

  #act({ act, vm, host, volume }: OperatorAct): void {
    if (this.#over) return
    switch (act) {
      case 'migrate':
        this.#migrate(vm, host, MIGRATE_TRIES)
        break
      case 'stop':
        this.#world.command({ kind: 'vm-stop', name: vm })
        break
      case 'start':
        this.#world.command({ kind: 'vm-start', name: vm, host: null })
        break
      case 'create':
        this.#create(vm)
        break
      case 'delete':
        this.#world.command({ kind: 'vm-delete', name: vm })
        break
      case 'reset':
        this.#world.reset(vm)
        break
      case 'own':
        this.#world.command({
          ...{ kind: 'volume-own', host },
          name: volume ?? (this.#random.chance(0.5) ? 'csv1' : 'csv2'),
        })
        break
    }
  }

  /** An operator whose order is refused (the coordinator away, the VM not running) tries another VM a little later. */
  #migrate(vm: string, host: string | null, tries: number): void {
    if (this.#over || tries === 0) return
    const at = this.#world.coordinator?.state.vms.get(vm)?.placement?.host
    const to = at === host ? null : host
    this.#world.command({ kind: 'vm-migrate', name: vm, to, id: this.#random.id() }, ({ ok, code }) => {
      if (ok) return
      if (code === 'no-host') this.#endQuarantine()
      const { vms } = this.#plan
      const next = vms[(vms.findIndex(({ name }) => name === vm) + 1) % vms.length]
      this.#world.sim.after(MIGRATE_AGAIN_MS, () => this.#migrate(next?.name ?? vm, null, tries - 1))
    })
  }

  /** Hosts that failed too often are given nothing: whoever wants to move a VM takes one of them back into service. */
  #endQuarantine(): void {
    const hosts = [...(this.#world.coordinator?.state.hosts.values() ?? [])]
    const host = hosts.find(({ quarantine, drain }) => quarantine !== null && drain === undefined)
    if (host !== undefined) this.#world.command({ kind: 'host-resume', name: host.name })
  }

  /** A VM that comes and goes; not while an earlier one has not gone, or the volume would have no room for the others. */
  #create(name: string): void {
    const vm = this.#plan.passing.find(each => each.name === name)
    const known = this.#world.coordinator?.state.vms
    if (vm === undefined || known === undefined) return
    if (this.#plan.passing.some(({ name, volume }) => volume === vm.volume && known.has(name))) return
    this.#world.create(vm)
  }

  /** Everything is put right: power, cables, clocks, processes. */
  healAll(): void {
    this.#over = true
    for (const end of [...this.#active]) end()
    const { sim, options } = this.#world
    sim.network.healAll()
    for (const host of sim.hosts) {
      host.resume()
      host.disk.healAll()
      host.setClockRate(1)
    }
    for (const storage of options.storages) this.#world.startStorage(storage)
    for (const storage of this.#world.external.names) this.#world.external.start(storage)
    this.#world.startCoordinator()
    for (const host of options.hosts) this.#world.startHost(host)
    this.disks.tidy()
    this.legs.finish()
  }

  #cover(kind: string, phase: MigrationPhaseName): void {
    let row = this.#coverage.get(kind)
    if (row === undefined) {
      row = new Map()
      this.#coverage.set(kind, row)
    }
    row.set(phase, (row.get(phase) ?? 0) + 1)
  }

  counts(): { readonly [kind: string]: number } {
    return Object.fromEntries([...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  coverage(): SeedCoverage {
    return Object.fromEntries([...this.#coverage].map(([kind, row]) => [kind, Object.fromEntries(row)]))
  }
}

export type SeedCoverage = { readonly [kind: string]: { readonly [phase: string]: number } }

/** Cells of the table fault × phase that nothing fell into. */
export function emptyCells(coverage: SeedCoverage, kinds: readonly string[]): string[] {
  return kinds.flatMap(kind =>
    MIGRATION_PHASES.filter(phase => (coverage[kind]?.[phase] ?? 0) === 0).map(phase => `${kind} × ${phase}`),
  )
}
