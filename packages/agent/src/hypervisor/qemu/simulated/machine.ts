// The simulated QEMU's machine: the model guest's program on memory of its own, executed or not by QEMU's run states, with a
// console, a card and a disk. What QEMU does in which order follows softmmu/runstate.c and softmmu/cpus.c of QEMU 7.2.

import type { Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { GuestTrap, ModelGuest } from '../../model/guest.ts'
import { packetFrame } from '../../model/packet-frame.ts'
import type { ModelParameters } from '../../model/parameters.ts'
import { Registers, SCRATCH_SLOTS, type SlotName } from '../../model/registers.ts'
import { PAGE_BYTES } from '../../precopy/state-checksum.ts'
import type { SimulatedGuestAgent } from './guest-agent.ts'
import { splitLines } from './lines.ts'
import { type Arguments, type MainLoop, refusal } from './monitor.ts'
import type { ServedSocket } from './served-socket.ts'
import type { VirtualDisk } from './virtual-disk.ts'

export type RunState =
  | 'prelaunch'
  | 'inmigrate'
  | 'running'
  | 'paused'
  | 'io-error'
  | 'finish-migrate'
  | 'postmigrate'
  | 'guest-panicked'
  | 'watchdog'
  | 'shutdown'

/** Of a watchdog that a guest has armed. */
const WATCHDOG_MS = 4_800
/** A reset leaves these run states as they are. */
const PAST_RESET: readonly RunState[] = ['running', 'inmigrate', 'finish-migrate']

export interface SimulatedNic {
  readonly socket: Pick<ServedSocket, 'write'>
  readonly mac: string
}
const SLOTS: readonly SlotName[] = ['log', 'readBack', ...SCRATCH_SLOTS]

export interface MachineParts {
  readonly env: Environment
  readonly loop: MainLoop
  readonly vm: string
  readonly parameters: ModelParameters
  readonly console: Pick<ServedSocket, 'write'>
  readonly nics: readonly SimulatedNic[]
  /** Which of its disks the guest works on. */
  readonly worksOn: number
  /** Tells what happens, on the monitor. */
  readonly event: (event: string, data?: Arguments) => void
  /** The guest has switched its machine off. */
  readonly onPowerOff: () => void
}

export class SimulatedMachine {
  readonly memory: Buffer
  state: RunState = 'prelaunch'
  /** The part of its time that the processor is held up. */
  throttle = 0
  readonly #parts: MachineParts
  readonly #registers: Registers
  readonly #guest: ModelGuest
  readonly #disks: VirtualDisk[] = []
  #agent: SimulatedGuestAgent | null = null
  #input: string[] = []
  #typed: Buffer = Buffer.alloc(0)
  #timer: Timer | null = null
  /** Of a guest that hangs with its watchdog armed: so long it has still been executing by then. */
  #barksInMs: number | null = null

  constructor(parts: MachineParts) {
    this.#parts = parts
    this.memory = Buffer.alloc(parts.parameters.pages * PAGE_BYTES)
    this.#registers = new Registers(this.memory)
    this.#registers.random = this.#seed()
    const disk = (): VirtualDisk | null => this.#disks[parts.worksOn] ?? null
    this.#guest = new ModelGuest(parts.vm, this.memory, parts.parameters, {
      get diskBytes() {
        return disk()?.bytes ?? 0
      },
      get unitBytes() {
        return disk()?.unitBytes ?? 512
      },
      // What a step still does after the guest has switched the machine off has no effect.
      submit: (slot, operation, offset, at, length) => {
        if (this.#executes) disk()?.submit({ slot, operation, offset, at, length })
      },
      say: line => {
        if (this.#executes) parts.console.write([Buffer.from(`${line}\r\n`, 'utf8')])
      },
      sendPacket: payload => {
        if (this.#executes) this.#send(payload)
      },
      halt: () => this.#powerOff(),
      hang: () => {
        this.#barksInMs = WATCHDOG_MS
      },
    })
  }

  attach(disk: VirtualDisk): void {
    this.#disks.push(disk)
  }

  /** In its guest. */
  install(agent: SimulatedGuestAgent): void {
    this.#agent = agent
  }

  /** Nothing that the guest has begun is under way. */
  get isAtRest(): boolean {
    return SLOTS.every(slot => this.#registers.slotState(slot) !== 'in-flight')
  }

  /** The guest's own doing. */
  shutDown(): void {
    this.#registers.shutdownAsked = true
  }

  get #executes(): boolean {
    return this.state === 'running'
  }

  // --- run states ----------------------------------------------------------------------------------------------------

  /** The command `cont`. */
  continue(): void {
    if (this.state === 'shutdown') throw refusal('Resetting the Virtual Machine is required')
    if (this.state === 'finish-migrate') throw refusal('Migration is not finalized yet')
    // With -S and nothing loaded yet it would begin by itself once it is: never asked for here.
    if (this.state === 'inmigrate') throw refusal('Guest is waiting for an incoming migration')
    this.start()
  }

  start(): void {
    if (this.#executes) return
    this.state = 'running'
    this.#parts.event('RESUME')
    for (const disk of this.#disks) disk.resume()
    this.#schedule()
  }

  /**
   * In QEMU's main loop, which stands until it is done: everything that was asked of the disk has an answer. Gives why what was
   * written could not be made durable, or null.
   */
  async stop(state: RunState): Promise<string | null> {
    if (this.#executes) {
      this.#halt(state)
      this.#parts.event('STOP')
    }
    return this.#drained()
  }

  async #drained(): Promise<string | null> {
    const failures = await Promise.all(this.#disks.map(disk => disk.drained()))
    return failures.find(why => why !== null) ?? null
  }

  /** A request has failed: told at once, obeyed when the main loop comes to it. */
  blockError(name: string, operation: string, why: string): void {
    this.#parts.event('BLOCK_IO_ERROR', {
      ...{ device: '', 'node-name': name, nospace: false, action: 'stop', reason: why },
      operation: operation === 'read' ? 'read' : 'write',
    })
    this.#stopSoon('io-error')
  }

  #stopSoon(state: RunState): void {
    void this.#parts.loop.run(async () => void (await this.stop(state)))
  }

  /** The power button. */
  pressButton(): void {
    if (this.#executes && this.#agent?.hearsButton !== false) this.shutDown()
    this.#parts.event('POWERDOWN')
  }

  /** The command `system_reset`: obeyed when the main loop comes to it (main_loop_should_exit, qemu_system_reset). */
  resetSoon(): void {
    void this.#parts.loop.run(() => this.#reset())
  }

  async #reset(): Promise<void> {
    const executed = this.#executes
    this.#timer?.cancel()
    this.#timer = null
    for (const disk of this.#disks) await disk.reset()
    this.#input = []
    this.#typed = Buffer.alloc(0)
    this.#barksInMs = null
    this.memory.fill(0)
    this.#registers.random = this.#seed()
    this.#parts.event('RESET', { guest: false, reason: 'host-qmp-system-reset' })
    if (executed && this.#executes) this.#schedule()
    else if (!PAST_RESET.includes(this.state)) this.state = 'prelaunch'
  }

  #seed(): number {
    return 1 + this.#parts.env.random.int(2 ** 32 - 2)
  }

  #halt(state: RunState): void {
    this.state = state
    this.#timer?.cancel()
    this.#timer = null
  }

  #powerOff(): void {
    if (!this.#executes) return
    this.#halt('shutdown')
    this.#parts.event('SHUTDOWN', { guest: true, reason: 'guest-shutdown' })
    void this.#parts.loop.run(async () => {
      await this.#drained()
      this.#parts.onPowerOff()
    })
  }

  #panic(): void {
    if (!this.#executes) return
    this.#parts.event('GUEST_PANICKED', { action: 'pause', info: { type: 'pvpanic' } })
    this.#halt('guest-panicked')
    this.#parts.event('STOP')
    this.#stopSoon('guest-panicked')
  }

  /** It was not fed for all the time that the guest has executed since it was armed. */
  #bark(): void {
    if (!this.#executes) return
    this.#parts.event('WATCHDOG', { action: 'pause' })
    this.#halt('watchdog')
    this.#parts.event('STOP')
    this.#stopSoon('watchdog')
  }

  // --- executing -----------------------------------------------------------------------------------------------------

  #schedule(): void {
    const { env, parameters } = this.#parts
    this.#timer = env.timers.after(parameters.stepMs / (1 - this.throttle), () => {
      if (this.#barksInMs === null) this.#step()
      else this.#hang(this.#barksInMs - parameters.stepMs)
    })
  }

  /** Its processor turns in circles. */
  #hang(barksInMs: number): void {
    this.#barksInMs = barksInMs
    if (barksInMs > 0) this.#schedule()
    else this.#bark()
  }

  #step(): void {
    try {
      this.#agent?.step()
      if (this.#agent?.holdsFiles !== true) this.#guest.step(this.#input.splice(0))
    } catch (error) {
      if (!(error instanceof GuestTrap)) throw error
      this.#panic()
    }
    if (this.#executes) this.#schedule()
  }

  /** What comes on its serial port. */
  type(chunk: Uint8Array): void {
    const { lines, rest } = splitLines(Buffer.concat([this.#typed, chunk]))
    this.#input.push(...lines)
    this.#typed = rest
  }

  #send(payload: Uint8Array): void {
    for (const { socket, mac } of this.#parts.nics) {
      const frame = packetFrame(mac, payload)
      const length = Buffer.alloc(4)
      length.writeUInt32BE(frame.length)
      socket.write([length, frame])
    }
  }

  // --- migration -----------------------------------------------------------------------------------------------------

  /** What is not in its memory. */
  get deviceState(): Json {
    return {
      input: this.#input,
      typed: this.#typed.toString('utf8'),
      barksInMs: this.#barksInMs,
      disks: this.#disks.map(({ state }) => state),
      agent: this.#agent?.state ?? null,
    }
  }

  set deviceState(state: Json) {
    const { input, typed, barksInMs, disks, agent } = state as {
      input: string[]
      typed: string
      barksInMs: number | null
      disks: Json[]
      agent: Json
    }
    this.#barksInMs = barksInMs
    if (this.#agent !== null) this.#agent.state = agent
    this.#input = input
    this.#typed = Buffer.from(typed, 'utf8')
    for (const [index, disk] of this.#disks.entries()) disk.state = disks[index] ?? []
  }
}
