// The target's side of a live migration: reserves the disks, makes room, dials the source, loads, checks, says `loaded`,
// and runs only after the coordinator's commit.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { Address, ByteStream } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Incoming, Loaded, Machine } from '../hypervisor/hypervisor.ts'
import type { VmActor } from '../vm/vm-actor.ts'
import type { DiskSet } from '../volume/disk-set.ts'
import { OutcomeAsker } from './outcome-asker.ts'
import { parseTrailer, type ReleasedTrailer } from './released-trailer.ts'

export interface ReceiveOrder {
  readonly migration: string
  readonly order: VmOrder
  readonly sourceHost: string
  readonly source: Address
}

type Phase = 'reserving' | 'receiving' | 'loaded' | 'committed' | 'running' | 'failed' | 'over'

export class IncomingMigration {
  readonly id: string
  readonly #vm: VmActor
  readonly #order: ReceiveOrder
  #phase: Phase = 'reserving'
  /** By the coordinator's word: what was reserved for it is nobody's. */
  #aborted = false
  #disks: DiskSet | null = null
  #incoming: Incoming | null = null
  #stream: ByteStream | null = null
  #asker: OutcomeAsker | null = null

  constructor(vm: VmActor, order: ReceiveOrder) {
    this.id = order.migration
    this.#vm = vm
    this.#order = order
    this.#prepare()
  }

