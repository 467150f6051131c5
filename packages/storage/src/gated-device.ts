// One connection's view of a LUN: the gate that each of its requests passes right before the file is touched, the count
// of those that are in there, and the evidence of what they did. Whether the gate stands open is admission's decision.

import {
  type BlockDevice,
  BlockError,
  type BlockExtent,
  type Caps,
  type DeviceState,
  type Limits,
} from '@stellwerk/block/device.ts'
import type { Layout } from '@stellwerk/protocol/messages/storage.ts'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import type { HostClaim } from './admission/export-name.ts'
import { judgeWrite } from './admission/ranges.ts'
import { type Refusal, refusal } from './admission/refusal.ts'
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
  /** Set by `close`: nothing new, but what is in flight may pass. */
  #closing: Refusal | null = null
  #inFlight = 0
  #drained = false
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  readonly #closers: (() => void)[] = []
  readonly #forgetLun: () => void

  constructor(parts: GatedDeviceParts) {
    this.#parts = parts
    this.#lun = parts.lun
    this.size = parts.lun.size
    this.#forgetLun = parts.lun.onFailed(reason => {
      for (const listener of this.#listeners) listener('failed', reason)
    })
  }

  /** From now on nothing passes; what has passed may finish. Idempotent. */
  shut(refusal: Refusal): void {
    this.#refusal ??= refusal
    this.#settle()
  }

  check(): void {
    if (this.#refusal !== null) throw new BlockError('ESHUTDOWN', 'none', this.#refusal.message)
  }

  /** `part`: of a zero or trim, which is on record once more as a whole when all of it has taken effect. */
  applied(offset: number, length: number, part = false): void {
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
        ...(part ? { part } : {}),
        ...(claim?.via == null ? {} : { via: claim.via }),
      },
    })
  }

  /** For requests that take effect piece by piece. */
  get #piecewise(): Gate {
    return { check: () => this.check(), applied: (offset, length) => this.applied(offset, length, true) }
  }

  async read(offset: number, length: number): Promise<Uint8Array[]> {
    this.#begin(offset, length, LUN_LIMITS.maximum, 'EINVAL')
    try {
      return length === 0 ? [] : await this.#lun.read(offset, length, this)
    } finally {
      this.#end()
    }
  }

  async write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }): Promise<void> {
    let length = 0
    for (const part of data) length += part.length
    this.#begin(offset, length, LUN_LIMITS.maximum, 'ENOSPC')
    try {
      this.#mayWrite(offset, length)
      if (length > 0) await this.#lun.write(offset, data, length, flags.fua === true, this)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async flush(): Promise<void> {
    this.#begin(0, 0, 0, 'EINVAL')
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
    this.#begin(offset, length, this.size, 'ENOSPC')
    try {
      this.#mayWrite(offset, length)
      if (length > 0) await this.#lun.zero(offset, length, flags, this.#piecewise)
      this.applied(offset, length)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async trim(offset: number, length: number, flags: { readonly fua?: true }): Promise<void> {
    this.#begin(offset, length, this.size, 'EINVAL')
    try {
      this.#mayWrite(offset, length)
      if (length > 0) await this.#lun.trim(offset, length, flags.fua === true, this.#piecewise)
      this.applied(offset, length)
      if (flags.fua) this.#acknowledged(offset, length)
    } finally {
      this.#end()
    }
  }

  async blockStatus(offset: number, length: number): Promise<BlockExtent[]> {
    this.#begin(offset, length, this.size, 'EINVAL')
    try {
      if (length === 0) throw new BlockError('EINVAL', 'none', 'the status of no bytes')
      return this.#lun.blockStatus(offset, length, this)
    } finally {
      this.#end()
    }
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  /** The LUN stays; what of this connection is in flight is waited for. */
  async close(): Promise<void> {
    this.#closing ??= refusal('gone', 'the device is closed')
    this.#settle()
    if (!this.#drained) await new Promise<void>(resolve => this.#closers.push(resolve))
  }

  /** Refuses what the LUN has no bytes for; from its return to `#end` the request counts as in flight. */
  #begin(offset: number, length: number, maximum: number, pastEnd: 'EINVAL' | 'ENOSPC'): void {
    this.check()
    if (this.#closing !== null) throw new BlockError('ESHUTDOWN', 'none', this.#closing.message)
    if (!Number.isInteger(offset) || offset < 0) throw new BlockError('EINVAL', 'none', `there is no offset ${offset}`)
    if (offset > this.size || length > this.size - offset) {
      throw new BlockError(pastEnd, 'none', `${length} bytes at ${offset} reach past the end at ${this.size}`)
    }
    if (length > maximum)
      throw new BlockError('EINVAL', 'none', `${length} bytes are more than the maximum of ${maximum}`)
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
    const over = this.#refusal ?? this.#closing
    if (over === null || this.#inFlight > 0 || this.#drained) return
    this.#drained = true
    this.#forgetLun()
    for (const listener of this.#listeners) listener('closed', over.message)
    for (const closer of this.#closers) closer()
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
