// Plays the operators who look after disks: makes snapshots and clones, runs VMs from clones, deletes, resizes. Whoever is
// refused because nobody answered asks again, as a person would. In the end they make room: no snapshot stays, and no clone
// without its VM.

import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import type { DiskPlan, PlannedSnapshot } from './disk-plan.ts'
import type { PlannedVm } from './plan.ts'
import { type Answer, createVm, type World } from './world.ts'

const AGAIN_MS = 700
const TRIES = 12
/** In the healed phase they look so often, and for so long. */
const TIDY_MS = 1_000
const TIDY_TIMES = 12

export class DiskOperator {
  readonly #world: World
  readonly #plan: DiskPlan
  readonly #clones: ReadonlySet<string>
  #over = false
  /** Snapshots and clones that were made. */
  snapshots = 0
  clones = 0

  constructor(world: World, plan: DiskPlan) {
    this.#world = world
    this.#plan = plan
    this.#clones = new Set(plan.snapshots.flatMap(({ clone }) => (clone === null ? [] : [diskOf(clone.vm)])))
  }

  start(): void {
    const { sim } = this.#world
    for (const snapshot of this.#plan.snapshots) sim.after(snapshot.atMs, () => this.#snapshot(snapshot))
    for (const { vm, volume, atMs, sizeBytes } of this.#plan.resizes) {
      const body = { volume, disk: diskOf(vm), sizeBytes }
      sim.after(atMs, () => this.#ask(volume, 'volume.resize-disk', body, () => undefined))
    }
  }

  #snapshot({ name, vm, volume, clone, deleteAfterMs }: PlannedSnapshot): void {
    const { sim } = this.#world
    this.#ask(volume, 'volume.snapshot-disk', { volume, disk: diskOf(vm), snapshot: name, name }, ({ ok }) => {
      if (!ok) return
      this.snapshots++
      sim.after(deleteAfterMs, () => this.#delete(volume, name))
      if (clone !== null) sim.after(clone.afterMs, () => this.#clone(volume, name, vm, clone))
    })
  }

  #clone(volume: string, snapshot: string, source: string, { vm, lastsMs }: { vm: string; lastsMs: number }): void {
    const disk = diskOf(vm)
    this.#ask(volume, 'volume.clone-disk', { volume, snapshot, disk, name: disk }, ({ ok, reply }) => {
      if (!ok) return
      this.clones++
      const { sizeBytes } = reply as DiskInfo
      const parameters = { writesPerSecond: 10, pages: 32, scratchPerSecond: 3, trimsPerSecond: 0 }
      const planned: PlannedVm = { name: vm, volume, parameters: { ...parameters, ledger: source } }
      this.#create(planned, sizeBytes, lastsMs, TRIES)
    })
  }

  #create(vm: PlannedVm, sizeBytes: number, lastsMs: number, tries: number): void {
    if (this.#over || tries === 0) return
    const { sim } = this.#world
    this.#world.command(createVm(vm, sizeBytes), ({ ok, code }) => {
      if (ok || code === 'duplicate-name') sim.after(lastsMs, () => this.#deleteVm(vm.name, TRIES))
      else sim.after(AGAIN_MS, () => this.#create(vm, sizeBytes, lastsMs, tries - 1))
    })
  }

  #deleteVm(name: string, tries: number): void {
    if (this.#over || tries === 0) return
    this.#world.command({ kind: 'vm-delete', name }, ({ ok, code }) => {
      if (!ok && code === 'coordinator-away') {
        this.#world.sim.after(AGAIN_MS, () => this.#deleteVm(name, tries - 1))
      }
    })
  }

  #delete(volume: string, disk: string): void {
    this.#ask(volume, 'volume.delete-disk', { volume, disk }, () => undefined)
  }

  #ask(volume: string, kind: string, body: object, then: (answer: Answer) => void, tries = TRIES): void {
    if (this.#over) return
    this.#world.askOwner(volume, kind, body, answer => {
      if (answer.ok || answer.final || tries === 1) then(answer)
      else this.#world.sim.after(AGAIN_MS, () => this.#ask(volume, kind, body, then, tries - 1))
    })
  }

  /** Makes room: nothing else frees guests that a full volume holds still. */
  tidy(times = TIDY_TIMES): void {
    this.#over = true
    if (times === 0) return
    const known = this.#world.coordinator?.state
    for (const volume of known?.volumes.keys() ?? []) {
      this.#world.disks(volume, disks => {
        for (const { disk, snapshot } of disks ?? []) {
          const vms = this.#world.coordinator?.state.vms
          const orphan = this.#clones.has(disk) && vms !== undefined && !vms.has(vmOf(disk))
          if (snapshot || orphan) this.#world.askOwner(volume, 'volume.delete-disk', { volume, disk }, () => undefined)
        }
      })
    }
    for (const vm of known?.vms.keys() ?? []) {
      if (this.#clones.has(diskOf(vm))) this.#world.command({ kind: 'vm-delete', name: vm })
    }
    this.#world.sim.after(TIDY_MS, () => this.tidy(times - 1))
  }
}

function diskOf(vm: string): string {
  return `${vm}-0`
}

function vmOf(disk: string): string {
  return disk.slice(0, -'-0'.length)
}
