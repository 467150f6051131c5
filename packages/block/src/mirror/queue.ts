// The requests of a mirror. A change is acknowledged when every leg that the generation writes to has it; one that a leg
// does not do is held until the coordinator has made a generation without that leg and storage has let us in there. Reads
// go to one leg, and to another on error.
//
// Requests that overlap in flight may land in different orders on the legs: whoever is above keeps them apart (a CSV disk
// does). The copier, the scrub and repairs take ranges for themselves (`exclusive`).

import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { type BlockDevice, BlockError, type DeviceState, type Io } from '../device.ts'
import { describeGeneration, type Generation, isWritable } from './generation.ts'
import { type Leg, type LegsHost, MirrorLegs, type MirrorLegsOptions } from './legs.ts'
import { OwnRanges, type OwnRangesHost } from './own-ranges.ts'
import { RangeLocks } from './range-locks.ts'
import { MirrorRequest, type MirrorRequestFlags, type MirrorRequestKind } from './request.ts'
import type { ScrubFinding, ScrubOptions } from './scrub.ts'

/** Requests in flight or held; more are refused with ENOMEM, outcome none. */
export const MAX_MIRROR_REQUESTS = 32_768

export interface MirrorOptions extends MirrorLegsOptions {
  /** Called when another generation is served in, before anything that was held is acknowledged. */
  readonly onGeneration?: (generation: Generation) => void
  /** Told before what a leg could not read, or a scrub found wrong, is written anew. */
  readonly onRewrite?: (offset: number, length: number) => void
  /** Gives up opening. */
  readonly signal?: AbortSignal
}

export class MirrorQueue implements LegsHost, OwnRangesHost {
  readonly legs: MirrorLegs
  readonly options: MirrorOptions
  readonly #whenOpen: () => void
  readonly locks = new RangeLocks()
  readonly requests: MirrorRequest[] = []
  readonly #own: OwnRanges
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  state: DeviceState = 'waiting'
  #reason = 'not opened yet'
  /** When somebody above asked for something last. */
  lastRequestAt = Number.NEGATIVE_INFINITY
  dead: string | null = null
  #closing: Promise<void> | null = null
  #onIdle: (() => void) | null = null

  constructor(options: MirrorOptions, whenOpen: () => void) {
    this.options = options
    this.#whenOpen = whenOpen
    this.legs = new MirrorLegs(options, this)
    this.#own = new OwnRanges(this)
  }

  get shape(): NonNullable<MirrorLegs['shape']> {
    assert(this.legs.shape !== null, 'a mirror without a leg')
    return this.legs.shape
  }

  get generation(): Generation {
    const { current } = this.legs
    assert(current !== null, 'the mirror serves in no generation yet')
    return current
  }

  start(): void {
    this.legs.start()
  }

