// The source's side of a live migration. The machine runs on until the coordinator says switch; then it is paused,
// drained, `released` is made durable, and it never runs here again but for a durable abort.

import type { WhenDiverging } from '@stellwerk/protocol/messages/migration.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { ByteStream, Json } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Machine, Outgoing, Released } from '../hypervisor/hypervisor.ts'
import type { VmActor } from '../vm/vm-actor.ts'
import type { DiskSet } from '../volume/disk-set.ts'
import { relay } from './byte-relay.ts'
import { OutcomeAsker } from './outcome-asker.ts'
import type { ReleasedTrailer } from './released-trailer.ts'

export interface SendOrder {
  readonly migration: string
  readonly vm: string
  readonly epoch: number
  readonly targetHost: string
  readonly targetEpoch: number
  readonly downtimeMs: number
  readonly whenDiverging?: WhenDiverging
}

/** Rounds after which a guest that dirties faster than the link carries is given a longer pause, or given up. */
const MAX_ROUNDS = 30
/** Convergence is told again until the switch comes. */
const TELL_AGAIN_MS = 200
/** A round that takes long is told of while it lasts. */
const TELL_WITHIN_ROUND_MS = 1_000

export class OutgoingMigration {
  readonly id: string
  readonly #vm: VmActor
  readonly #machine: Machine
  readonly #disks: DiskSet
  readonly #order: SendOrder
  #outgoing: Outgoing | null = null
  #phase: 'linking' | 'copying' | 'releasing' | 'released' | 'ending' | 'over' = 'linking'
  #released: Released | null = null
  #asker: OutcomeAsker | null = null
  #rounds = 0
  #dirtyPages = 0
  #forecastMs = 0
  #toldAt: number
  readonly #startedAt: number
  #stoodAt: number | null = null

  constructor(vm: VmActor, machine: Machine, disks: DiskSet, order: SendOrder) {
    this.id = order.migration
    this.#vm = vm
    this.#machine = machine
    this.#disks = disks
    this.#order = order
    this.#startedAt = vm.parts.env.clock.now()
    this.#toldAt = this.#startedAt
    vm.parts.streams.expect(this.id, stream => {
      vm.task(
        Promise.resolve(stream),
        s => this.#linked(s),
        () => undefined,
      )
    })
  }

