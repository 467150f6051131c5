// A model machine: runs its guest's steps by the environment's timers, serves its disk requests, and freezes, migrates and
// dies as every machine does. Deterministic: nothing here but the environment decides anything.

import type { BlockDevice, Io } from '@stellwerk/block/device.ts'
import { assert, present } from '@stellwerk/runtime/assert.ts'
import type { Environment, Timer } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type {
  Dead,
  Machine,
  MachineEvent,
  MachineSpec,
  MachineState,
  MigrationPolicy,
  NetworkPort,
  Outgoing,
} from '../hypervisor.ts'
import { InFlight, Lifecycle } from '../lifecycle.ts'
import { type HypervisorOptions, stepEvidence } from '../options.ts'
import { PrecopyOutgoing } from '../precopy/outgoing.ts'
import { beingSwitched, consoleBusy, hasEnded } from '../refusals.ts'
import { type DiskOperation, type GuestDevices, GuestTrap, ModelGuest } from './guest.ts'
import { packetFrame } from './packet-frame.ts'
import type { ModelParameters } from './parameters.ts'
import { Registers, type SlotName } from './registers.ts'

/** Lines that wait for the guest's next step; a longer queue drops the newest. */
const MAX_INPUT_LINES = 64

export interface ModelIdentity {
  readonly epoch: number
  readonly instance: string
}

export class ModelMachine implements Machine {
  readonly #env: Environment
  readonly #options: HypervisorOptions
  readonly #spec: MachineSpec
  readonly #identity: ModelIdentity
  readonly #parameters: ModelParameters
  readonly #disk: BlockDevice | null
  readonly #port: NetworkPort | null
  readonly #memory: Buffer
  readonly #registers: Registers
  readonly #guest: ModelGuest
  readonly #io: Io
  readonly #life: Lifecycle
  readonly #inFlight = new InFlight()
  #input: string[]
  #throttle = 0
  #timer: Timer | null = null
  #outgoing: PrecopyOutgoing | null = null

  constructor(
    options: HypervisorOptions,
    spec: MachineSpec,
    identity: ModelIdentity,
    parameters: ModelParameters,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
    memory: Buffer,
    input: readonly string[],
  ) {
    this.#env = options.env
    this.#options = options
    this.#spec = spec
    this.#identity = identity
    this.#parameters = parameters
    this.#disk = disks[0] ?? null
    this.#port = ports[0] ?? null
    this.#memory = memory
    this.#registers = new Registers(memory)
    this.#guest = new ModelGuest(spec.vm, memory, parameters, this.#devices())
    this.#io = { origin: spec.vm, deadlineAt: null }
    this.#life = new Lifecycle(spec.vm)
    this.#input = [...input]
  }

  get state(): MachineState {
    return this.#life.state
  }

  onEvent(f: (event: MachineEvent) => void): void {
    this.#life.onEvent(f)
  }

  start(): void {
    this.#life.start()
    this.#schedule()
  }

  async freeze(_why: string): Promise<void> {
    this.#life.hold()
    this.#unschedule()
  }

  thaw(): void {
    this.#life.unhold()
    this.#schedule()
  }