  follow(generation: Generation): void {
    this.legs.follow(generation)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  describeLegs(): { leg: string; role: string; state: DeviceState; why: string }[] {
    const { target } = this.legs
    return Object.keys(target.legs)
      .sort()
      .map(id => {
        const leg = this.legs.all().find(each => each.id === id)
        const away = this.legs.whyAway(id)
        const state = away === null ? (leg?.state ?? 'closed') : target.legs[id] === 'stale' ? 'closed' : 'waiting'
        return { leg: id, role: target.legs[id]!, state, why: away ?? leg?.why ?? '' }
      })
  }

  // --- requests --------------------------------------------------------------------------------------------------------

  request<T>(
    kind: MirrorRequestKind,
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    flags: MirrorRequestFlags,
    io: Io,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.dead !== null || this.#closing !== null) {
        throw new BlockError('ESHUTDOWN', 'none', this.dead ?? 'the device is being closed')
      }
      if (this.requests.length >= MAX_MIRROR_REQUESTS) {
        throw new BlockError('ENOMEM', 'none', `more than ${MAX_MIRROR_REQUESTS} requests are under way`)
      }
      const done = resolve as (value: unknown) => void
      this.lastRequestAt = this.legs.now
      const request = new MirrorRequest(kind, offset, length, data, flags, io, this.lastRequestAt, done, reject)
      if (request.isChange && !this.locks.none) this.#enterLater(request)
      else this.#enter(request)
    })
  }

  #enter(request: MirrorRequest): void {
    request.place = this.requests.length
    this.requests.push(request)
    this.#dispatch(request)
  }

  #enterLater(request: MirrorRequest): void {
    const lock = this.locks.covering(request.offset, request.offset + request.length)
    if (lock === null) {
      if (this.dead === null) this.#enter(request)
      else request.reject(new BlockError('ESHUTDOWN', 'none', this.dead))
    } else void this.locks.over(lock).then(() => this.#enterLater(request))
  }

  /** Sends it to whoever has still to do it and can be asked. */
  #dispatch(request: MirrorRequest): void {
    if (!request.isChange) {
      if (request.sent === 0 && !request.mending) this.#sendRead(request)
      return
    }
    const wanted = this.legs.writable & ~(request.done | request.sent | request.failed | request.declined)
    if (wanted === 0 || this.legs.switching) return
    for (const leg of this.legs.open) if ((wanted & leg.bit) !== 0 && leg.device !== null) this.#send(request, leg)
  }

  #sendRead(request: MirrorRequest): void {
    if (this.legs.current === null) return
    const leg = this.readable(request.failed | request.sent)
    if (leg !== null) this.#send(request, leg)
  }

  /** The best in-sync leg but those in `not`: one that is up before one that is slow, before one that waits for paths. */
  readable(not: number): Leg | null {
    const candidates = canary('syncing-leg-read') ? this.legs.writable : this.legs.readable
    let best: Leg | null = null
    for (const leg of this.legs.open) {
      if ((candidates & leg.bit & ~not) === 0 || leg.device === null) continue
      if (leg.state === 'up') return leg
      if (best === null || (best.state === 'waiting' && leg.state === 'slow')) best = leg
    }
    return best
  }

  #send(request: MirrorRequest, leg: Leg): void {
    const { device } = leg
    assert(device !== null, 'a request for a leg that is not open')
    request.sent |= leg.bit
    request.everSent = true
    leg.underWay += 1
    request.run(device).then(
      value => {
        leg.underWay -= 1
        request.sent &= ~leg.bit
        request.done |= leg.bit
        if (request.place < 0) return
        if (!request.isChange) this.#readDone(request, leg, value)
        else if (this.#isDone(request)) this.#finish(request, value)
        else if (request.declined !== 0) this.#weighDeclined(request)
        else if (request.failed !== 0) this.#weigh(request)
      },
      (error: unknown) => {
        leg.underWay -= 1
        request.sent &= ~leg.bit
        if (request.place >= 0) this.#failed(request, leg, device, error)
      },
    )
  }

  #isDone({ done }: MirrorRequest): boolean {
    if (canary('acknowledged-by-one-leg') && (done & this.legs.readable) !== 0) return true
    return (this.legs.writable & ~done) === 0
  }

  #failed(request: MirrorRequest, leg: Leg, device: BlockDevice, error: unknown): void {
    const failure = error instanceof BlockError ? error : new BlockError('EIO', 'unknown', errorMessage(error))
    if (failure.outcome !== 'none') request.mayHaveLanded = true
    if (failure.errno === 'ESHUTDOWN') {
      // Its device is gone: it is sent again once the leg is open again, or forgotten with the leg.
      if (leg.device !== null && leg.device !== device) this.#dispatch(request)
      else if (!request.isChange) this.#dispatch(request)
      return
    }
    if (request.isDeclinedBy(failure)) {
      request.declined |= leg.bit
      request.error ??= failure
      this.#weighDeclined(request)
      return
    }
    request.failed |= leg.bit
    request.error = failure
    if (!request.isChange) {
      this.#sendRead(request)
      if (request.sent === 0) this.#reject(request, failure)
      return
    }
    if (request.declined !== 0) this.#weighDeclined(request)
    else this.#weigh(request)
  }

  /** Some legs can't zero it fast: no fault of theirs. If none can, nothing has changed; else they follow those that can, slowly. */
  #weighDeclined(request: MirrorRequest): void {
    const { writable } = this.legs
    if ((writable & ~request.declined) === 0) {
      this.#reject(request, request.error ?? new BlockError('ENOTSUP', 'none', 'no leg can zero this range fast'))
    } else if ((writable & (request.done | request.failed)) !== 0) {
      request.takeItsTime()
      this.#dispatch(request)
    }
  }

  /** A change that some leg refused: is it the request, or the leg? */
  #weigh(request: MirrorRequest): void {
    const { writable, readable } = this.legs
    const missing = writable & ~request.done
    // One that is still at it, or away, will have its say.
    if ((missing & ~request.failed) !== 0) {
      if ((request.done & readable) === 0) return
    } else if ((request.done & readable) === 0) {
      this.#reject(request, request.error ?? new BlockError('EIO', 'unknown', 'no leg did it'))
      return
    }
    for (const leg of this.legs.open) {
      if ((request.failed & leg.bit) === 0) continue
      if (isPassing(request.error) && this.legs.now - request.since < this.legs.deadlineMs) continue
      this.legs.trouble(leg, `${request.error?.errno ?? 'EIO'} at ${request.offset}: ${request.error?.message ?? ''}`)
    }
  }

  /**
   * What a leg could not read is written there anew, and only then is the request answered: whoever waits for requests to end
   * before the range is given away waits for that write too.
   */
  #readDone(request: MirrorRequest, leg: Leg, value: unknown): void {
    const bad = request.failed & this.legs.readable & ~leg.bit
    if (bad === 0 || request.kind !== 'read') {
      this.#finish(request, value)
      return
    }
    request.mending = true
    const others = this.legs.open.filter(other => (bad & other.bit) !== 0)
    void Promise.all(others.map(other => this.#own.repair(other, request))).then(() => {
      if (request.place >= 0) this.#finish(request, value)
    })
  }

  #finish(request: MirrorRequest, value: unknown): void {
    this.#leave(request)
    request.resolve(value)
  }

  #reject(request: MirrorRequest, error: BlockError): void {
    this.#leave(request)
    // Legs that failed in part, each in its own way, may differ: whoever marked the range must have them made equal.
    const differ = this.legs.open.length > 1 && (request.done !== 0 || request.mayHaveLanded)
    const outcome = request.isChange && differ ? 'unknown' : error.outcome
    request.reject(
      outcome === error.outcome ? error : new BlockError(error.errno, outcome, error.message, { cause: error }),
    )
  }

  #leave(request: MirrorRequest): void {
    const last = this.requests.pop()!
    if (last !== request) {
      this.requests[request.place] = last
      last.place = request.place
    }
    request.place = -1
    if (request.isChange && !this.locks.none) this.locks.ended(request.offset, request.offset + request.length)
    if (this.requests.length === 0) this.#onIdle?.()
  }

  // --- legs ------------------------------------------------------------------------------------------------------------

  switched(generation: Generation, former: Generation | null): void {
    this.options.onGeneration?.(generation)
    if (former === null) {
      this.#whenOpen()
      return
    }
    if (!Object.keys(former.legs).some(id => former.legs[id] === 'in-sync' && generation.legs[id] === 'in-sync')) {
      this.#forgo(generation, former)
      return
    }
    // What a leg did stands where it has been in sync all along; a leg that was away in between does it again.
    const next = former.number + 1 === generation.number
    let keep = 0
    for (const leg of this.legs.open) {
      if (next && former.legs[leg.id] === 'in-sync' && generation.legs[leg.id] === 'in-sync') keep |= leg.bit
    }
    for (const request of [...this.requests]) {
      request.failed = 0
      request.declined = 0
      request.error = null
      if (!request.isChange) {
        this.#dispatch(request)
        continue
      }
      request.done &= keep
      if ((this.legs.writable & ~request.done) === 0) this.#finish(request, undefined)
      else this.#dispatch(request)
    }
  }

  /**
   * An operator goes on with a leg that was behind: what it holds where is not what it was when these were asked for, so that they
   * would land in what is another's there. Nobody was told that they are done.
   */
  #forgo(generation: Generation, former: Generation): void {
    const isThere = this.legs.open.some(({ id }) => isWritable(former.legs[id]) && generation.legs[id] === 'in-sync')
    for (const request of [...this.requests]) {
      const unknown = request.isChange && request.everSent && isThere
      this.#leave(request)
      const message = `${describeGeneration(generation)} goes on with what a leg had that was behind`
      request.reject(new BlockError('EIO', unknown ? 'unknown' : 'none', message))
    }
  }

  reopened(_leg: Leg): void {
    for (const request of [...this.requests]) this.#dispatch(request)
  }

  again(leg: Leg): void {
    for (const request of [...this.requests]) {
      if (!request.isChange || (request.failed & leg.bit) === 0) continue
      request.failed &= ~leg.bit
      this.#dispatch(request)
    }
  }

  stateChanged(): void {
    if (this.dead !== null) return
    this.#moveReads()
    const [state, reason] = this.#judge()
    if (state === this.state && reason === this.#reason) return
    const told = state !== this.state
    this.state = state
    this.#reason = reason
    if (told) for (const listener of this.#listeners) listener(state, reason)
  }

  /** Reads that only legs without a usable path have in hand are asked of another at once: either answer will do. */
  #moveReads(): void {
    let stuck = 0
    for (const leg of this.legs.open) if (leg.device === null || leg.state === 'waiting') stuck |= leg.bit
    if (stuck === 0 || (this.legs.readable & ~stuck) === 0) return
    for (const request of [...this.requests]) {
      const { isChange, sent, failed } = request
      if (isChange || sent === 0 || (sent & ~stuck) !== 0 || (this.legs.readable & ~(stuck | failed)) === 0) continue
      this.#sendRead(request)
    }
  }

  #judge(): [DeviceState, string] {
    if (this.legs.switching) return ['waiting', `${describeGeneration(this.legs.target)} is being opened`]
    let slow: Leg | null = null
    for (const leg of this.legs.open) {
      if (leg.device === null || leg.state === 'waiting') return ['waiting', `${leg.id}: ${this.#whyAway(leg)}`]
      if (leg.state === 'slow') slow ??= leg
    }
    return slow === null ? ['up', 'every leg answers'] : ['slow', `${slow.id}: ${slow.why}`]
  }

  #whyAway(leg: Leg): string {
    return this.legs.whyAway(leg.id) ?? leg.why
  }

  tick(now: number): void {
    if (this.requests.length === 0) return
    const { deadlineMs } = this.legs
    for (const request of [...this.requests]) {
      const age = now - request.since
      if (request.isChange) {
        if (isPassing(request.error) && request.failed !== 0) {
          request.failed = 0
          request.error = null
          this.#dispatch(request)
        }
        if (age < deadlineMs || (request.done & this.legs.readable) === 0) continue
        for (const leg of this.legs.open) {
          if ((request.sent & leg.bit) !== 0) {
            this.legs.trouble(leg, `a request was not answered within ${deadlineMs} ms: ${leg.why}`)
          }
        }
      } else if (!request.mending && (request.sent === 0 || age >= deadlineMs / 2)) {
        // Held, or in the hands of a leg that does not answer: another may.
        this.#sendRead(request)
      }
    }
  }

  copy(offset: number, length: number, io: Io, mayWrite: () => boolean): Promise<readonly number[]> {
    return this.#own.copy(offset, length, io, mayWrite)
  }

  scrub(offset: number, length: number, options: ScrubOptions, io: Io): Promise<ScrubFinding[]> {
    return this.#own.scrub(offset, length, options, io)
  }

  // --- the end ---------------------------------------------------------------------------------------------------------

  abort(reason: string): void {
    if (this.dead !== null) return
    this.dead = reason
    this.legs.stop(reason)
    for (const request of [...this.requests]) {
      const unknown = request.isChange && request.everSent
      this.#leave(request)
      request.reject(new BlockError('ESHUTDOWN', unknown ? 'unknown' : 'none', reason))
    }
    this.state = 'closed'
    for (const listener of this.#listeners) listener('closed', reason)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.requests.length > 0 && this.dead === null) {
      await new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
    }
    await this.legs.close()
    this.abort('closed in order')
  }
}

/** Cured by waiting a little: a storage that has not been told yet what we may write, or has no room for a request. */
function isPassing(error: BlockError | null): boolean {
  return error !== null && (error.errno === 'EPERM' || error.errno === 'ENOMEM')
}
