// Which path is usable, when one has failed, and when the session must be raised: the decisions of a multipath set,
// without I/O. Contract: the shell carries out the effects in order, at once, and feeds what comes of them as inputs.
//
// Rule IO3, here: a write of unknown outcome that was sent in session s is retried only on a connection of a session
// above s, and by then no connection of s or lower is left on any path. So the loss of a path with such writes raises
// the session, which retires every connection there is; nothing is dispatched until one of the new session stands.

import { assert, present } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'

export type PathState = 'up' | 'slow' | 'failed' | 'probing'

export interface PathConfig {
  readonly policy: 'least-queue' | 'fixed'
  /** A request longer under way fails its path if the probes fail too. */
  readonly requestDeadlineMs: number
  readonly probeIntervalMs: number
  /** Good probes in a row before a path that had failed is used again while others are up. */
  readonly failBackProbes: number
  /** Bad probes in a row that fail a path (with another usable one) though no request waits on it. */
  readonly failAfterProbes: number
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
}

type Line =
  | { readonly kind: 'down'; readonly retryAt: number }
  | { readonly kind: 'connecting'; readonly session: number }
  | { readonly kind: 'connected'; readonly session: number }

interface Path {
  readonly name: string
  readonly priority: number
  line: Line
  /** Failed attempts and short-lived connections in a row. */
  attempts: number
  /** Good probes still missing before the path is trusted. */
  owedProbes: number
  badProbes: number
  goodProbes: number
  /** When the last bad probe was counted. */
  badAt: number | null
  probeOut: boolean
  /** A request on its connection is past the deadline. */
  overdue: boolean
  state: PathState
  since: number
  why: string
  latencyMs: number | null
  connects: number
  losses: number
}

export interface PathFacts {
  readonly name: string
  readonly priority: number
  readonly state: PathState
  /** On the monotonic clock. */
  readonly since: number
  readonly why: string
  readonly session: number | null
  /** Of the last good probe. */
  readonly latencyMs: number | null
  readonly connects: number
  readonly losses: number
}

export type PathInput =
  | { readonly kind: 'start' }
  | { readonly kind: 'connected'; readonly path: number; readonly session: number }
  | {
      readonly kind: 'connect-failed'
      readonly path: number
      readonly session: number
      readonly message: string
      /** The server's refusal is for good. */
      readonly fatal: string | null
    }
  | {
      readonly kind: 'lost'
      readonly path: number
      readonly session: number
      /** Writes were in flight whose outcome nobody knows. */
      readonly unknown: boolean
      readonly reason: string
    }
  | { readonly kind: 'session-raised'; readonly session: number }
  | { readonly kind: 'probe-good'; readonly path: number; readonly latencyMs: number }
  | { readonly kind: 'probe-bad'; readonly path: number; readonly why: string }
  /** `oldest`: per path, when the oldest request in flight on its connection was sent, or null. */
  | { readonly kind: 'tick'; readonly probe: boolean; readonly oldest: readonly (number | null)[] }
  | { readonly kind: 'stop' }

export type PathEffect =
  | { readonly kind: 'connect'; readonly path: number; readonly session: number }
  | { readonly kind: 'cancel-connect'; readonly path: number; readonly reason: string }
  /** Abort the path's connection; the shell answers with `lost`. */
  | { readonly kind: 'cut'; readonly path: number; readonly reason: string }
  /** Send nothing more on the path's connection, let it finish what it can. */
  | { readonly kind: 'retire'; readonly path: number }
  /** Abort all retired connections. */
  | { readonly kind: 'cut-retired'; readonly reason: string }
  | { readonly kind: 'probe'; readonly path: number }
  | { readonly kind: 'raise-session'; readonly reason: string }
  | { readonly kind: 'refused'; readonly path: number; readonly code: string; readonly message: string }
  | { readonly kind: 'path-state'; readonly path: number }

