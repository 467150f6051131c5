// One export as a machine: it runs when its requests may reach the disk and their answers may leave, is frozen when both
// wait, and dead when both are refused.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { DiskExport } from '../../volume/disk-export.ts'
import type { Dead, Machine, MachineEvent, MachineSpec, MachineState, Outgoing } from '../hypervisor.ts'
import { Lifecycle } from '../lifecycle.ts'
import { type HypervisorOptions, stepEvidence } from '../options.ts'
import { HeldDevice } from './held-device.ts'

export function notMigratable(vm: string): StellwerkError {
  return new StellwerkError('not-migratable', 'an export stays on its host: its clients hold a socket there', {
    where: vm,
    hint: 'end it and export the disk from the other host',
  })
}

export class ExportMachine implements Machine {
  readonly device: HeldDevice
  readonly #life: Lifecycle
  readonly #onDeath: () => void
  #export: DiskExport | null = null

  constructor(
    options: HypervisorOptions,
    spec: MachineSpec,
    identity: { readonly epoch: number; readonly instance: string },
    disk: BlockDevice,
    onDeath: () => void,
  ) {
    this.#life = new Lifecycle(spec.vm)
    this.#onDeath = onDeath
    const { env } = options
    this.device = new HeldDevice(disk, () => {
      if (!this.#life.runs) return false
      if (!options.mayExecute(spec.vm)) {
        this.#life.hold()
        this.#life.tell({ kind: 'frozen', reason: 'no lease' })
        return false
      }
      if (env.trace.on('io')) options.evidence(stepEvidence(spec, identity))
      return true
    })
  }

  served(by: DiskExport): void {
    this.#export = by
  }

  get address(): Address | null {
    return this.#life.state === 'paused' ? null : (this.#export?.address ?? null)
  }

  get connections(): number {
    return this.#export?.connections ?? 0
  }

  get state(): MachineState {
    return this.#life.state
  }

  onEvent(f: (event: MachineEvent) => void): void {
    this.#life.onEvent(f)
  }

  start(): void {
    this.#life.start()
    this.device.release()
  }

  async freeze(_why: string): Promise<void> {
    this.#life.hold()
  }

  thaw(): void {
    this.#life.unhold()
    this.device.release()
  }

  /** It has no console. */
  input(): void {
    // Nobody reads it.
  }

  /** Its clients are tools of this host: they notice when it ends. */
  shutdown(): boolean {
    return false
  }

  kill(): Promise<Dead> {
    return this.#life.death(async () => {
      this.#life.die()
      this.#onDeath()
      this.device.refuse()
      await this.#export?.close('the export has ended')
    })
  }

  send(): Outgoing {
    throw notMigratable(this.#life.vm)
  }
}
