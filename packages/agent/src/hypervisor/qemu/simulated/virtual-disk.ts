// The simulated QEMU's virtio disk: requests go to an NBD server; one that fails is kept, stops the machine, and is issued again
// when that goes on (`werror=stop,rerror=stop`). A guest never hears of a failure.

import { type BlockDevice, BlockError, type Io } from '@stellwerk/block/device.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { InFlight } from '../../lifecycle.ts'
import type { DiskOperation } from '../../model/guest.ts'
import { Registers, type SlotName } from '../../model/registers.ts'

export interface DiskRequest {
  readonly slot: SlotName
  readonly operation: DiskOperation
  readonly offset: number
  /** In the guest's memory. */
  readonly at: number
  readonly length: number
}

export class VirtualDisk {
  readonly #device: BlockDevice
  readonly #memory: Buffer
  readonly #registers: Registers
  readonly #io: Io
  readonly #onFailure: (operation: DiskOperation, why: string) => void
  readonly #inFlight = new InFlight()
  #kept: DiskRequest[] = []
  /** Since the last flush. */
  #hasWritten = false

  constructor(
    device: BlockDevice,
    memory: Buffer,
    vm: string,
    onFailure: (operation: DiskOperation, why: string) => void,
  ) {
    this.#device = device
    this.#memory = memory
    this.#registers = new Registers(memory)
    this.#io = { origin: vm, deadlineAt: null }
    this.#onFailure = onFailure
  }

  get bytes(): number {
    return this.#device.size
  }

  get unitBytes(): number {
    return Math.max(512, this.#device.limits.minimum)
  }

  submit(request: DiskRequest): void {
    assert(this.#registers.slotState(request.slot) !== 'in-flight', `slot ${request.slot} is in flight already`)
    this.#registers.setSlotState(request.slot, 'in-flight')
    this.#issue(request)
  }

  /** The machine goes on. */
  resume(): void {
    for (const request of this.#kept.splice(0)) this.#issue(request)
  }

  /** All that was issued has an answer, and what was written is durable, or this gives why not: QEMU stops a machine no sooner. */
  async drained(): Promise<string | null> {
    await this.#inFlight.drained()
    if (!this.#hasWritten) return null
    this.#hasWritten = false
    try {
      await this.#device.flush(this.#io)
      return null
    } catch (error) {
      this.#hasWritten = true
      return wordsOf(error)
    }
  }

  /** The guest's driver is gone, and what it asked for with it: what is under way is waited for, what was kept forgotten. */
  async reset(): Promise<void> {
    await this.#inFlight.drained()
    this.#kept = []
  }

  /** What a migration takes along: nothing else of a drained disk is not in the guest's memory. */
  get state(): Json {
    return this.#kept.map(request => ({ ...request }))
  }

  set state(kept: Json) {
    this.#kept = kept as unknown as DiskRequest[]
  }

  #issue(request: DiskRequest): void {
    this.#inFlight.begin()
    this.#transfer(request).then(
      () => {
        this.#registers.setSlotState(request.slot, 'done')
        this.#inFlight.end()
      },
      (error: unknown) => {
        this.#kept.push(request)
        this.#onFailure(request.operation, wordsOf(error))
        this.#inFlight.end()
      },
    )
  }

  async #transfer({ operation, offset, at, length }: DiskRequest): Promise<void> {
    switch (operation) {
      case 'read': {
        let to = at
        for (const part of await this.#device.read(offset, length, this.#io)) {
          this.#memory.set(part, to)
          to += part.length
        }
        return
      }
      case 'write':
        this.#hasWritten = true
        await this.#device.write(offset, [Buffer.from(this.#memory.subarray(at, at + length))], {}, this.#io)
        // A virtio disk with a write cache knows no FUA: its guest asks for a flush.
        return this.#device.flush(this.#io)
      case 'zero':
        this.#hasWritten = true
        await this.#device.zero(offset, length, {}, this.#io)
        return this.#device.flush(this.#io)
      case 'trim':
        this.#hasWritten = true
        return this.#device.trim(offset, length, {}, this.#io)
      case 'flush':
        return this.#device.flush(this.#io)
    }
  }
}

/** What is no answer of the disk is a bug. */
function wordsOf(error: unknown): string {
  if (error instanceof BlockError) return error.message
  throw error
}
