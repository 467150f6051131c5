// One connection's view of a LUN: the gate that each of its requests passes right before the file is touched, the count
// of those that are in there, and the evidence of what they did. Whether the gate stands open is admission's decision.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Io,
  type Limits,
} from '@stellwerk/block/device.ts'
import type { Layout } from '@stellwerk/protocol/messages/storage.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { HostClaim } from './admission/export-name.ts'
import { judgeWrite } from './admission/ranges.ts'
import type { Refusal } from './admission/refusal.ts'
import { type Gate, LUN_CAPS, LUN_LIMITS, type Lun } from './lun/lun.ts'

/** When a host's last probe or request was answered. One for all of a host's connections. */
export interface Seen {
  at: number | null
}

export interface GatedDeviceParts {
  readonly env: Environment
  readonly lun: Lun
  /** The LUN's name, as records call it. */
  readonly name: string
  /** Null: a tool. */
  readonly claim: HostClaim | null
  readonly seen: Seen | null
  /** As it stands at this moment. */
  readonly layout: () => Layout | null
  /** Called once, when the gate is shut and nothing that passed it is under way any more. */
  readonly onDrained: () => void
}

export class GatedDevice implements BlockDevice, Gate {
  readonly size: number
  readonly limits: Limits = LUN_LIMITS
  readonly caps: Caps = LUN_CAPS
  readonly #parts: GatedDeviceParts
  readonly #lun: Lun
  #refusal: Refusal | null = null
  #inFlight = 0
  #drained = false

  constructor(parts: GatedDeviceParts) {
    this.#parts = parts
    this.#lun = parts.lun
    this.size = parts.lun.size
  }

  /** From now on nothing passes; what has passed may finish. Idempotent. */
  shut(refusal: Refusal): void {
    this.#refusal ??= refusal
    this.#settle()
  }

  check(): void {
    if (this.#refusal !== null) throw new BlockError('ESHUTDOWN', 'none', this.#refusal.message)
  }

  applied(offset: number, length: number): void {
    const { env, claim, name } = this.#parts
    if (!env.trace.on('io')) return
    env.trace.emit({
      level: 'io',
      kind: 'storage.applied',
      volume: name,
      ...(claim === null ? {} : { host: claim.host }),
      body: {
        epoch: claim?.epoch ?? null,
        session: claim === null ? null : [...claim.session],
        owner: claim?.owner ?? null,
        generation: claim?.generation ?? null,
        offset,
        length,
      },
    })
  }

  async read(offset: number, length: number): Promise<Uint8Array[]> {
    this.#begin()
    try {
      return await this.#lun.read(offset, length, this)
    } finally {
      this.#end()
    }
  }

  async write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }): Promise<void> {
    this.#begin()
    try {
      let length = 0
      for (const part of data) length += part.length
      this.#mayWrite(offset, length)
      await this.#lun.write(offset, data, length, flags.fua === true, this)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async flush(): Promise<void> {
    this.#begin()
    try {
      await this.#lun.flush(this)
      this.#acknowledged(0, this.size)
    } finally {
      this.#end()
    }
  }

  async zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
  ): Promise<void> {
    this.#begin()
    try {
      this.#mayWrite(offset, length)
      await this.#lun.zero(offset, length, flags, this)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async trim(offset: number, length: number, flags: { readonly fua?: true }): Promise<void> {
    this.#begin()
    try {
      this.#mayWrite(offset, length)
      await this.#lun.trim(offset, length, flags.fua === true, this)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async blockStatus(offset: number, length: number, _io: Io): Promise<BlockExtent[]> {
    this.#begin()
    try {
      return this.#lun.blockStatus(offset, length, this)
    } finally {
      this.#end()
    }
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#lun.onFailed(reason => listener('failed', reason))
  }

  /** The LUN stays; only this connection's requests are waited for by its owner (`onDrained`). */
  async close(): Promise<void> {
    this.shut({ code: 'gone', message: 'gone the device is closed' })
  }

  #begin(): void {
    this.check()
    this.#inFlight += 1
  }

  #end(): void {
    this.#inFlight -= 1
    const { seen, env } = this.#parts
    // Answered, well or not: the host was there.
    if (seen !== null) seen.at = env.clock.now()
    this.#settle()
  }

  #settle(): void {
    assert(this.#inFlight >= 0, 'a request ends once')
    if (this.#refusal === null || this.#inFlight > 0 || this.#drained) return
    this.#drained = true
    this.#parts.onDrained()
  }

  #mayWrite(offset: number, length: number): void {
    const refused = judgeWrite(this.#parts.layout(), this.#parts.claim, offset, length)
    if (refused === null) return
    throw new BlockError('EPERM', 'none', refused.message, refused.hint === undefined ? {} : { hint: refused.hint })
  }

  #acknowledged(offset: number, length: number): void {
    const { env, claim, name } = this.#parts
    if (!env.trace.on('io')) return
    env.trace.emit({
      level: 'io',
      kind: 'storage.acknowledged',
      volume: name,
      ...(claim === null ? {} : { host: claim.host }),
      body: { offset, length },
    })
  }
}
