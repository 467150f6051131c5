// One BlockDevice over several paths to the same export. A request that loses its path is sent again on another, unseen
// by the caller; while no path is usable, requests wait. Which path, and when again, is decided in path-core.ts.
//
// A flush covers what was acknowledged on any path, but never what a storage subsystem forgot in a crash: callers that
// must not lose acknowledged writes write with FUA.

import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type BlockDevice, BlockError, type BlockExtent, type Caps, type DeviceState, type Io } from '../device.ts'
import { type Connection, type PathRefusal, PathSet, type PathSetOptions, type PathStatus } from './path-set.ts'
import type { PathPolicy } from './path-state.ts'
import { isMutating, MultipathRequest, type RequestKind } from './request.ts'

export { FATAL_REFUSALS, type PathRefusal, type PathRoute, type PathStatus } from './path-set.ts'
export { DEFAULT_PATH_CONFIG, type PathPolicy, type PathState } from './path-state.ts'

/** Requests held while no path is usable; more are refused with ENOMEM, outcome none. */
export const MAX_WAITING_REQUESTS = 16_384

export interface MultipathOptions extends PathSetOptions {
  /** Called once: the set is dead, all requests fail with ESHUTDOWN. */
  readonly onRefused?: (refusal: PathRefusal) => void
  /** Gives up opening while no path has answered yet. */
  readonly signal?: AbortSignal
  /** Called at once, before a path is connected: what can be seen and set while it opens, and later. */
  readonly onMade?: (control: MultipathControl) => void
  /** Called once, when it is dead or closed. */
  readonly onEnd?: () => void
  /** Called each probe interval while something waits for an answer: for how long the oldest of it has. */
  readonly onWaiting?: (oldestMs: number) => void
}

export interface MultipathControl {
  paths(): PathStatus[]
  /** Nothing is sent on paths of these names while any other can be used. */
  disable(names: readonly string[]): void
  setPolicy(policy: PathPolicy): void
}

/** Resolves with the first path connected; rejects if the server refuses for good or `signal` aborts. */
export function openMultipath(options: MultipathOptions): Promise<MultipathDevice> {
  return new Promise((resolve, reject) => {
    const { signal } = options
    const requests = new RequestQueue(options, {
      opened: first => {
        signal?.removeEventListener('abort', onAbort)
        resolve(new MultipathDevice(requests, first))
      },
      dead: reject,
    })
    options.onMade?.(requests)
    const onAbort = (): void => requests.abort('opening was given up')
    if (signal?.aborted === true) onAbort()
    else {
      signal?.addEventListener('abort', onAbort)
      requests.start()
    }
  })
}

export class MultipathDevice implements BlockDevice {
  readonly size: number
  readonly limits: BlockDevice['limits']
  readonly caps: Caps
  readonly blockStatus?: (offset: number, length: number, io: Io) => Promise<BlockExtent[]>
  readonly #requests: RequestQueue

  /** Made by `openMultipath`. */
  constructor(requests: RequestQueue, first: BlockDevice) {
    this.#requests = requests
    this.size = first.size
    this.limits = first.limits
    this.caps = first.caps
    if (first.blockStatus !== undefined) {
      this.blockStatus = (offset, length, io) => requests.request('status', offset, length, null, NO_FLAGS, io)
    }
  }

  get session(): number {
    return this.#requests.session
  }

  paths(): PathStatus[] {
    return this.#requests.paths()
  }

  read(offset: number, length: number, io: Io): Promise<Uint8Array[]> {
    return this.#requests.request('read', offset, length, null, NO_FLAGS, io)
  }

  write(offset: number, data: readonly Uint8Array[], flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#requests.request('write', offset, 0, data, flags, io)
  }

  flush(io: Io): Promise<void> {
    return this.#requests.request('flush', 0, 0, null, NO_FLAGS, io)
  }

  zero(
    offset: number,
    length: number,
    flags: { readonly fua?: true; readonly noHole?: true; readonly fast?: true },
    io: Io,
  ): Promise<void> {
    return this.#requests.request('zero', offset, length, null, flags, io)
  }

  trim(offset: number, length: number, flags: { readonly fua?: true }, io: Io): Promise<void> {
    return this.#requests.request('trim', offset, length, null, flags, io)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#requests.onState(listener)
  }

  /** Waits for all requests, also those that wait for a path; nothing new is taken. */
  close(): Promise<void> {
    return this.#requests.close()
  }

  /** Ends it at once: everything rejects with ESHUTDOWN, sent writes with outcome unknown. */
  abort(reason: string): void {
    this.#requests.abort(reason)
  }
}

const NO_FLAGS = {}

class RequestQueue implements MultipathControl {
  readonly #options: MultipathOptions
  readonly #paths: PathSet
  /** Nothing can be asked of it before it is open: until then the opening itself is what waits. */
  #openingSince: number | null
  readonly #listeners: ((state: DeviceState, reason: string) => void)[] = []
  readonly #whenDead: (error: Error) => void
  /** Lost their path; sent again before anything new. */
  #retries: MultipathRequest[] = []
  #waiting: MultipathRequest[] = []
  #state: DeviceState = 'waiting'
  #dead: StellwerkError | null = null
  #closing: Promise<void> | null = null
  #onIdle: (() => void) | null = null

