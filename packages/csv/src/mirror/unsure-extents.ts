// Extents that are being compared, for an owner and all of its scrubs together: while one is, it changes hands to nobody
// (`OwnerState.comparing`). Of some it is not known whether a host is still at them, since it did not answer: they are held back
// until it does when it is asked again, or until another has the disk.

import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { Holder } from '../format/metadata.ts'
import type { OwnerState } from '../owner/state.ts'
import type { ScrubHosts } from './owner-scrub.ts'

/** Whoever waits for such an extent, in a VM's first write on another host say, waits so much longer. */
const ASK_AGAIN_MS = 1_000
/** Answers after which the host surely does not touch that extent for us any more. */
const OVER = new Set(['EIO', 'ESHUTDOWN', 'EPERM', 'ENOMEM', 'disk-switching', 'outcome-unknown', 'not-mirrored'])

export function isSurelyOver(error: unknown): boolean {
  return OVER.has(errorCode(error))
}

/** What a host was asked to compare. */
export interface Asked {
  readonly disk: string
  readonly holder: Holder
  readonly index: number
  /** Within the extent. */
  readonly at: number
}

export interface UnsureExtentsOptions {
  readonly state: OwnerState
  readonly hosts: ScrubHosts | null
  readonly timers: Environment['timers']
  /** Something that waited may go on. */
  readonly news: () => void
}

export class UnsureExtents {
  readonly #options: UnsureExtentsOptions
  readonly #unsure = new Map<number, Asked>()
  readonly #busy = new Set<number>()
  #asking = false
  #stopped = false

  constructor(options: UnsureExtentsOptions) {
    this.#options = options
  }

  /** It is compared, or asked about, at this moment: nobody else begins with it. */
  isBusy(extent: number): boolean {
    return this.#busy.has(extent)
  }

  began(extent: number): void {
    this.#busy.add(extent)
    this.#options.state.comparing.add(extent)
  }

  ceased(extent: number): void {
    this.#busy.delete(extent)
    if (!this.#unsure.has(extent)) this.#options.state.comparing.delete(extent)
    this.#options.news()
    if (this.#unsure.size > 0 && !this.#asking) void this.#askAgain()
  }

  /** A host is at it from now on, until it is known that it is not. */
  asked(extent: number, asked: Asked): void {
    this.#unsure.set(extent, asked)
  }

  answered(extent: number): void {
    this.#unsure.delete(extent)
  }

  /** A host that has let go of the disk, or was fenced, is not at its extents any more. */
  settle(): void {
    const { state, news } = this.#options
    for (const [extent, { disk, holder }] of this.#unsure) {
      const now = state.metadata.disks.get(disk)?.holder
      if (this.#busy.has(extent) || (now != null && isSame(now, holder))) continue
      this.#unsure.delete(extent)
      state.comparing.delete(extent)
      news()
    }
  }

  stop(): void {
    this.#stopped = true
  }

  /**
   * A host that answers for the same region is past what it was asked before. It is told of no good leg: whoever named one may
   * have thought better of it. What it finds has been left out.
   */
  async #askAgain(): Promise<void> {
    const { state, hosts, timers } = this.#options
    this.#asking = true
    while (!this.#stopped && this.#unsure.size > 0) {
      await new Promise<void>(resolve => timers.after(ASK_AGAIN_MS, resolve))
      this.settle()
      for (const [extent, { disk, holder, index, at }] of [...this.#unsure]) {
        if (this.#stopped || hosts === null) break
        if (this.#busy.has(extent)) continue
        this.began(extent)
        try {
          const part = { index, extent, offset: at, length: state.metadata.layout.regionBytes, goodLeg: null }
          await hosts.part(holder, disk, part)
          this.answered(extent)
        } catch (error) {
          if (isSurelyOver(error)) this.answered(extent)
        } finally {
          this.ceased(extent)
        }
      }
    }
    this.#asking = false
  }
}

export function isSame(a: Holder, b: Holder): boolean {
  return a.host === b.host && a.hostEpoch === b.hostEpoch && a.epoch === b.epoch
}
