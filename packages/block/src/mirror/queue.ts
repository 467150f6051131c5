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
import { describeGeneration, type Generation } from './generation.ts'
import { type Leg, type LegsHost, MirrorLegs, type MirrorLegsOptions } from './legs.ts'
import { RangeLocks } from './range-locks.ts'
import { MirrorRequest, type MirrorRequestKind } from './request.ts'
import { type ScrubFinding, type ScrubOptions, scrubLegs } from './scrub.ts'

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

export class MirrorQueue implements LegsHost {
  readonly #legs: MirrorLegs
  readonly #options: MirrorOptions
  readonly #whenOpen: () => void
  readonly #locks = new RangeLocks()
  readonly #requests: MirrorRequest[] = []
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  state: DeviceState = 'waiting'
  #reason = 'not opened yet'
  /** When somebody above asked for something last. */
  lastRequestAt = Number.NEGATIVE_INFINITY
  #dead: string | null = null
  #closing: Promise<void> | null = null
  #onIdle: (() => void) | null = null

  constructor(options: MirrorOptions, whenOpen: () => void) {
    this.#options = options
    this.#whenOpen = whenOpen
    this.#legs = new MirrorLegs(options, this)
  }

  get shape(): NonNullable<MirrorLegs['shape']> {
    assert(this.#legs.shape !== null, 'a mirror without a leg')
    return this.#legs.shape
  }

  get generation(): Generation {
    const { current } = this.#legs
    assert(current !== null, 'the mirror serves in no generation yet')
    return current
  }

  start(): void {
    this.#legs.start()
  }

  follow(generation: Generation): void {
    this.#legs.follow(generation)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  describeLegs(): { leg: string; role: string; state: DeviceState; why: string }[] {
    const { target } = this.#legs
    return Object.keys(target.legs)
      .sort()
      .map(id => {
        const leg = this.#legs.all().find(each => each.id === id)
        const away = this.#legs.whyAway(id)
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
    flags: object,
    io: Io,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#dead !== null || this.#closing !== null) {
        throw new BlockError('ESHUTDOWN', 'none', this.#dead ?? 'the device is being closed')
      }
      if (this.#requests.length >= MAX_MIRROR_REQUESTS) {
        throw new BlockError('ENOMEM', 'none', `more than ${MAX_MIRROR_REQUESTS} requests are under way`)
      }
      const done = resolve as (value: unknown) => void
      this.lastRequestAt = this.#legs.now
      const request = new MirrorRequest(kind, offset, length, data, flags, io, this.lastRequestAt, done, reject)
      if (request.isChange && !this.#locks.none) this.#enterLater(request)
      else this.#enter(request)
    })
  }

  #enter(request: MirrorRequest): void {
    request.place = this.#requests.length
    this.#requests.push(request)
    this.#dispatch(request)
  }

  #enterLater(request: MirrorRequest): void {
    const lock = this.#locks.covering(request.offset, request.offset + request.length)
    if (lock === null) {
      if (this.#dead === null) this.#enter(request)
      else request.reject(new BlockError('ESHUTDOWN', 'none', this.#dead))
    } else void this.#locks.over(lock).then(() => this.#enterLater(request))
  }

  /** Sends it to whoever has still to do it and can be asked. */
  #dispatch(request: MirrorRequest): void {
    if (!request.isChange) {
      if (request.sent === 0 && !request.mending) this.#sendRead(request)
      return
    }
    const wanted = this.#legs.writable & ~(request.done | request.sent | request.failed)
    if (wanted === 0 || this.#legs.switching) return
    for (const leg of this.#legs.open) if ((wanted & leg.bit) !== 0 && leg.device !== null) this.#send(request, leg)
  }

  #sendRead(request: MirrorRequest): void {
    if (this.#legs.current === null) return
    const leg = this.#readable(request.failed | request.sent)
    if (leg !== null) this.#send(request, leg)
  }

  /** The best in-sync leg but those in `not`: one that is up before one that is slow, before one that waits for paths. */
  #readable(not: number): Leg | null {
    const candidates = canary('syncing-leg-read') ? this.#legs.writable : this.#legs.readable
    let best: Leg | null = null
    for (const leg of this.#legs.open) {
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
    if (canary('acknowledged-by-one-leg') && (done & this.#legs.readable) !== 0) return true
    return (this.#legs.writable & ~done) === 0
  }

  #failed(request: MirrorRequest, leg: Leg, device: BlockDevice, error: unknown): void {
    const failure = error instanceof BlockError ? error : new BlockError('EIO', 'unknown', errorMessage(error))
    if (failure.errno === 'ESHUTDOWN') {
      // Its device is gone: it is sent again once the leg is open again, or forgotten with the leg.
      if (leg.device !== null && leg.device !== device) this.#dispatch(request)
      else if (!request.isChange) this.#dispatch(request)
      return
    }
    request.failed |= leg.bit
    request.error = failure
    if (!request.isChange) {
      this.#sendRead(request)
      if (request.sent === 0) this.#reject(request, failure)
      return
    }
    this.#weigh(request)
  }

  /** A change that some leg refused: is it the request, or the leg? */
  #weigh(request: MirrorRequest): void {
    const { writable, readable } = this.#legs
    const missing = writable & ~request.done
    // One that is still at it, or away, will have its say.
    if ((missing & ~request.failed) !== 0) {
      if ((request.done & readable) === 0) return
    } else if ((request.done & readable) === 0) {
      this.#reject(request, request.error ?? new BlockError('EIO', 'unknown', 'no leg did it'))
      return
    }
    for (const leg of this.#legs.open) {
      if ((request.failed & leg.bit) === 0) continue
      if (isPassing(request.error) && this.#legs.now - request.since < this.#legs.deadlineMs) continue
      this.#legs.trouble(leg, `${request.error?.errno ?? 'EIO'} at ${request.offset}: ${request.error?.message ?? ''}`)
    }
  }

  /**
   * What a leg could not read is written there anew, and only then is the request answered: whoever waits for requests to end
   * before the range is given away waits for that write too.
   */
  #readDone(request: MirrorRequest, leg: Leg, value: unknown): void {
    const bad = request.failed & this.#legs.readable & ~leg.bit
    if (bad === 0 || request.kind !== 'read') {
      this.#finish(request, value)
      return
    }
    request.mending = true
    const others = this.#legs.open.filter(other => (bad & other.bit) !== 0)
    void Promise.all(others.map(other => this.#repair(other, request))).then(() => {
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
    const differ = this.#legs.open.length > 1 && (request.done !== 0 || error.outcome !== 'none')
    const outcome = request.isChange && differ ? 'unknown' : error.outcome
    request.reject(
      outcome === error.outcome ? error : new BlockError(error.errno, outcome, error.message, { cause: error }),
    )
  }

  #leave(request: MirrorRequest): void {
    const last = this.#requests.pop()!
    if (last !== request) {
      this.#requests[request.place] = last
      last.place = request.place
    }
    request.place = -1
    if (request.isChange && !this.#locks.none) this.#locks.ended(request.offset, request.offset + request.length)
    if (this.#requests.length === 0) this.#onIdle?.()
  }

  // --- legs ------------------------------------------------------------------------------------------------------------

  switched(generation: Generation, former: Generation | null): void {
    this.#options.onGeneration?.(generation)
    if (former === null) {
      this.#whenOpen()
      return
    }
    // What a leg did stands where it has been in sync all along; a leg that was away in between does it again.
    const next = former.number + 1 === generation.number
    let keep = 0
    for (const leg of this.#legs.open) {
      if (next && former.legs[leg.id] === 'in-sync' && generation.legs[leg.id] === 'in-sync') keep |= leg.bit
    }
    for (const request of [...this.#requests]) {
      request.failed = 0
      request.error = null
      if (!request.isChange) {
        this.#dispatch(request)
        continue
      }
      request.done &= keep
      if ((this.#legs.writable & ~request.done) === 0) this.#finish(request, undefined)
      else this.#dispatch(request)
    }
  }

  reopened(_leg: Leg): void {
    for (const request of [...this.#requests]) this.#dispatch(request)
  }

  stateChanged(): void {
    if (this.#dead !== null) return
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
    for (const leg of this.#legs.open) if (leg.device === null || leg.state === 'waiting') stuck |= leg.bit
    if (stuck === 0 || (this.#legs.readable & ~stuck) === 0) return
    for (const request of [...this.#requests]) {
      const { isChange, sent, failed } = request
      if (isChange || sent === 0 || (sent & ~stuck) !== 0 || (this.#legs.readable & ~(stuck | failed)) === 0) continue
      this.#sendRead(request)
    }
  }

  #judge(): [DeviceState, string] {
    if (this.#legs.switching) return ['waiting', `${describeGeneration(this.#legs.target)} is being opened`]
    let slow: Leg | null = null
    for (const leg of this.#legs.open) {
      if (leg.device === null || leg.state === 'waiting') return ['waiting', `${leg.id}: ${this.#whyAway(leg)}`]
      if (leg.state === 'slow') slow ??= leg
    }
    return slow === null ? ['up', 'every leg answers'] : ['slow', `${slow.id}: ${slow.why}`]
  }

  #whyAway(leg: Leg): string {
    return this.#legs.whyAway(leg.id) ?? leg.why
  }

  tick(now: number): void {
    if (this.#requests.length === 0) return
    const { deadlineMs } = this.#legs
    for (const request of [...this.#requests]) {
      const age = now - request.since
      if (request.isChange) {
        if (isPassing(request.error) && request.failed !== 0) {
          request.failed = 0
          this.#dispatch(request)
        }
        if (age < deadlineMs || (request.done & this.#legs.readable) === 0) continue
        for (const leg of this.#legs.open) {
          if ((request.sent & leg.bit) !== 0) {
            this.#legs.trouble(leg, `a request was not answered within ${deadlineMs} ms: ${leg.why}`)
          }
        }
      } else if (!request.mending && (request.sent === 0 || age >= deadlineMs / 2)) {
        // Held, or in the hands of a leg that does not answer: another may.
        this.#sendRead(request)
      }
    }
  }

  // --- ranges of one's own ---------------------------------------------------------------------------------------------

  /** Runs with nothing in flight in the range, and nothing let in. */
  async #exclusive<T>(offset: number, length: number, run: () => Promise<T>): Promise<T> {
    const end = offset + length
    for (let lock = this.#locks.covering(offset, end); lock !== null; lock = this.#locks.covering(offset, end)) {
      await this.#locks.over(lock)
    }
    let ahead = 0
    for (const request of this.#requests) {
      if (request.isChange && request.offset < end && offset < request.offset + request.length) ahead += 1
    }
    const lock = this.#locks.take(offset, end, ahead)
    try {
      if (!canary('resync-without-range-lock')) await this.#locks.granted(lock)
      if (this.#dead !== null) throw new BlockError('ESHUTDOWN', 'none', this.#dead)
      return await run()
    } finally {
      this.#locks.release(lock)
    }
  }

  copy(offset: number, length: number, io: Io, mayWrite: () => boolean): Promise<void> {
    return this.#exclusive(offset, length, async () => {
      const generation = this.generation.number
      const step = Math.min(length, this.shape.limits.maximum)
      for (let at = 0; at < length; at += step) {
        const bytes = Math.min(step, length - at)
        const source = this.#copySource()
        if (source?.device == null || this.#legs.switching) throw changed(this.#legs.target)
        const targets = this.#legs.open.filter(leg => leg !== source)
        // It is as it is: whether it can be read is no matter.
        if (targets.length === 0) return
        const data = await source.device.read(offset + at, bytes, io)
        if (this.generation.number !== generation || this.#legs.switching) throw changed(this.#legs.target)
        if (!mayWrite()) throw new BlockError('ESHUTDOWN', 'none', 'what was read is not to be copied any more')
        for (const leg of targets) {
          const { device } = leg
          if (device === null) throw changed(this.#legs.target)
          await this.#inTime(leg, 'a copy was not answered', () => device.write(offset + at, data, { fua: true }, io))
        }
      }
    })
  }

  /** Nobody else waits for a leg in whose hands the range is: requests for it are not let in. */
  async #inTime<T>(leg: Leg, what: string, work: () => Promise<T>): Promise<T> {
    const { deadlineMs } = this.#legs
    const late = this.#options.timers.after(deadlineMs, () =>
      this.#legs.trouble(leg, `${what} within ${deadlineMs} ms: ${leg.why}`),
    )
    try {
      return await work()
    } finally {
      late.cancel()
    }
  }

  #copySource(): Leg | null {
    const right = this.#readable(0)
    if (!canary('resync-wrong-direction')) return right
    return this.#legs.open.find(leg => leg !== right && leg.device !== null) ?? right
  }

  scrub(offset: number, length: number, options: ScrubOptions, io: Io): Promise<ScrubFinding[]> {
    return this.#exclusive(offset, length, async () => {
      const generation = this.generation.number
      const stands = (): void => {
        if (this.generation.number !== generation || this.#legs.switching) throw changed(this.#legs.target)
      }
      stands()
      const legs = this.#legs.open.filter(leg => (this.#legs.readable & leg.bit) !== 0)
      const { deadlineMs } = this.#legs
      const trouble = (id: string, why: string): void => this.#legs.trouble(legs.find(leg => leg.id === id)!, why)
      const devices = legs.map(({ id, device }) => {
        if (device === null) throw changed(this.#legs.target)
        return { id, device }
      })
      const late = (id: string): void => trouble(id, `a scrub was not answered within ${deadlineMs} ms`)
      const patience = { timers: this.#options.timers, deadlineMs, late }
      const rewriting = this.#options.onRewrite ?? (() => undefined)
      const host = { io, stands, rewriting, failed: trouble, patience }
      const found = await scrubLegs(devices, offset, length, options, host)
      stands()
      return found
    })
  }

  /** What one leg could not read the other could: it is written there anew. A leg that can't take it is in trouble. */
  async #repair(leg: Leg, { offset, length, io }: MirrorRequest): Promise<void> {
    const { onRewrite } = this.#options
    const what = `it could not read ${length} bytes at ${offset}, nor take them anew`
    const rewrite = () =>
      this.#exclusive(offset, length, async () => {
        const source = this.#readable(leg.bit)
        if (source?.device == null || leg.device === null || this.#legs.switching) return
        const data = await source.device.read(offset, length, { ...io, deadlineAt: null })
        if (leg.device === null || this.#legs.switching) return
        onRewrite?.(offset, length)
        await leg.device.write(offset, data, { fua: true }, { ...io, deadlineAt: null })
      })
    try {
      await this.#inTime(leg, what, rewrite)
    } catch (error) {
      if (error instanceof BlockError && error.errno === 'ESHUTDOWN') return
      this.#legs.trouble(leg, `${what}: ${errorMessage(error)}`)
    }
  }

  // --- the end ---------------------------------------------------------------------------------------------------------

  abort(reason: string): void {
    if (this.#dead !== null) return
    this.#dead = reason
    this.#legs.stop(reason)
    for (const request of [...this.#requests]) {
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
    if (this.#requests.length > 0 && this.#dead === null) {
      await new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
    }
    await this.#legs.close()
    this.abort('closed in order')
  }
}

/** Cured by waiting a little: a storage that has not been told yet what we may write, or has no room for a request. */
function isPassing(error: BlockError | null): boolean {
  return error !== null && (error.errno === 'EPERM' || error.errno === 'ENOMEM')
}

function changed(target: Generation): BlockError {
  return new BlockError('EIO', 'none', `generation-changed: ${describeGeneration(target)}`, { retryable: true })
}