  #prepare(): void {
    const { disks, hypervisor, streams } = this.#vm.parts
    const prepare = async (): Promise<void> => {
      const module = this.#vm.opening.module()
      if (module !== null) await module
      if (this.#phase !== 'reserving') return
      const set = await disks.reserve(this.#order.order)
      this.#disks = set
      if (this.#phase !== 'reserving') return this.#discard()
      const spec = this.#vm.machineSpec()
      const incoming = await hypervisor(this.#order.order.spec.hypervisor).receive(
        spec,
        set.devices,
        this.#vm.network.ports,
      )
      this.#incoming = incoming
      // Ended meanwhile: what is made late is let go of here, as nobody waits for it any more.
      if (this.#phase !== 'reserving') return this.#discard()
      const stream = await streams.open(this.id, this.#order.source)
      this.#stream = stream
      if (this.#phase !== 'reserving') this.#discard()
    }
    this.#vm.task(
      prepare(),
      () => this.#prepared(),
      error => this.#failed(error),
    )
  }

  #prepared(): void {
    if (this.#phase !== 'reserving' || this.#incoming === null || this.#stream === null || this.#disks === null) {
      if (this.#phase === 'over') this.#discard()
      return
    }
    this.#phase = 'receiving'
    // Known to the guardian from here on, so that nothing is waited for between the commit and the first instruction.
    this.#vm.gateIn(this.#disks)
    this.#vm.task(
      this.#incoming.load(this.#stream),
      loaded => this.#loaded(loaded),
      error => this.#failed(error),
    )
  }

  #loaded(loaded: Loaded): void {
    if (this.#phase !== 'receiving') return
    let trailer: ReleasedTrailer
    try {
      trailer = this.#trailerOf(loaded)
    } catch (error) {
      this.#failed(error)
      return
    }
    // The disks' mirrors may have to come to the source's generation first.
    this.#vm.task(
      this.#disks?.adopt(trailer.handover) ?? Promise.resolve(),
      () => this.#adopted(loaded, trailer),
      error => this.#failed(error),
    )
  }

  /** Throws `bad-handover`. */
  #trailerOf(loaded: Loaded): ReleasedTrailer {
    const trailer = parseTrailer(loaded.trailer)
    if (trailer.migration === this.id && trailer.epoch === this.#order.order.epoch) return trailer
    throw new StellwerkError('bad-handover', `what came is of migration ${trailer.migration}, epoch ${trailer.epoch}`)
  }

  #adopted(loaded: Loaded, trailer: ReleasedTrailer): void {
    if (this.#phase !== 'receiving') return
    const { epoch } = this.#order.order
    this.#phase = 'loaded'
    this.#vm.evidence.of(this.id, 'machine.loaded', { checksum: loaded.stateChecksum })
    const body = {
      migration: this.id,
      vm: this.#order.order.vm,
      host: this.#vm.parts.host,
      incarnation: this.#vm.parts.incarnation,
      epoch,
      checksum: loaded.stateChecksum,
      releasedEpoch: trailer.epoch,
    }
    this.#asker = new OutcomeAsker(
      this.#vm,
      () => this.#vm.coordinator.ask('migration.loaded', body),
      outcome => this.outcome(this.id, outcome),
    )
    if (canary('run-before-commit')) this.outcome(this.id, 'committed')
  }

  outcome(migration: string, outcome: 'committed' | 'aborted'): void {
    if (migration !== this.id || this.#phase === 'over' || this.#phase === 'committed' || this.#phase === 'running')
      return
    this.#asker?.settle()
    if (outcome === 'aborted') {
      this.#abort()
      return
    }
    if (this.#phase !== 'loaded') return
    this.#phase = 'committed'
    this.#disks?.committed()
    this.mayRunNow()
  }

  /** The commit is there; the right to run may come later. */
  mayRunNow(): void {
    const { vm, epoch } = this.#order.order
    const incoming = this.#incoming
    if (this.#phase !== 'committed' || incoming === null || !this.#vm.parts.gate.mayExecute(vm)) return
    this.#phase = 'running'
    this.#vm.evidence.runs('arrive')
    this.#vm.task(
      incoming.run({ migration: this.id, vm, placementEpoch: epoch }).then(async machine => {
        if (this.#over()) await machine.kill()
        return machine
      }),
      machine => this.#runs(machine),
      error => {
        throw error
      },
    )
  }

  /** Read anew: it changes while something is awaited. */
  #over(): boolean {
    return this.#phase === 'over'
  }

  #runs(machine: Machine): void {
    if (this.#disks === null || this.#phase === 'over') return
    this.#phase = 'over'
    this.#vm.coordinator.reportDone(this.id, {})
    this.#vm.arrived(machine, this.#disks)
  }

  #abort(): void {
    this.#phase = 'over'
    this.#aborted = true
    this.#discard()
    this.#vm.coordinator.reportDone(this.id, {})
    this.#vm.receivingEnded()
  }

  #failed(error: unknown): void {
    if (this.#phase === 'over' || this.#phase === 'committed' || this.#phase === 'running') return
    this.#fail(`${errorCode(error)}: ${errorMessage(error)}`)
  }

  #fail(reason: string): void {
    if (this.#phase === 'over' || this.#phase === 'committed' || this.#phase === 'running') return
    this.#phase = 'failed'
    const { env, settings, host, incarnation } = this.#vm.parts
    const body = { migration: this.id, vm: this.#order.order.vm, host, incarnation, reason: reason.slice(0, 500) }
    this.#vm.task(
      this.#vm.coordinator.ask('migration.failed', body),
      () => {
        if (this.#phase === 'failed') this.#abort()
      },
      () => {
        env.timers.after(settings().heartbeatMs, () => {
          if (this.#phase === 'failed') this.#fail(reason)
        })
      },
    )
  }

  /** Once loaded, the coordinator's word alone ends it: it may have been committed. */
  cancel(reason: string): void {
    if (this.#phase !== 'loaded') this.#fail(reason)
  }

  /** The host is fenced: nothing of it may run. Resolves when nothing does. */
  dropped(): Promise<void> {
    this.#phase = 'over'
    this.#asker?.settle()
    const discarded = this.#discard()
    this.#disks?.drop()
    return discarded
  }

  #discard(): Promise<void> {
    this.#stream?.destroy()
    const { env } = this.#vm.parts
    const discarded = (this.#incoming?.discard() ?? Promise.resolve()).catch((error: unknown) => {
      env.log.error({ vm: this.#order.order.vm }, `the received copy was not discarded: ${errorMessage(error)}`)
    })
    if (this.#phase !== 'over') return discarded
    // The source does it, too, if it lives: without either the disks would be reserved until the VM's next start.
    if (this.#aborted) this.#disks?.burn(this.#order.order.epoch)
    this.#disks?.drop()
    return discarded
  }
}
