// What a multipath set knows of each path, what it is told and what it answers. Shapes, and what can be read off one path
// alone; the decisions are in path-core.ts.

/**
 * `probing`: on trial, or being connected. `slow`: answers late, or not at the moment. `standby`: a path of last resort
 * that is not needed. `disabled`: an operator wants nothing sent on it.
 */
export type PathState = 'up' | 'slow' | 'failed' | 'probing' | 'standby' | 'disabled'

export type PathPolicy = 'least-queue' | 'fixed'

export interface PathConfig {
  readonly policy: PathPolicy
  /** A request longer under way fails its path if the probes fail too. */
  readonly requestDeadlineMs: number
  readonly probeIntervalMs: number
  /** Good probes in a row before a path that had failed is used again while others are up. */
  readonly failBackProbes: number
  /** Bad probes in a row that fail a path (with another usable one) though no request waits on it. */
  readonly failAfterProbes: number
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  /** A standby path is connected when no other has been there for so long; a reconnect in order takes less. */
  readonly standbyAfterMs: number
  /** A path whose requests take so many times as long as its siblings' is slow, if they take longer than the floor. */
  readonly slowFactor: number
  readonly slowFloorMs: number
  /** How long a slow path rests before it is tried again; doubles each time it is slow again at once. */
  readonly slowHoldMs: number
  readonly slowHoldMaxMs: number
}

export const DEFAULT_PATH_CONFIG: PathConfig = {
  policy: 'least-queue',
  requestDeadlineMs: 2_000,
  probeIntervalMs: 500,
  failBackProbes: 3,
  failAfterProbes: 3,
  backoffMinMs: 100,
  backoffMaxMs: 5_000,
  standbyAfterMs: 50,
  slowFactor: 10,
  slowFloorMs: 20,
  slowHoldMs: 10_000,
  slowHoldMaxMs: 300_000,
}

/** What a path is, from the start. */
export interface PathKind {
  readonly name: string
  readonly priority: number
  /** Connected only while no other path can be used, and left again when one can. */
  readonly standby?: boolean
}

export type Line =
  /** A standby path that is not needed. */
  | { readonly kind: 'idle' }
  | { readonly kind: 'down'; readonly retryAt: number }
  | { readonly kind: 'connecting'; readonly session: number; readonly since: number }
  | { readonly kind: 'connected'; readonly session: number }

export interface Path {
  readonly name: string
  readonly priority: number
  readonly standby: boolean
  line: Line
  /** Failed attempts and short-lived connections in a row. */
  attempts: number
  /** Good probes still missing before the path is trusted. */
  owedProbes: number
  badProbes: number
  goodProbes: number
  /** When the last bad probe was counted. */
  badAt: number | null
  /** When the last good one was answered. */
  goodAt: number | null
  /** When the probe that is out was sent; null: none is. */
  probeOutAt: number | null
  /** A request on its connection is past the deadline. */
  overdue: boolean
  /** When the oldest request on its connection was sent, when last looked at; null: none was in flight. */
  oldestAt: number | null
  /** Connections in a row that were cut because nothing on them was answered. */
  silences: number
  disabled: boolean
  slow: Slowness
  state: PathState
  since: number
  why: string
  latencyMs: number | null
  connects: number
  losses: number
}

/** See slow-paths.ts. */
export interface Slowness {
  /** Demoted until then; null: it is not. */
  restUntil: number | null
  /** Looks in a row at which it was slow. */
  looks: number
  holdMs: number
  /** When it was last demoted, or tried again. */
  changedAt: number | null
  /** What its requests took when last there were enough to tell, on this connection. */
  medianMs: number | null
}

export function newPath({ name, priority, standby = false }: PathKind, now: number): Path {
  return {
    name,
    priority,
    standby,
    line: standby ? { kind: 'idle' } : { kind: 'down', retryAt: now },
    attempts: 0,
    owedProbes: 0,
    badProbes: 0,
    goodProbes: 0,
    badAt: null,
    goodAt: null,
    probeOutAt: null,
    overdue: false,
    oldestAt: null,
    silences: 0,
    disabled: false,
    slow: { restUntil: null, looks: 0, holdMs: 0, changedAt: null, medianMs: null },
    state: standby ? 'standby' : 'probing',
    since: now,
    why: standby ? 'not needed' : 'not yet connected',
    latencyMs: null,
    connects: 0,
    losses: 0,
  }
}

export interface PathFacts {
  readonly name: string
  readonly priority: number
  readonly standby: boolean
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

export function factsOf(path: Path): PathFacts {
  const { name, priority, standby, state, since, why, line, latencyMs, connects, losses } = path
  const session = line.kind === 'connected' ? line.session : null
  return { name, priority, standby, state, since, why, session, latencyMs, connects, losses }
}

/** Lower is better: trusted, on trial, slow, not answering, not wanted. */
export function rankOf(path: Path): number {
  if (path.disabled) return 4
  if (path.badProbes > 0) return 3
  if (path.slow.restUntil !== null) return 2
  return path.owedProbes > 0 ? 1 : 0
}

export function shownState(path: Path): PathState {
  if (path.line.kind === 'idle') return 'standby'
  if (path.line.kind === 'down') return 'failed'
  if (path.line.kind === 'connecting') return path.state === 'failed' && path.attempts > 1 ? 'failed' : 'probing'
  if (path.disabled) return 'disabled'
  if (path.badProbes > 0 || path.overdue || path.slow.restUntil !== null) return 'slow'
  return path.owedProbes > 0 ? 'probing' : 'up'
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
  /**
   * `oldest`: per path, when the oldest request in flight on its connection was sent, or null. `medians`: per path, what
   * requests took lately, or null where there were too few; with a probe tick only.
   */
  | {
      readonly kind: 'tick'
      readonly probe: boolean
      readonly oldest: readonly (number | null)[]
      readonly medians?: readonly (number | null)[]
    }
  | { readonly kind: 'disable'; readonly path: number; readonly disabled: boolean }
  | { readonly kind: 'policy'; readonly policy: PathPolicy }
  | { readonly kind: 'stop' }

export type PathEffect =
  | { readonly kind: 'connect'; readonly path: number; readonly session: number }
  | { readonly kind: 'cancel-connect'; readonly path: number; readonly reason: string }
  /** Abort the path's connection; the shell answers with `lost`. `distrust`: what it leads over has not answered. */
  | { readonly kind: 'cut'; readonly path: number; readonly reason: string; readonly distrust?: boolean }
  /** Send nothing more on the path's connection, let it finish what it can. */
  | { readonly kind: 'retire'; readonly path: number }
  /** Abort all retired connections. */
  | { readonly kind: 'cut-retired'; readonly reason: string }
  | { readonly kind: 'probe'; readonly path: number }
  | { readonly kind: 'raise-session'; readonly reason: string }
  | { readonly kind: 'refused'; readonly path: number; readonly code: string; readonly message: string }
  | { readonly kind: 'path-state'; readonly path: number }