  constructor(
    options: MultipathOptions,
    when: { readonly opened: (first: BlockDevice) => void; readonly dead: (error: Error) => void },
  ) {
    this.#options = options
    this.#whenDead = when.dead
    this.#openingSince = options.clock.now()
    this.#paths = new PathSet(options, {
      opened: first => {
        this.#openingSince = null
        when.opened(first)
      },
      changed: () => this.#changed(),
      ticked: () => this.#tellWaiting(),
      refused: (error, refusal) => {
        this.#die(error, 'failed')
        options.onRefused?.(refusal)
      },
    })
  }

  get session(): number {
    return this.#paths.session
  }

  start(): void {
    this.#paths.start()
  }

  paths(): PathStatus[] {
    return this.#paths.statuses()
  }

  disable(names: readonly string[]): void {
    if (this.#dead === null) this.#paths.disable(names)
  }

  setPolicy(policy: PathPolicy): void {
    if (this.#dead === null) this.#paths.setPolicy(policy)
  }

  onState(listener: (state: DeviceState, reason: string) => void): void {
    this.#listeners.push(listener)
  }

  #tellWaiting(): void {
    const { onWaiting } = this.#options
    if (onWaiting === undefined || this.#dead !== null) return
    let oldest = this.#openingSince ?? this.#paths.oldestAskedAt
    for (const { askedAt } of [...this.#retries, ...this.#waiting.slice(0, 1)]) {
      if (askedAt !== null && (oldest === null || askedAt < oldest)) oldest = askedAt
    }
    if (oldest !== null) onWaiting(this.#paths.now - oldest)
  }

  request<T>(
    kind: RequestKind,
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    flags: object,
    io: Io,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#dead !== null || this.#closing !== null) {
        const why = this.#dead?.message ?? 'the device is being closed'
        throw new BlockError('ESHUTDOWN', 'none', why, { cause: this.#dead ?? undefined })
      }
      const done = resolve as (value: unknown) => void
      const request = new MultipathRequest(kind, offset, length, data, flags, io, done, reject)
      const connection = this.#retries.length + this.#waiting.length === 0 ? this.#paths.choose() : null
      if (connection !== null) this.#send(request, connection)
      else if (this.#waiting.length < MAX_WAITING_REQUESTS) {
        request.askedAt = this.#paths.now
        this.#waiting.push(request)
      } else throw new BlockError('ENOMEM', 'none', `more than ${MAX_WAITING_REQUESTS} requests wait for a path`)
    })
  }

  #send(request: MultipathRequest, connection: Connection): void {
    assert(connection.session === this.#paths.session && !connection.dead, 'a request on a connection that is over')
    assert(request.unknownIn < connection.session, 'IO3: an unknown write is retried only in a higher session')
    this.#paths.sent(request, connection)
    request.run(connection.device).then(
      value => {
        this.#paths.finished(request, connection)
        request.resolve(value)
        this.#checkIdle()
      },
      (error: unknown) => {
        this.#paths.finished(request, connection)
        this.#failed(request, connection, error)
        this.#checkIdle()
      },
    )
  }

  /** Only ESHUTDOWN is the path's failure; any other error is the disk's own answer. */
  #failed(request: MultipathRequest, connection: Connection, error: unknown): void {
    if (!(error instanceof BlockError) || error.errno !== 'ESHUTDOWN') {
      request.reject(error)
      return
    }
    const unknown = error.outcome === 'unknown' && isMutating(request.kind)
    if (unknown && !canary('session-not-raised')) request.unknownIn = Math.max(request.unknownIn, connection.session)
    if (this.#dead === null) this.#retries.push(request)
    else request.reject(this.#deadError(request))
    // On a connection that stands it is the server's wish that we leave.
    this.#paths.lose(connection, error.message, unknown)
    this.#pump()
  }

  #changed(): void {
    if (this.#dead !== null) return
    const usable = this.#paths.usable
    const state = usable === 'none' ? 'waiting' : usable
    if (state !== this.#state) {
      this.#state = state
      const reasons = this.paths().map(path => `${path.name} is ${path.state} (${path.why})`)
      this.#tell(state, reasons.join(', '))
    }
    this.#pump()
  }

  #pump(): void {
    this.#retries = this.#sendAll(this.#retries)
    if (this.#retries.length === 0) this.#waiting = this.#sendAll(this.#waiting)
  }

  /** Gives back what still has to wait. */
  #sendAll(batch: MultipathRequest[]): MultipathRequest[] {
    for (let index = 0; index < batch.length; index += 1) {
      const connection = this.#paths.choose()
      if (connection === null) return index === 0 ? batch : batch.slice(index)
      this.#send(batch[index]!, connection)
    }
    return batch.length === 0 ? batch : []
  }

  #tell(state: DeviceState, reason: string): void {
    for (const listener of this.#listeners) listener(state, reason)
  }

  #die(error: StellwerkError, state: 'failed' | 'closed'): void {
    if (this.#dead !== null) return
    this.#dead = error
    for (const request of [...this.#retries.splice(0), ...this.#waiting.splice(0)]) {
      request.reject(this.#deadError(request))
    }
    this.#state = state
    this.#tell(state, error.message)
    this.#whenDead(error)
    this.#options.onEnd?.()
    this.#checkIdle()
  }

  #deadError(request: MultipathRequest): BlockError {
    const outcome = request.unknownIn >= 0 ? 'unknown' : 'none'
    return new BlockError('ESHUTDOWN', outcome, this.#dead?.message ?? 'the device is closed', {
      cause: this.#dead ?? undefined,
    })
  }

  abort(reason: string): void {
    this.#die(new StellwerkError('multipath-aborted', reason), 'closed')
    this.#paths.stop()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#busy()) {
      await new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
    }
    // In order, so that the server sees a disconnect and not a reset.
    await this.#paths.close()
    this.abort('closed in order')
  }

  #busy(): boolean {
    return this.#retries.length + this.#waiting.length > 0 || !this.#paths.idle
  }

  #checkIdle(): void {
    if (this.#onIdle !== null && !this.#busy()) this.#onIdle()
  }
}