  input(line: string): void {
    if (this.#life.dead) throw hasEnded(this.#life.vm)
    if (this.#life.released) throw beingSwitched(this.#life.vm)
    if (this.#input.length >= MAX_INPUT_LINES) throw consoleBusy(this.#life.vm)
    this.#input.push(line)
  }

  shutdown(): boolean {
    if (this.#life.dead) return false
    this.#registers.shutdownAsked = true
    return true
  }

  kill(): Promise<Dead> {
    return this.#life.death(async () => {
      if (this.#life.die()) this.#stop('was killed')
      await this.#inFlight.drained()
    })
  }

  send(policy: MigrationPolicy): Outgoing {
    assert(this.#outgoing === null, `${this.#spec.vm} is being migrated already`)
    if (this.#life.dead) throw new StellwerkError('machine-dead', `${this.#spec.vm} is dead: nothing to migrate`)
    const outgoing = new PrecopyOutgoing(
      this.#env,
      {
        vm: this.#spec.vm,
        memory: this.#memory,
        throttle: share => {
          this.#throttle = share
        },
        pause: async () => {
          this.#life.release()
          this.#unschedule()
          await this.#inFlight.drained()
        },
        registers: () => Buffer.from(JSON.stringify({ input: this.#input })),
        resume: () => {
          this.#life.unrelease()
          this.#schedule()
        },
        detached: () => {
          this.#outgoing = null
        },
      },
      policy,
    )
    this.#outgoing = outgoing
    return outgoing
  }

  // --- running -------------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#timer !== null || !this.#life.runs) return
    this.#timer = this.#env.timers.after(this.#parameters.stepMs / (1 - this.#throttle), () => {
      this.#timer = null
      this.#step()
    })
  }

  #unschedule(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #step(): void {
    assert(this.#life.runs, `${this.#spec.vm} would step while ${this.#life.state}`)
    if (!this.#options.mayExecute(this.#spec.vm)) {
      this.#life.hold()
      this.#life.tell({ kind: 'frozen', reason: 'the right to execute is gone' })
      return
    }
    if (this.#env.trace.on('io')) this.#options.evidence(stepEvidence(this.#spec, this.#identity))
    const input = this.#input
    this.#input = []
    try {
      this.#guest.step(input)
    } catch (error) {
      if (!(error instanceof GuestTrap)) throw error
      this.#crash(errorMessage(error))
    }
    this.#schedule()
  }

  #crash(reason: string): void {
    if (!this.#life.die()) return
    this.#stop(`crashed: ${reason}`)
    this.#life.tell({ kind: 'crashed', reason })
  }

  /** Nothing is executed from here on. */
  #stop(why: string): void {
    this.#unschedule()
    this.#outgoing?.end(new StellwerkError('machine-dead', `${this.#spec.vm} ${why} while it was migrated`))
    this.#outgoing = null
    this.#port?.detach()
  }

  // --- devices -------------------------------------------------------------------------------------------------------

  #devices(): GuestDevices {
    const disk = this.#disk
    return {
      // Looked up each time: a disk grows while its guest runs.
      get diskBytes() {
        return disk?.size ?? 0
      },
      unitBytes: Math.max(512, disk?.limits.minimum ?? 512),
      submit: (slot, operation, offset, at, length) => this.#submit(slot, operation, offset, at, length),
      // A listener may have killed the machine in the middle of the step: what the step still does has no effect.
      say: line => {
        if (!this.#life.dead) this.#life.tell({ kind: 'console', line, said: this.#env.trace.stamp() })
      },
      sendPacket: payload => {
        if (!this.#life.dead && this.#port !== null) this.#port.send(packetFrame(this.#port.mac, payload))
      },
      halt: reason => {
        if (!this.#life.die()) return
        this.#stop('halted')
        this.#life.tell({ kind: 'halted', reason })
      },
    }
  }

  #submit(slot: SlotName, operation: DiskOperation, offset: number, at: number, length: number): void {
    if (this.#life.dead) return
    assert(this.#registers.slotState(slot) !== 'in-flight', `slot ${slot} is in flight already`)
    this.#registers.setSlotState(slot, 'in-flight')
    this.#inFlight.begin()
    this.#transfer(present(this.#disk, 'the disk'), operation, offset, at, length).then(
      () => this.#complete(slot, 'done'),
      error => {
        this.#env.log.warn(
          { vm: this.#spec.vm, operation, offset, error: errorMessage(error) },
          'guest disk request failed',
        )
        this.#complete(slot, 'failed')
      },
    )
  }

  async #transfer(
    disk: BlockDevice,
    operation: DiskOperation,
    offset: number,
    at: number,
    length: number,
  ): Promise<void> {
    switch (operation) {
      case 'read': {
        const parts = await disk.read(offset, length, this.#io)
        // A dead guest's memory is left as it was.
        if (this.#life.dead) return
        let to = at
        for (const part of parts) {
          this.#memory.set(part, to)
          to += part.length
        }
        assert(to === at + length, `${to - at} bytes read instead of ${length}`)
        return
      }
      case 'write':
        // Copied: the guest may use the place again before the disk is done with it.
        return disk.write(offset, [Buffer.from(this.#memory.subarray(at, at + length))], { fua: true }, this.#io)
      case 'zero':
        return disk.zero(offset, length, { fua: true }, this.#io)
      case 'trim':
        return disk.trim(offset, length, {}, this.#io)
      case 'flush':
        return disk.flush(this.#io)
    }
  }

  /** The result waits in memory for the guest's next step, whenever that is. */
  #complete(slot: SlotName, state: 'done' | 'failed'): void {
    if (!this.#life.dead) this.#registers.setSlotState(slot, state)
    this.#inFlight.end()
  }
}
