// A wasm machine: its life cycle, its devices served from the agent's loop, its migration. The guest itself runs in a thread
// of its own and meets the agent only in its memory.

import { type BlockDevice, BlockError, type Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment, Hlc, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
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
import type { GuestImage } from './guest-image.ts'
import { GuestThread } from './guest-thread.ts'
import { BLOCK_RING, STATUS_FAILED, STATUS_INVALID, STATUS_OK } from './layout.ts'
import { type BlockRequest, Rings, RingViolation } from './rings.ts'

/** Lines for the guest that its ring has no room for. */
const MAX_INPUT_LINES = 64
/** How often a guest that asks for nothing is looked at: for its right to run, and as evidence that it does. */
const BEAT_MS = 100

export interface WasmIdentity {
  readonly epoch: number
  readonly instance: string
}

export class WasmMachine implements Machine {
  /** The guest's memory, live. */
  readonly memory: Buffer
  readonly #env: Environment
  readonly #options: HypervisorOptions
  readonly #spec: MachineSpec
  #identity: WasmIdentity
  readonly #disk: BlockDevice | null
  readonly #port: NetworkPort | null
  readonly #io: Io
  readonly #life: Lifecycle
  readonly #inFlight = new InFlight()
  readonly #thread: GuestThread
  readonly #rings: Rings
  readonly #input: string[] = []
  #beat: Timer | null = null
  #endedBy = ''
  #stepsSeen = 0
  #evidenceAt = -BEAT_MS
  #outgoing: PrecopyOutgoing | null = null

  constructor(
    options: HypervisorOptions,
    spec: MachineSpec,
    identity: WasmIdentity,
    image: GuestImage,
    disks: readonly BlockDevice[],
    ports: readonly NetworkPort[],
  ) {
    this.#env = options.env
    this.#options = options
    this.#spec = spec
    this.#identity = identity
    this.#disk = disks[0] ?? null
    this.#port = ports[0] ?? null
    this.#io = { origin: spec.vm, deadlineAt: null }
    this.#life = new Lifecycle(spec.vm)
    this.memory = Buffer.from(image.memory.buffer)
    this.#rings = new Rings(this.memory)
    this.#thread = new GuestThread(options.env, image, {
      bell: () => {
        this.#thread.answerBell()
        this.#service()
      },
      halted: () => this.#lastWords(() => this.#end('halted', 'the guest ended')),
      crashed: reason => this.#lastWords(() => this.#end('crashed', reason)),
    })
    this.#port?.onFrame(frame => {
      if (this.#life.runs && this.#guarded(() => this.#rings.putFrame(frame))) this.#wake()
    })
  }

  /** The thread is up, at rest between no steps at all; rejects if the module could not be instantiated. */
  async ready(): Promise<void> {
    await this.#thread.rest()
    if (this.#life.dead) {
      throw new StellwerkError('bad-guest', `the guest could not be set up: ${this.#endedBy}`, {
        where: this.#spec.guest,
      })
    }
  }

  get state(): MachineState {
    return this.#life.state
  }

  onEvent(f: (event: MachineEvent) => void): void {
    this.#life.onEvent(f)
  }

  start(): void {
    this.#life.start()
    this.#go()
  }

  /** A machine that arrived goes on under the epoch of its commit. */
  arrive(epoch: number): void {
    this.#identity = { ...this.#identity, epoch }
    this.start()
  }

  /** For a machine that is to arrive. */
  restore(registers: Uint8Array): void {
    this.#thread.restore(registers)
  }

  async freeze(_why: string): Promise<void> {
    this.#life.hold()
    await this.#halt()
  }

  thaw(): void {
    this.#life.unhold()
    this.#go()
  }

  input(line: string): void {
    if (this.#life.dead) throw hasEnded(this.#life.vm)
    if (this.#life.released) throw beingSwitched(this.#life.vm)
    if (this.#input.length >= MAX_INPUT_LINES) throw consoleBusy(this.#life.vm)
    this.#input.push(line)
    if (this.#life.runs) this.#guarded(() => this.#giveInput())
  }

  shutdown(): boolean {
    if (this.#life.dead) return false
    this.#rings.askToShutDown()
    // One that is frozen finds it when it is thawed.
    if (this.#life.runs) this.#wake()
    return true
  }

  kill(): Promise<Dead> {
    return this.#life.death(async () => {
      if (this.#life.die()) this.#stop('was killed')
      await Promise.all([this.#thread.end(), this.#inFlight.drained()])
      this.#evidence(true)
    })
  }

  send(policy: MigrationPolicy): Outgoing {
    assert(this.#outgoing === null, `${this.#spec.vm} is being migrated already`)
    if (this.#life.dead) throw new StellwerkError('machine-dead', `${this.#spec.vm} is dead: nothing to migrate`)
    this.#outgoing = new PrecopyOutgoing(
      this.#env,
      {
        vm: this.#spec.vm,
        memory: this.memory,
        throttle: share => this.#thread.throttle(share),
        pause: async () => {
          this.#life.release()
          await this.#halt()
          await this.#inFlight.drained()
        },
        registers: () => this.#thread.registers(),
        resume: () => {
          this.#life.unrelease()
          this.#go()
        },
        detached: () => {
          this.#outgoing = null
        },
      },
      policy,
    )
    return this.#outgoing
  }

  // --- running -------------------------------------------------------------------------------------------------------

  #go(): void {
    if (!this.#life.runs) return
    if (!this.#options.mayExecute(this.#spec.vm)) {
      this.#freezeItself()
      return
    }
    this.#allow()
    this.#thread.run()
    this.#watch()
    // What was asked for before the freeze is still in the rings.
    this.#service()
  }

  async #halt(): Promise<void> {
    this.#beat?.cancel()
    this.#beat = null
    await this.#thread.rest()
    this.#evidence(true)
  }

  /** The guest's thread judges by itself, before each step: it is told again whenever this one looks. */
  #allow(): void {
    this.#thread.allowUntil(this.#options.until(this.#spec.vm))
  }

  #freezeItself(): void {
    this.#life.hold()
    this.#halt().then(() => {
      if (!this.#life.dead) this.#life.tell({ kind: 'frozen', reason: 'the right to execute is gone' })
    })
  }

  #watch(): void {
    if (this.#beat !== null) return
    this.#beat = this.#env.timers.after(BEAT_MS, () => {
      this.#beat = null
      this.#service()
      // A guest that sleeps until woken is watched again when it is.
      if (this.#life.runs && !this.#thread.asleep) this.#watch()
    })
  }

  #wake(): void {
    this.#allow()
    this.#thread.wake()
    this.#watch()
  }

  /**
   * What was executed, as the guest's thread counts it, whether or not it had the right to: that is for others to judge. All
   * that is left is said where it has come to `rest` or is gone, so that nothing follows on the word that it has halted.
   */
  #evidence(rest: boolean): void {
    const now = this.#env.clock.now()
    const { steps, steppedAt } = this.#thread
    if (steps === this.#stepsSeen || !this.#env.trace.on('io')) return
    if (!rest && now - this.#evidenceAt < BEAT_MS) return
    this.#stepsSeen = steps
    this.#evidenceAt = now
    this.#options.evidence(stepEvidence(this.#spec, this.#identity, Math.max(0, now - steppedAt)))
  }

  #end(kind: 'halted' | 'crashed', reason: string): void {
    if (!this.#life.die()) return
    this.#endedBy = reason
    this.#stop(`${kind}: ${reason}`)
    this.#thread.end().then(
      () => {
        this.#evidence(true)
        this.#life.tell({ kind, reason })
      },
      error => this.#life.tell({ kind: 'crashed', reason: errorMessage(error) }),
    )
  }

  #stop(why: string): void {
    this.#beat?.cancel()
    this.#beat = null
    this.#outgoing?.end(new StellwerkError('machine-dead', `${this.#spec.vm} ${why} while it was migrated`))
    this.#outgoing = null
    this.#port?.detach()
  }

  // --- devices -------------------------------------------------------------------------------------------------------

  /** Takes what the guest put into its rings. Nothing leaves a guest that has no right to run. */
  #service(): void {
    if (!this.#life.runs) return
    this.#evidence(false)
    const said = this.#env.trace.stamp()
    if (!this.#options.mayExecute(this.#spec.vm)) {
      this.#freezeItself()
      return
    }
    this.#allow()
    this.#guarded(() => {
      this.#giveInput()
      this.#serveConsole(said)
      this.#serveNetwork()
      this.#serveDisk()
    })
  }

  /** What the guest said before it ended is heard, if it had the right to say it. */
  #lastWords(then: () => void): void {
    const said = this.#env.trace.stamp()
    if (this.#life.runs && this.#options.mayExecute(this.#spec.vm)) this.#guarded(() => this.#serveConsole(said))
    then()
  }

  /** A guest that breaks a ring is ended. */
  #guarded<T>(f: () => T): T | false {
    try {
      return f()
    } catch (error) {
      if (!(error instanceof RingViolation)) throw error
      this.#end('crashed', errorMessage(error))
      return false
    }
  }

  #giveInput(): void {
    let given = false
    while (this.#input.length > 0 && this.#rings.putLine(this.#input[0] ?? '')) {
      this.#input.shift()
      given = true
    }
    if (given) this.#wake()
  }

  #serveConsole(said: Hlc): void {
    // A guest that waits for room is woken; one that has room enough is left to its own pace. It may come to wait while this goes on.
    let crowded = this.#rings.consoleIsCrowded
    for (let line = this.#rings.takeLine(); line !== null; line = this.#rings.takeLine()) {
      this.#life.tell({ kind: 'console', line, said })
      // A listener may have frozen or killed it.
      if (!this.#life.runs) return
      crowded ||= this.#rings.consoleIsCrowded
    }
    if (crowded) this.#wake()
  }

  #serveNetwork(): void {
    if (!this.#life.runs) return
    let crowded = this.#rings.networkIsCrowded
    for (let frame = this.#rings.takeFrame(); frame !== null; frame = this.#rings.takeFrame()) {
      this.#port?.send(frame)
      crowded ||= this.#rings.networkIsCrowded
    }
    if (crowded) this.#wake()
  }

  #serveDisk(): void {
    while (this.#life.runs && this.#inFlight.count < BLOCK_RING) {
      const request = this.#rings.takeRequest()
      if (request === null) return
      this.#inFlight.begin()
      this.#transfer(request).then(
        () => this.#complete(request, STATUS_OK),
        error => {
          const fields = { vm: this.#spec.vm, operation: request.operation, offset: request.offset }
          this.#env.log.warn({ ...fields, error: errorMessage(error) }, 'guest disk request failed')
          this.#complete(request, errorCode(error) === 'EINVAL' ? STATUS_INVALID : STATUS_FAILED)
        },
      )
    }
  }

  async #transfer(request: BlockRequest): Promise<void> {
    const { operation, offset, address, length } = request
    const disk = this.#disk
    if (disk === null || (operation !== 'flush' && offset + length > disk.size)) {
      throw new BlockError('EINVAL', 'none', `${operation} of ${length} bytes at ${offset} is not on the disk`)
    }
    switch (operation) {
      case 'read': {
        const parts = await disk.read(offset, length, this.#io)
        // A dead guest's memory is left as it was.
        if (this.#life.dead) return
        let to = address
        for (const part of parts) {
          this.memory.set(part, to)
          to += part.length
        }
        assert(to === address + length, `${to - address} bytes read instead of ${length}`)
        return
      }
      case 'write':
        // Copied: a guest may do with its memory what it likes, the disk must see one content.
        return disk.write(
          offset,
          [Buffer.from(this.memory.subarray(address, address + length))],
          { fua: true },
          this.#io,
        )
      case 'zero':
        return disk.zero(offset, length, { fua: true }, this.#io)
      case 'trim':
        return disk.trim(offset, length, {}, this.#io)
      case 'flush':
        return disk.flush(this.#io)
    }
  }

  /** The result waits in memory; a frozen guest sees it when it is thawed, one that moves takes it along. */
  #complete(request: BlockRequest, status: number): void {
    if (!this.#life.dead) {
      this.#rings.complete(request.label, status)
      if (this.#life.runs) this.#wake()
    }
    this.#inFlight.end()
  }
}