export class PathCore {
  readonly #config: PathConfig
  readonly #paths: Path[]
  #session: number
  /** The session is being raised: nothing is connected until the new one is known. */
  #raising = false
  #stopped = false
  #candidates: number[] = []
  #turn = 0
  #effects: PathEffect[] = []

  constructor(
    config: PathConfig,
    paths: readonly { readonly name: string; readonly priority: number }[],
    session: number,
    now: number,
  ) {
    assert(paths.length > 0, 'a multipath set has a path')
    this.#config = config
    this.#session = session
    this.#paths = paths.map(({ name, priority }) => ({
      name,
      priority,
      line: { kind: 'down', retryAt: now },
      attempts: 0,
      owedProbes: 0,
      badProbes: 0,
      goodProbes: 0,
      badAt: null,
      probeOut: false,
      overdue: false,
      state: 'probing',
      since: now,
      why: 'not yet connected',
      latencyMs: null,
      connects: 0,
      losses: 0,
    }))
  }

  get session(): number {
    return this.#session
  }

  /** Paths a request may be sent on now: the best there are, all of the current session. */
  get candidates(): readonly number[] {
    return this.#candidates
  }

  /** What holds for the whole set. */
  get usable(): 'up' | 'slow' | 'none' {
    const best = this.#candidates[0]
    if (best === undefined) return 'none'
    const path = this.#path(best)
    return path.badProbes > 0 || path.overdue ? 'slow' : 'up'
  }

  /** A tick is wanted at this time, to dial again. */
  get nextRetryAt(): number | null {
    let earliest: number | null = null
    if (this.#stopped || this.#raising) return null
    for (const { line } of this.#paths) {
      if (line.kind === 'down' && (earliest === null || line.retryAt < earliest)) earliest = line.retryAt
    }
    return earliest
  }

  facts(index: number): PathFacts {
    const { name, priority, state, since, why, line, latencyMs, connects, losses } = this.#path(index)
    const session = line.kind === 'connected' ? line.session : null
    return { name, priority, state, since, why, session, latencyMs, connects, losses }
  }

  /** Where the next request goes, given the queue of each path; null: it must wait. */
  choose(queues: readonly number[]): number | null {
    const candidates = this.#candidates
    if (candidates.length <= 1 || this.#config.policy === 'fixed') return candidates[0] ?? null
    // Ties go round, so that an idle set does not put everything on its first path.
    this.#turn = (this.#turn + 1) % candidates.length
    let best = candidates[this.#turn]!
    for (let step = 1; step < candidates.length; step += 1) {
      const other = candidates[(this.#turn + step) % candidates.length]!
      if (queues[other]! < queues[best]!) best = other
    }
    return best
  }

  step(input: PathInput, now: number): PathEffect[] {
    this.#effects = []
    if (this.#stopped) return this.#effects
    this.#apply(input, now)
    this.#choose()
    for (let index = 0; index < this.#paths.length; index += 1) this.#show(index, now)
    return this.#effects
  }

  #apply(input: PathInput, now: number): void {
    switch (input.kind) {
      case 'start':
        this.#connectDue(now)
        return
      case 'connected':
        this.#connected(input.path, input.session)
        return
      case 'connect-failed':
        this.#connectFailed(input.path, input, now)
        return
      case 'lost':
        this.#lost(input.path, input, now)
        return
      case 'session-raised':
        this.#sessionRaised(input.session, now)
        return
      case 'probe-good':
        this.#probeGood(input.path, input.latencyMs)
        return
      case 'probe-bad':
        this.#path(input.path).probeOut = false
        this.#probeBad(input.path, input.why, now)
        return
      case 'tick':
        this.#tick(input.probe, input.oldest, now)
        return
      case 'stop':
        this.#stop('the device is closed')
    }
  }

  #connected(index: number, session: number): void {
    const path = this.#path(index)
    assert(path.line.kind === 'connecting' && path.line.session === session, 'connected without having been told to')
    assert(session === this.#session, 'a connection of a former session must have been cancelled')
    path.line = { kind: 'connected', session }
    path.connects += 1
    path.badProbes = 0
    path.badAt = null
    path.overdue = false
    path.why = 'connected'
    // The server has drained all lower sessions before it answered; what is left of them here is of no more use.
    this.#effects.push({ kind: 'cut-retired', reason: `session ${session} took over` })
  }

  #connectFailed(
    index: number,
    { session, message, fatal }: { readonly session: number; readonly message: string; readonly fatal: string | null },
    now: number,
  ): void {
    const path = this.#path(index)
    if (path.line.kind !== 'connecting' || path.line.session !== session) return
    path.why = message
    path.line = { kind: 'down', retryAt: now }
    if (fatal !== null) {
      this.#effects.push({ kind: 'refused', path: index, code: fatal, message })
      this.#stop(message)
      return
    }
    path.owedProbes = this.#config.failBackProbes
    path.attempts = Math.max(1, path.attempts)
    this.#backOff(path, now)
  }

  #lost(
    index: number,
    { session, unknown, reason }: { readonly session: number; readonly unknown: boolean; readonly reason: string },
    now: number,
  ): void {
    const path = this.#path(index)
    // The writes of a retired connection wait for the new session already.
    if (path.line.kind !== 'connected' || path.line.session !== session) return
    path.losses += 1
    path.why = reason
    path.owedProbes = this.#config.failBackProbes
    this.#backOff(path, now)
    if (unknown && session === this.#session && !this.#raising && !canary('session-not-raised')) {
      this.#raising = true
      this.#effects.push({ kind: 'raise-session', reason: `writes of unknown outcome on ${path.name}: ${reason}` })
      return
    }
    this.#connectDue(now)
  }

  #sessionRaised(session: number, now: number): void {
    assert(session > this.#session, `session ${session} is not above ${this.#session}`)
    this.#session = session
    this.#raising = false
    this.#paths.forEach((path, index) => {
      if (path.line.kind === 'down') return
      if (path.line.kind === 'connecting') {
        this.#effects.push({ kind: 'cancel-connect', path: index, reason: `session ${session} is needed` })
      } else this.#effects.push({ kind: 'retire', path: index })
      this.#connect(index)
    })
    this.#connectDue(now)
  }

  #probeGood(index: number, latencyMs: number): void {
    const path = this.#path(index)
    path.probeOut = false
    path.latencyMs = latencyMs
    path.goodProbes = path.badProbes > 0 ? 1 : path.goodProbes + 1
    path.badProbes = 0
    if (path.line.kind !== 'connected') return
    path.attempts = 0
    if (path.owedProbes > 0) path.owedProbes -= 1
    if (path.owedProbes === 0) path.why = 'probes are answered'
  }

  #probeBad(index: number, why: string, now: number): void {
    const path = this.#path(index)
    path.goodProbes = 0
    path.badProbes += 1
    path.badAt = now
    if (path.line.kind === 'down') return
    path.why = why
    // A connect may take as long as the server drains; but not when nobody is there.
    if (path.line.kind === 'connecting' && path.badProbes >= this.#config.failAfterProbes) {
      this.#effects.push({ kind: 'cancel-connect', path: index, reason: why })
      path.owedProbes = this.#config.failBackProbes
      path.badProbes = 0
      this.#backOff(path, now)
    }
  }

  #tick(probe: boolean, oldest: readonly (number | null)[], now: number): void {
    if (!this.#raising) this.#connectDue(now)
    if (probe) {
      this.#paths.forEach((path, index) => {
        if (path.probeOut) this.#probeBad(index, `no answer to a probe for ${this.#config.probeIntervalMs} ms`, now)
        else if (path.line.kind !== 'down') {
          path.probeOut = true
          this.#effects.push({ kind: 'probe', path: index })
        }
      })
    }
    this.#paths.forEach((path, index) => {
      const at = oldest[index] ?? null
      path.overdue = path.line.kind === 'connected' && at !== null && now - at > this.#config.requestDeadlineMs
    })
    // One at a time: a cut path is no alternative for the next, but does not look it until the shell says `lost`.
    const failed = this.#paths.findIndex((_path, index) => this.#hasFailed(index, oldest[index] ?? null))
    if (failed !== -1) this.#effects.push({ kind: 'cut', path: failed, reason: this.#whyFailed(failed) })
  }

  #hasFailed(index: number, oldestAt: number | null): boolean {
    const path = this.#path(index)
    if (path.line.kind !== 'connected') return false
    if (path.badProbes > 0) {
      // The only usable path never times out.
      const another = this.#paths.some((other, at) => at !== index && this.#isUsable(other) && other.badProbes === 0)
      return another && (path.overdue || path.badProbes >= this.#config.failAfterProbes)
    }
    // Probes are good again, but what was sent before they failed is still not answered: the connection did not survive.
    return (
      path.overdue && path.badAt !== null && oldestAt! <= path.badAt && path.goodProbes >= this.#config.failBackProbes
    )
  }

  #whyFailed(index: number): string {
    const path = this.#path(index)
    return path.badProbes > 0
      ? `requests or probes are past their time: ${path.why}`
      : 'requests sent before the probes failed were not answered after they recovered'
  }

  #stop(why: string): void {
    this.#stopped = true
    this.#candidates = []
    this.#paths.forEach((path, index) => {
      if (path.line.kind === 'connecting') this.#effects.push({ kind: 'cancel-connect', path: index, reason: why })
      else if (path.line.kind === 'connected') this.#effects.push({ kind: 'cut', path: index, reason: why })
      path.line = { kind: 'down', retryAt: Number.POSITIVE_INFINITY }
      path.why = why
    })
    this.#effects.push({ kind: 'cut-retired', reason: why })
  }

  #backOff(path: Path, now: number): void {
    const { backoffMinMs, backoffMaxMs } = this.#config
    const delay = path.attempts === 0 ? 0 : Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(path.attempts - 1, 16))
    path.attempts += 1
    path.line = { kind: 'down', retryAt: now + delay }
  }

  #connectDue(now: number): void {
    if (this.#raising) return
    this.#paths.forEach((path, index) => {
      if (path.line.kind === 'down' && path.line.retryAt <= now) this.#connect(index)
    })
  }

  #connect(index: number): void {
    this.#path(index).line = { kind: 'connecting', session: this.#session }
    this.#effects.push({ kind: 'connect', path: index, session: this.#session })
  }

  #isUsable(path: Path): boolean {
    return path.line.kind === 'connected' && path.line.session === this.#session && !this.#raising
  }

  /** Trusted before on trial before slow; then by priority. The order of the set breaks ties. */
  #choose(): void {
    if (this.#stopped) return
    let best: readonly [number, number] = [Number.POSITIVE_INFINITY, 0]
    const candidates: number[] = []
    this.#paths.forEach((path, index) => {
      if (!this.#isUsable(path)) return
      const rank = path.badProbes > 0 ? 2 : path.owedProbes > 0 ? 1 : 0
      const order = rank - best[0] || path.priority - best[1]
      if (order > 0) return
      if (order < 0) candidates.length = 0
      best = [rank, path.priority]
      candidates.push(index)
    })
    this.#candidates = candidates
  }

  #show(index: number, now: number): void {
    const path = this.#path(index)
    const state = shownState(path)
    if (state === path.state) return
    path.state = state
    path.since = now
    this.#effects.push({ kind: 'path-state', path: index })
  }

  #path(index: number): Path {
    return present(this.#paths[index], `path ${index}`)
  }
}

function shownState(path: Path): PathState {
  if (path.line.kind === 'down') return 'failed'
  if (path.line.kind === 'connecting') return path.state === 'failed' && path.attempts > 1 ? 'failed' : 'probing'
  if (path.badProbes > 0 || path.overdue) return 'slow'
  return path.owedProbes > 0 ? 'probing' : 'up'
}
