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
  | 'shutdown'

const SLOTS: readonly SlotName[] = ['log', 'readBack', ...SCRATCH_SLOTS]

export interface MachineParts {
  readonly env: Environment
  readonly loop: MainLoop
  readonly vm: string
  readonly parameters: ModelParameters
  readonly console: Pick<ServedSocket, 'write'>
  readonly nic: { readonly socket: Pick<ServedSocket, 'write'>; readonly mac: string } | null
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
  #disk: VirtualDisk | null = null
  #agent: SimulatedGuestAgent | null = null
  #input: string[] = []
  #typed: Buffer = Buffer.alloc(0)
  #timer: Timer | null = null

  constructor(parts: MachineParts) {
    this.#parts = parts
    this.memory = Buffer.alloc(parts.parameters.pages * PAGE_BYTES)
    this.#registers = new Registers(this.memory)
    this.#registers.random = 1 + parts.env.random.int(2 ** 32 - 2)
    const disk = (): VirtualDisk | null => this.#disk
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
    })
  }

  attach(disk: VirtualDisk): void {
    this.#disk = disk
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
    this.#disk?.resume()
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
    return (await this.#disk?.drained()) ?? null
  }

  /** A request has failed: told at once, obeyed when the main loop comes to it. */
  blockError(operation: string, why: string): void {
    this.#parts.event('BLOCK_IO_ERROR', {
      ...{ device: '', 'node-name': 'disk0', nospace: false, action: 'stop', reason: why },
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
      await this.#disk?.drained()
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

  // --- executing -----------------------------------------------------------------------------------------------------

  #schedule(): void {
    const { env, parameters } = this.#parts
    this.#timer = env.timers.after(parameters.stepMs / (1 - this.throttle), () => this.#step())
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
    const { nic } = this.#parts
    if (nic === null) return
    const frame = packetFrame(nic.mac, payload)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(frame.length)
    nic.socket.write([length, frame])
  }

  // --- migration -----------------------------------------------------------------------------------------------------

  /** What is not in its memory. */
  get deviceState(): Json {
    return {
      input: this.#input,
      typed: this.#typed.toString('utf8'),
      disk: this.#disk?.state ?? null,
      agent: this.#agent?.state ?? null,
    }
  }

  set deviceState(state: Json) {
    const { input, typed, disk, agent } = state as { input: string[]; typed: string; disk: Json; agent: Json }
    if (this.#agent !== null) this.#agent.state = agent
    this.#input = input
    this.#typed = Buffer.from(typed, 'utf8')
    if (this.#disk !== null && disk !== null) this.#disk.state = disk
  }
}
