// Which path is usable, when one has failed, and when the session must be raised: the decisions of a multipath set,
// without I/O. Contract: the shell carries out the effects in order, at once, and feeds what comes of them as inputs.
//
// Rule IO3, here: a write of unknown outcome that was sent in session s is retried only on a connection of a session
// above s, and by then no connection of s or lower is left on any path. So the loss of a path with such writes raises
// the session, which retires every connection there is; nothing is dispatched until one of the new session stands.
//
// Rules RIO1 and RIO2, here: a standby path is connected as soon as no other one gives hope, and left once others are
// trusted again. It is never the only usable path: what it leads to is chosen anew with each connection. So it has failed
// too when nothing that was sent on it is answered, though its probes are, which go another way: with twice the patience
// each time, since it may be the storage that is slow, and nothing would ever end that is always cut short.

import { assert, present } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import {
  factsOf,
  newPath,
  type Path,
  type PathConfig,
  type PathEffect,
  type PathFacts,
  type PathInput,
  type PathKind,
  type PathPolicy,
  rankOf,
  shownState,
} from './path-state.ts'
import { lookForSlow } from './slow-paths.ts'

/** A standby path's patience is doubled at most so often. */
const MAX_SILENCES = 5

export class PathCore {
  readonly #config: PathConfig
  readonly #paths: Path[]
  readonly #hasStandby: boolean
  #policy: PathPolicy
  #session: number
  /** The session is being raised: nothing is connected until the new one is known. */
  #raising = false
  #stopped = false
  #candidates: number[] = []
  #turn = 0
  #effects: PathEffect[] = []
  /** When what was decided is to be looked at again, besides the times to dial; null: with the next input. */
  #lookAt: number | null = null
  #overdueAt: number | null = null

