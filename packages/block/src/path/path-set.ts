// The shell of the path core: dials, cuts and probes as the core says, feeds back what comes of it, and gives out the
// connection a request is sent on. It knows requests only as members of a connection's queue.

import { present } from '@stellwerk/runtime/assert.ts'
import type { Clock, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { BlockDevice, Caps } from '../device.ts'
import { NbdRefusal } from '../nbd/wire.ts'
import { InFlight } from './in-flight.ts'
import { Latencies } from './latencies.ts'
import { PathCore } from './path-core.ts'
import {
  DEFAULT_PATH_CONFIG,
  type PathConfig,
  type PathEffect,
  type PathFacts,
  type PathInput,
  type PathPolicy,
} from './path-state.ts'
import type { MultipathRequest } from './request.ts'
import type { PathDevice, PathTransport } from './transport.ts'

/** Refusals that no repetition cures: this host, this session or this generation is not wanted any more. */
export const FATAL_REFUSALS: readonly string[] = [
  'epoch-refused',
  'session-superseded',
  'generation-refused',
  'owner-superseded',
]

export interface PathRefusal {
  readonly code: string
  readonly message: string
  readonly path: string
}

export interface PathStatus extends PathFacts {
  /** Requests in flight on its connections. */
  readonly queue: number
  /** Requests finished on it, well or not. */
  readonly requests: number
  /** Those of them that were lost with their connection. */
  readonly errors: number
  /** The median of what requests took lately; null: none was measured. */
  readonly requestMs: number | null
  /** The host that carries what is sent on it, or null. */
  readonly via: string | null
}

/** Which way requests go now; `none`: they wait. */
export type PathRoute =
  | { readonly kind: 'none' | 'direct'; readonly why: string }
  | { readonly kind: 'redirected'; readonly via: string | null; readonly why: string }

export interface PathSetOptions {
  readonly paths: readonly PathTransport[]
  /** The export's name for a session; the whole [incarnation, number] is the caller's business. */
  readonly exportName: (session: number) => string
  /** The session to begin with. */
  readonly session: number
  /** Gives a session above all given before, durable when it returns. */
  readonly raiseSession: (reason: string) => number
  readonly clock: Clock
  readonly timers: Timers
  readonly config?: Partial<PathConfig>
  readonly fatalRefusals?: readonly string[]
  /** Called on every change of a path's state. */
  readonly onPath?: (status: PathStatus) => void
  /** Called when requests begin to go another way, the first one included. */
  readonly onRoute?: (route: PathRoute) => void
}

export interface Connection {
  readonly path: number
  readonly session: number
  readonly device: PathDevice
  readonly inFlight: InFlight
  dead: boolean
}

export interface PathSetHost {
  /** The first path is connected: the disk is known. */
  opened(device: BlockDevice): void
  /** The choice of paths may have changed. */
  changed(): void
  /** A probe interval has passed. */
  ticked(): void
  /** The set is dead for good. */
  refused(error: StellwerkError, refusal: PathRefusal): void
}

export class PathSet {
  first: BlockDevice | null = null
  readonly #options: PathSetOptions
  readonly #host: PathSetHost
  readonly #fatal: readonly string[]
  readonly #config: PathConfig
  readonly #core: PathCore
  readonly #connections: (Connection | null)[]
  readonly #retired: Connection[] = []
  readonly #attempts: (AbortController | null)[]
  /** Per path, what is in flight on it, retired connections included. */
  readonly #queues: number[]
  readonly #served: number[]
  readonly #errors: number[]
  readonly #latencies: readonly Latencies[]
  #route = 'none '
  #cuts = 0
  readonly #inputs: PathInput[] = []
  #stepping = false
  #stopped = false
  #probeTimer: Timer | null = null
  #wake: { readonly at: number; readonly timer: Timer } | null = null

  constructor(options: PathSetOptions, host: PathSetHost) {
    this.#options = options
    this.#host = host
    this.#fatal = options.fatalRefusals ?? FATAL_REFUSALS
    this.#config = { ...DEFAULT_PATH_CONFIG, ...options.config }
    this.#core = new PathCore(this.#config, options.paths, options.session, options.clock.now())
    this.#connections = options.paths.map(() => null)
    this.#attempts = options.paths.map(() => null)
    this.#queues = options.paths.map(() => 0)
    this.#served = options.paths.map(() => 0)
    this.#errors = options.paths.map(() => 0)
    this.#latencies = options.paths.map(() => new Latencies())
  }

  get session(): number {
    return this.#core.session
  }

  get usable(): 'up' | 'slow' | 'none' {
    return this.#core.usable
  }

  get now(): number {
    return this.#options.clock.now()
  }

  get idle(): boolean {
    return this.#queues.every(length => length === 0)
  }

  statuses(): PathStatus[] {
    return this.#options.paths.map((_path, index) => this.#status(index))
  }

  start(): void {
    this.#feed({ kind: 'start' })
    this.#probeTimer = this.#options.timers.after(this.#config.probeIntervalMs, () => this.#onProbeTimer())
  }

  /** Cuts everything and decides nothing more. Idempotent. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#probeTimer?.cancel()
    this.#wake?.timer.cancel()
    this.#feed({ kind: 'stop' })
  }

  /** Closes the connections in order; nothing may be in flight. */
  async close(): Promise<void> {
    const open = [...this.#connections, ...this.#retired].filter(connection => connection !== null)
    for (const connection of open) connection.dead = true
    await Promise.all(open.map(connection => connection.device.close()))
  }

  /** Nothing is to be sent on the paths of these names while any other can be used. */
  disable(names: readonly string[]): void {
    this.#options.paths.forEach(({ name }, path) => {
      this.#feed({ kind: 'disable', path, disabled: names.includes(name) })
    })
  }

  setPolicy(policy: PathPolicy): void {
    this.#feed({ kind: 'policy', policy })
  }

  /** When the oldest request in flight was first asked for; null: none is. */
  get oldestAskedAt(): number | null {
    let oldest: number | null = null
    for (const connection of [...this.#connections, ...this.#retired]) {
      const at = connection?.inFlight.oldestAskedAt ?? null
      if (at !== null && (oldest === null || at < oldest)) oldest = at
    }
    return oldest
  }

  /** The connection for the next request; null: it must wait. */
  choose(): Connection | null {
    const path = this.#core.choose(this.#queues)
    return path === null ? null : present(this.#connections[path], 'the connection of a usable path')
  }

  sent(request: MultipathRequest, connection: Connection): void {
    request.sentAt = this.#options.clock.now()
    if (request.askedAt === null) request.askedAt = request.sentAt
    connection.inFlight.add(request)
    this.#queues[connection.path]! += 1
  }

  finished(request: MultipathRequest, connection: Connection): void {
    connection.inFlight.remove(request)
    this.#queues[connection.path]! -= 1
    this.#served[connection.path]! += 1
    if (!connection.dead) this.#latencies[connection.path]!.add(this.#options.clock.now() - request.sentAt)
  }

  /** The connection is gone or must go. `unknown`: besides what is still in flight, a write without an outcome. */
  lose(connection: Connection, reason: string, unknown: boolean): void {
    if (connection.dead) return
    connection.dead = true
    const { path, session } = connection
    this.#errors[path]! += connection.inFlight.size + (unknown ? 1 : 0)
    if (this.#connections[path] === connection) this.#connections[path] = null
    const retired = this.#retired.indexOf(connection)
    if (retired !== -1) this.#retired.splice(retired, 1)
    // Taken from what was sent, not from how it is rejected: the session must be raised before anything is dialled.
    const lostWrites = unknown || connection.inFlight.mutating
    connection.device.abort(reason)
    this.#feed({ kind: 'lost', path, session, unknown: lostWrites, reason })
  }

  // --- the core's shell ---

  #feed(input: PathInput): void {
    this.#inputs.push(input)
    if (this.#stepping) return
    this.#stepping = true
    for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
      for (const effect of this.#core.step(next, this.#options.clock.now())) this.#carryOut(effect)
    }
    this.#stepping = false
    this.#armWake()
    this.#tellRoute()
    this.#host.changed()
  }

  #tellRoute(): void {
    const { onRoute, paths } = this.#options
    if (onRoute === undefined || this.#stopped) return
    const best = this.#core.candidates[0]
    const transport = best === undefined ? undefined : paths[best]
    const via = transport?.via?.() ?? null
    const kind = transport === undefined ? 'none' : transport.standby === true ? 'redirected' : 'direct'
    const route = `${kind} ${via ?? ''}`
    if (route === this.#route) return
    this.#route = route
    const direct = this.statuses().filter(path => !path.standby)
    const why = kind === 'direct' ? 'a direct path serves' : direct.map(({ name, why }) => `${name}: ${why}`).join(', ')
    onRoute(kind === 'redirected' ? { kind, via, why: why || 'there is no direct path' } : { kind, why })
  }

  #carryOut(effect: PathEffect): void {
    switch (effect.kind) {
      case 'connect':
        this.#connect(effect.path, effect.session)
        return
      case 'cancel-connect':
        this.#attempts[effect.path]?.abort(effect.reason)
        this.#attempts[effect.path] = null
        return
      case 'cut': {
        this.#cuts += 1
        if (effect.distrust === true) this.#options.paths[effect.path]?.distrust?.()
        const connection = this.#connections[effect.path]
        if (connection !== null && connection !== undefined) this.lose(connection, effect.reason, false)
        return
      }
      case 'retire':
        this.#retired.push(present(this.#connections[effect.path], 'the connection to retire'))
        this.#connections[effect.path] = null
        return
      case 'cut-retired':
        for (const connection of [...this.#retired]) this.lose(connection, effect.reason, false)
        return
      case 'probe':
        this.#probe(effect.path)
        return
      case 'raise-session':
        this.#inputs.push({ kind: 'session-raised', session: this.#options.raiseSession(effect.reason) })
        return
      case 'refused':
        this.#onRefused(effect.path, effect.code, effect.message)
        return
      case 'path-state':
        this.#options.onPath?.(this.#status(effect.path))
    }
  }

  #connect(path: number, session: number): void {
    const attempt = new AbortController()
    this.#attempts[path] = attempt
    const transport = present(this.#options.paths[path], `path ${path}`)
    transport.connect(this.#options.exportName(session), attempt.signal).then(
      device => {
        if (attempt.signal.aborted) device.abort('connected too late')
        else this.#onConnected(path, session, device)
      },
      (error: unknown) => {
        if (attempt.signal.aborted) return
        this.#attempts[path] = null
        const message = errorMessage(error)
        const fatal = error instanceof NbdRefusal ? this.#fatal.find(code => message.includes(code)) : undefined
        this.#feed({ kind: 'connect-failed', path, session, message, fatal: fatal ?? null })
      },
    )
  }

  #onConnected(path: number, session: number, device: PathDevice): void {
    this.#attempts[path] = null
    const misfit = this.#misfit(device)
    if (misfit !== null) {
      device.abort(misfit)
      this.#feed({ kind: 'connect-failed', path, session, message: misfit, fatal: null })
      return
    }
    const connection: Connection = { path, session, device, inFlight: new InFlight(), dead: false }
    this.#connections[path] = connection
    device.onState((state, reason) => {
      if (state === 'closed' || state === 'failed') this.lose(connection, reason, false)
    })
    if (this.first === null) {
      this.first = device
      this.#host.opened(device)
    }
    this.#feed({ kind: 'connected', path, session })
  }

  /** All paths must lead to the same disk; null if this one does. */
  #misfit(device: PathDevice): string | null {
    if (this.#options.paths.length > 1 && !device.caps.multiConn) {
      return 'the server does not keep several connections coherent (CAN_MULTI_CONN)'
    }
    const first = this.first
    if (first === null) return null
    if (device.size !== first.size) return `the disk has ${device.size} bytes on this path, not ${first.size}`
    if (device.limits.minimum > first.limits.minimum || device.limits.maximum < first.limits.maximum) {
      return 'the disk has narrower limits on this path'
    }
    const narrower = (Object.keys(first.caps) as (keyof Caps)[]).filter(cap =>
      cap === 'readOnly' ? device.caps.readOnly !== first.caps.readOnly : first.caps[cap] && !device.caps[cap],
    )
    return narrower.length === 0 ? null : `the disk differs on this path: ${narrower.join(', ')}`
  }

  #probe(path: number): void {
    const startedAt = this.#options.clock.now()
    present(this.#options.paths[path], `path ${path}`)
      .probe()
      .then(
        () => this.#feed({ kind: 'probe-good', path, latencyMs: this.#options.clock.now() - startedAt }),
        (error: unknown) => {
          this.#feed({ kind: 'probe-bad', path, why: `probe failed: ${errorCode(error)}: ${errorMessage(error)}` })
        },
      )
  }

  #onProbeTimer(): void {
    this.#probeTimer = this.#options.timers.after(this.#config.probeIntervalMs, () => this.#onProbeTimer())
    this.#tick(true)
    this.#host.ticked()
  }

  #armWake(): void {
    const at = this.#stopped ? null : this.#core.nextLookAt
    if (at === (this.#wake?.at ?? null)) return
    this.#wake?.timer.cancel()
    this.#wake = null
    if (at === null) return
    const timer = this.#options.timers.after(Math.max(0, at - this.#options.clock.now()), () => {
      this.#wake = null
      this.#tick(false)
    })
    this.#wake = { at, timer }
  }

  #tick(probe: boolean): void {
    const now = this.#options.clock.now()
    for (let first = true, cuts = -1; cuts !== this.#cuts; first = false) {
      cuts = this.#cuts
      const oldest = this.#connections.map(connection => connection?.inFlight.oldestSentAt ?? null)
      if (!probe || !first) this.#feed({ kind: 'tick', probe: false, oldest })
      else {
        const medians = oldest.map((at, path) => this.#latencies[path]!.look(at === null ? null : now - at))
        this.#feed({ kind: 'tick', probe, oldest, medians })
      }
      // What was cut is no alternative any more: whether another has failed is judged by what is left.
    }
  }

  #status(index: number): PathStatus {
    return {
      ...this.#core.facts(index),
      queue: this.#queues[index]!,
      requests: this.#served[index]!,
      errors: this.#errors[index]!,
      requestMs: this.#latencies[index]!.median,
      via: this.#options.paths[index]!.via?.() ?? null,
    }
  }

  #onRefused(path: number, code: string, message: string): void {
    this.#stopped = true
    this.#probeTimer?.cancel()
    const name = present(this.#options.paths[path], `path ${path}`).name
    const error = new StellwerkError(code, `the storage refuses this host: ${message}`, {
      where: name,
      hint: 'nothing of this session may go on; what runs on this disk must end',
    })
    this.#host.refused(error, { code, message, path: name })
  }
}