  #linked(stream: ByteStream): void {
    if (this.#phase !== 'linking') {
      stream.destroy()
      return
    }
    this.#phase = 'copying'
    const { downtimeMs, whenDiverging = 'pause' } = this.#order
    const outgoing = this.#machine.send({ downtimeMs, maxRounds: MAX_ROUNDS, whenDiverging })
    this.#outgoing = outgoing
    relay(outgoing.stream, stream)
    outgoing.onProgress(progress => {
      this.#rounds = progress.round
      this.#dirtyPages = progress.dirtyPages
      this.#forecastMs = progress.forecastMs
      this.#tell(false)
    })
    this.#tellWithinRounds()
    this.#vm.task(
      outgoing.converged,
      () => this.#converged(),
      error => this.#failed(error),
    )
  }

  #tell(converged: boolean): void {
    const copy = this.#outgoing?.progress() ?? null
    this.#toldAt = this.#vm.parts.env.clock.now()
    this.#vm.coordinator.tell('migration.progress', {
      migration: this.id,
      vm: this.#order.vm,
      round: this.#rounds,
      pagesSent: copy?.pagesSent ?? 0,
      bytesSent: copy?.sentBytes ?? 0,
      dirtyPages: this.#dirtyPages,
      forecastMs: this.#forecastMs,
      totalBytes: copy?.totalBytes ?? 0,
      leftBytes: copy?.leftBytes ?? 0,
      bytesPerSecond: Math.round(copy?.bytesPerSecond ?? 0),
      dirtyBytesPerSecond: Math.round(copy?.dirtyBytesPerSecond ?? 0),
      converged,
    })
  }

  #tellWithinRounds(): void {
    const { clock, timers } = this.#vm.parts.env
    const sinceMs = clock.now() - this.#toldAt
    timers.after(Math.max(1, TELL_WITHIN_ROUND_MS - sinceMs), () => {
      if (this.#phase !== 'copying') return
      if (clock.now() - this.#toldAt >= TELL_WITHIN_ROUND_MS) this.#tell(false)
      this.#tellWithinRounds()
    })
  }

  #converged(): void {
    if (this.#phase !== 'copying') return
    this.#tell(true)
    this.#vm.parts.env.timers.after(TELL_AGAIN_MS, () => this.#converged())
  }

  /** The coordinator's order, durable as `switching` there. */
  switchOver(migration: string): void {
    if (migration !== this.id || this.#phase !== 'copying' || this.#outgoing === null) return
    this.#phase = 'releasing'
    this.#vm.task(
      this.#outgoing.release(() => this.#release()),
      released => this.#sent(released),
      error => this.#failed(error),
    )
  }

  /** Called when the guest executes nothing and its requests are done: what it gives goes out behind the last page. */
  async #release(): Promise<Json> {
    const { env } = this.#vm.parts
    this.#stillReleasing()
    this.#vm.paused()
    this.#stoodAt = env.clock.now()
    await this.#disks.drain()
    this.#stillReleasing()
    const trailer: ReleasedTrailer = {
      migration: this.id,
      epoch: this.#order.targetEpoch,
      handover: this.#disks.handover(),
      releasedWallMs: env.clock.wall(),
    }
    this.#vm.released()
    return trailer as unknown as Json
  }

  /** Once its end is known nothing of it may hold the VM still. */
  #stillReleasing(): void {
    if (this.#phase === 'releasing') return
    throw new StellwerkError('migration-over', 'the migration ended while its source was being paused', {
      where: `vm ${this.#order.vm}`,
    })
  }

  #sent(released: Released): void {
    if (this.#phase !== 'releasing') return
    this.#phase = 'released'
    this.#released = released
    this.#vm.evidence.of(this.id, 'machine.released', { checksum: released.stateChecksum })
    if (canary('resume-after-released')) {
      // Planted bug: does not wait for the coordinator's word.
      this.#vm.parts.env.timers.after(TELL_AGAIN_MS, () => this.outcome(this.id, 'aborted'))
    }
    this.#ask()
  }

  #ask(): void {
    const body = { migration: this.id, vm: this.#order.vm, epoch: this.#order.epoch }
    this.#asker = new OutcomeAsker(
      this.#vm,
      () => this.#vm.coordinator.ask('migration.ask', body),
      outcome => this.outcome(this.id, outcome),
    )
  }

  outcome(migration: string, outcome: 'committed' | 'aborted'): void {
    if (migration !== this.id || this.#phase === 'ending' || this.#phase === 'over') return
    if (outcome === 'committed') this.#committed()
    else this.#abort()
  }

  #committed(): void {
    this.#end()
    const now = this.#vm.parts.env.clock.now()
    const statistics = {
      rounds: this.#released?.rounds ?? 0,
      pagesSent: this.#released?.pagesSent ?? 0,
      bytesSent: this.#released?.bytesSent ?? 0,
      sourceTotalMs: now - this.#startedAt,
      // By one clock: until it is heard here that the target may run.
      pauseMs: now - (this.#stoodAt ?? now),
    }
    this.#vm.coordinator.reportDone(this.id, statistics)
    this.#vm.handedOver()
  }

  #abort(): void {
    const paused = this.#phase === 'releasing' || this.#phase === 'released'
    this.#end()
    this.#disks.resume()
    this.#disks.burn(this.#order.targetEpoch)
    const outgoing = this.#outgoing
    if (outgoing === null) {
      this.#aborted(false)
      return
    }
    // What was paused is held by a freeze first: whether it may run, and when, is the thaw's to decide.
    const held = paused ? this.#machine.freeze('its migration was aborted') : Promise.resolve()
    const aborted = held.then(() =>
      outgoing.abort(checksum => {
        this.#vm.evidence.of(this.id, 'machine.resumed', { checksum })
      }),
    )
    this.#vm.task(
      aborted,
      () => this.#aborted(paused),
      error => {
        throw error
      },
    )
  }

  #aborted(paused: boolean): void {
    this.#phase = 'over'
    this.#vm.coordinator.reportDone(this.id, {})
    this.#vm.sendingEnded(paused)
  }

  /** It cannot go on: the coordinator is told until it has aborted it (or, too late, committed it). */
  #failed(error: unknown): void {
    if (this.#phase === 'ending' || this.#phase === 'over') return
    const reason = `${errorCode(error)}: ${errorMessage(error)}`
    this.#fail(reason)
  }

  #fail(reason: string): void {
    const { env, settings, host, incarnation } = this.#vm.parts
    if (this.#phase === 'ending' || this.#phase === 'over') return
    const body = { migration: this.id, vm: this.#order.vm, host, incarnation, reason: reason.slice(0, 500) }
    this.#vm.task(
      this.#vm.coordinator.ask('migration.failed', body),
      () => {
        this.#asker?.settle()
        if (this.#phase !== 'ending' && this.#phase !== 'over') this.#ask()
      },
      () => {
        env.timers.after(settings().heartbeatMs, () => this.#fail(reason))
      },
    )
  }

  cancel(reason: string): void {
    this.#fail(reason)
  }

  /** The host is fenced: the machine is being killed. */
  dropped(): void {
    this.#end()
    this.#phase = 'over'
  }

  #end(): void {
    this.#phase = 'ending'
    this.#asker?.settle()
    this.#vm.parts.streams.forget(this.id)
  }
}