  constructor(config: PathConfig, paths: readonly PathKind[], session: number, now: number) {
    assert(paths.length > 0, 'a multipath set has a path')
    this.#config = config
    this.#session = session
    this.#policy = config.policy
    this.#paths = paths.map(path => newPath(path, now))
    this.#hasStandby = this.#paths.some(path => path.standby)
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

  /** A tick is wanted at this time, to dial again or to give up on something. */
  get nextLookAt(): number | null {
    if (this.#stopped || this.#raising) return null
    let earliest = this.#overdueAt
    if (this.#lookAt !== null && (earliest === null || this.#lookAt < earliest)) earliest = this.#lookAt
    for (const { line } of this.#paths) {
      if (line.kind === 'down' && (earliest === null || line.retryAt < earliest)) earliest = line.retryAt
    }
    return earliest
  }

  facts(index: number): PathFacts {
    return factsOf(this.#path(index))
  }

  /** Where the next request goes, given the queue of each path; null: it must wait. */
  choose(queues: readonly number[]): number | null {
    const candidates = this.#candidates
    if (candidates.length <= 1 || this.#policy === 'fixed') return candidates[0] ?? null
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
    if (this.#hasStandby) this.#followStandby(now)
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
        this.#probeGood(input.path, input.latencyMs, now)
        return
      case 'probe-bad':
        this.#path(input.path).probeOutAt = null
        this.#probeBad(input.path, input.why, now)
        return
      case 'tick':
        this.#tick(input.probe, input.oldest, now)
        if (input.medians !== undefined) lookForSlow(this.#paths, input.medians, this.#config, now)
        return
      case 'disable': {
        const path = this.#path(input.path)
        if (path.disabled === input.disabled) return
        path.disabled = input.disabled
        path.why = input.disabled ? 'an operator has disabled it' : 'an operator has enabled it'
        return
      }
      case 'policy':
        this.#policy = input.policy
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
    path.oldestAt = null
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
    // Whether anybody is still there decides if a standby path is needed: it is asked at once.
    if (this.#hasStandby) this.#probe(index, now)
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
      if (path.line.kind === 'down' || path.line.kind === 'idle') return
      if (path.line.kind === 'connecting') {
        this.#effects.push({ kind: 'cancel-connect', path: index, reason: `session ${session} is needed` })
      } else if (path.line.kind === 'connected') this.#effects.push({ kind: 'retire', path: index })
      this.#connect(index, now)
    })
    this.#connectDue(now)
  }

  #probeGood(index: number, latencyMs: number, now: number): void {
    const path = this.#path(index)
    path.probeOutAt = null
    path.goodAt = now
    path.latencyMs = latencyMs
    path.goodProbes = path.badProbes > 0 ? 1 : path.goodProbes + 1
    path.badProbes = 0
    if (path.line.kind !== 'connected') return
    path.attempts = 0
    if (path.owedProbes > 0) path.owedProbes -= 1
    if (path.owedProbes === 0 && !path.disabled && path.slow.restUntil === null) path.why = 'probes are answered'
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
        const { probeIntervalMs } = this.#config
        if (path.probeOutAt === null) {
          if (path.line.kind === 'connecting' || path.line.kind === 'connected') this.#probe(index, now)
          // One sent between two ticks, at the loss of a connection, has not had its time yet.
        } else if (now - path.probeOutAt >= probeIntervalMs / 2) {
          this.#probeBad(index, `no answer to a probe for ${probeIntervalMs} ms`, now)
        }
      })
    }
    this.#paths.forEach((path, index) => {
      const at = oldest[index] ?? null
      path.overdue = path.line.kind === 'connected' && at !== null && now - at > this.#config.requestDeadlineMs
      if (path.line.kind !== 'connected') return
      // Something was answered.
      if (at === null || (path.oldestAt !== null && at > path.oldestAt)) path.silences = 0
      path.oldestAt = at
    })
    this.#overdueAt = this.#nextOverdueAt(oldest, now)
    this.#leaveStandby(oldest)
    // One at a time: a cut path is no alternative for the next, but does not look it until the shell says `lost`.
    const failed = this.#paths.findIndex((_path, index) => this.#hasFailed(index, oldest[index] ?? null))
    if (failed !== -1) {
      this.#effects.push({ kind: 'cut', path: failed, reason: this.#whyFailed(failed), distrust: true })
      return
    }
    const silent = this.#paths.findIndex(
      (path, index) => path.standby && this.#isSilent(path, oldest[index] ?? null, now),
    )
    if (silent === -1) return
    this.#path(silent).silences += 1
    this.#effects.push({ kind: 'cut', path: silent, reason: 'requests on it are not answered', distrust: true })
  }

  #isSilent({ line, silences }: Path, oldestAt: number | null, now: number): boolean {
    if (line.kind !== 'connected' || oldestAt === null) return false
    return now - oldestAt > this.#config.requestDeadlineMs * 2 ** Math.min(silences, MAX_SILENCES)
  }

  #hasFailed(index: number, oldestAt: number | null): boolean {
    const path = this.#path(index)
    if (path.line.kind !== 'connected') return false
    if (path.badProbes > 0) {
      // The only usable path never times out.
      const another =
        path.standby || this.#paths.some((other, at) => at !== index && this.#isUsable(other) && other.badProbes === 0)
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
      if (path.line.kind === 'down' && path.line.retryAt <= now) this.#connect(index, now)
    })
  }

  #connect(index: number, now: number): void {
    this.#path(index).line = { kind: 'connecting', session: this.#session, since: now }
    this.#effects.push({ kind: 'connect', path: index, session: this.#session })
  }

  #probe(index: number, now: number): void {
    const path = this.#path(index)
    if (path.probeOutAt !== null) return
    path.probeOutAt = now
    this.#effects.push({ kind: 'probe', path: index })
  }

  // --- the standby paths ---------------------------------------------------------------------------------------------------

  #followStandby(now: number): void {
    this.#lookAt = null
    if (this.#raising || this.#stopped) return
    const wanted = !this.#paths.some(path => !path.standby && this.#givesHope(path, now))
    this.#paths.forEach((path, index) => {
      if (!path.standby) return
      if (wanted && path.line.kind === 'idle') this.#connect(index, now)
      else if (!wanted && path.line.kind === 'connecting') {
        this.#effects.push({ kind: 'cancel-connect', path: index, reason: 'another path can be used again' })
        this.#rest(path)
      } else if (!wanted && path.line.kind === 'down') this.#rest(path)
    })
  }

  #rest(path: Path): void {
    path.line = { kind: 'idle' }
    path.why = 'not needed'
    path.attempts = 0
    path.owedProbes = 0
    path.badProbes = 0
  }

  /** It can be used, or will be in a moment: a first reconnect that is young, or that only waits for the server to drain. */
  #givesHope(path: Path, now: number): boolean {
    if (path.disabled || path.badProbes > 0) return false
    const { line } = path
    if (line.kind === 'connected') return true
    if (line.kind !== 'connecting' || path.attempts > 1) return false
    if (path.goodAt !== null && path.goodAt >= line.since) return true
    const until = line.since + this.#config.standbyAfterMs
    if (now >= until) return false
    if (this.#lookAt === null || until < this.#lookAt) this.#lookAt = until
    return true
  }

  /** Requests go over trusted paths again; what is in flight on it has its time to end, and goes over one of them after that. */
  #leaveStandby(oldest: readonly (number | null)[]): void {
    const best = this.#candidates[0] === undefined ? null : this.#path(this.#candidates[0])
    if (!this.#hasStandby || best === null || best.standby || best.badProbes > 0 || best.disabled) return
    if (canary('no-fail-back')) return
    this.#paths.forEach((path, index) => {
      if (!path.standby || path.line.kind !== 'connected') return
      if ((oldest[index] ?? null) !== null && !path.overdue) return
      this.#effects.push({ kind: 'cut', path: index, reason: 'another path serves again' })
      // With something in flight it is lost as any other is: that may be a write of unknown outcome.
      if (!path.overdue) this.#rest(path)
    })
  }

  #nextOverdueAt(oldest: readonly (number | null)[], now: number): number | null {
    let next: number | null = null
    this.#paths.forEach((path, index) => {
      const at = oldest[index] ?? null
      if (at === null || path.badProbes === 0 || path.overdue || path.line.kind !== 'connected') return
      const due = Math.max(now, at + this.#config.requestDeadlineMs) + 1
      if (next === null || due < next) next = due
    })
    return next
  }

  #isUsable(path: Path): boolean {
    return path.line.kind === 'connected' && path.line.session === this.#session && !this.#raising
  }

  /** By rank, then by priority. The order of the set breaks ties. */
  #choose(): void {
    if (this.#stopped) return
    const before = this.#candidates[0]
    let best: readonly [number, number] = [Number.POSITIVE_INFINITY, 0]
    const candidates: number[] = []
    this.#paths.forEach((path, index) => {
      if (!this.#isUsable(path)) return
      const rank = this.#rankOf(path, before)
      const order = rank - best[0] || path.priority - best[1]
      if (order > 0) return
      if (order < 0) candidates.length = 0
      best = [rank, path.priority]
      candidates.push(index)
    })
    this.#candidates = candidates
    const chosen = candidates[0]
    if (chosen !== undefined && this.#path(chosen).standby) this.#distrustOthers()
  }

  #rankOf(path: Path, before: number | undefined): number {
    // Planted bug: once redirected, always redirected.
    if (canary('no-fail-back') && path.standby && before !== undefined && this.#path(before).standby) return -1
    return rankOf(path)
  }

  /** What made way for a standby path must be good for a while before it is used again: no going back and forth. */
  #distrustOthers(): void {
    for (const path of this.#paths) {
      if (!path.standby && path.badProbes > 0) path.owedProbes = this.#config.failBackProbes
    }
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
