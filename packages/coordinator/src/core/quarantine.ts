// Hosts that fail again and again get no VMs for a while: they are admitted and leased as usual, and what
// runs there stays. Who places asks here; nobody is kept down by it, see placement.ts.

import type { StepOutput } from './output.ts'
import type { CoordinatorState, HostFailure, HostRecord } from './state.ts'

/**
 * Times that outlive a run of the coordinator: the wall clock as it was read at its start, counted on by the monotonic
 * clock, so that no jump of the wall clock under way makes a quarantine longer or shorter.
 */
export function calendar(state: CoordinatorState, now: number): number {
  return state.wallAtStart + (now - state.startedAt)
}

export function isQuarantined(host: HostRecord): boolean {
  return host.quarantine !== null
}

/** The same death is told in several ways (its guardian, a newer agent, an operator), and counts once. */
export function isCounted(host: HostRecord, incarnation: number): boolean {
  const last = host.failures.at(-1)
  return last !== undefined && last.epoch === host.epoch && last.incarnation >= incarnation
}

/** Counts a failure of the host: of its agent, or of the whole. */
export function noteFailure(
  state: CoordinatorState,
  host: HostRecord,
  incarnation: number,
  why: string,
  now: number,
  out: StepOutput,
): void {
  const { quarantineFailures, quarantineWindowMs, quarantineMs } = state.cluster.settings
  const atMs = calendar(state, now)
  const failure: HostFailure = { atMs, epoch: host.epoch, incarnation, why }
  const failures = [...host.failures.filter(({ atMs: at }) => atMs - at < quarantineWindowMs), failure].slice(
    -quarantineFailures,
  )
  if (failures.length < quarantineFailures) {
    out.put('hosts', host.name, { ...host, failures })
    return
  }
  const reason = `it failed ${failures.length} times within ${Math.ceil((atMs - failures[0]!.atMs) / 1000)} s`
  // A host that goes on failing stays in quarantine for the whole time from its last failure on.
  const quarantine = { sinceMs: host.quarantine?.sinceMs ?? atMs, untilMs: atMs + quarantineMs, why: reason }
  out.put('hosts', host.name, { ...host, failures, quarantine })
  out.decide({
    kind: 'quarantine',
    subject: host.name,
    saw: { failures: failures.map(({ why: of, epoch }) => ({ why: of, epoch })), windowMs: quarantineWindowMs },
    chose: `give it no VMs for ${Math.round(quarantineMs / 1000)} s; those that run there stay`,
    why: `${reason}; an operator ends it: stellwerk host resume ${host.name}`,
  })
}

/** Ends the quarantines whose time is over. */
export function workOnQuarantines(state: CoordinatorState, now: number, out: StepOutput): void {
  const today = calendar(state, now)
  for (const host of [...state.hosts.values()]) {
    if (host.quarantine !== null && today >= host.quarantine.untilMs) endQuarantine(host, 'its time is over', out)
  }
}

/** What was counted is forgotten with it: the host starts anew. */
export function endQuarantine(host: HostRecord, why: string, out: StepOutput): void {
  out.put('hosts', host.name, { ...host, failures: [], quarantine: null })
  out.decide({
    kind: 'quarantine-over',
    subject: host.name,
    saw: { quarantined: host.quarantine?.why ?? null },
    chose: 'give it VMs again',
    why,
  })
}

/** A wall clock that was set back between two runs makes no quarantine longer than it would be from now on. */
export function boundQuarantines(state: CoordinatorState): void {
  const latest = state.wallAtStart + state.cluster.settings.quarantineMs
  for (const [name, host] of state.hosts) {
    if (host.quarantine === null || host.quarantine.untilMs <= latest) continue
    state.hosts.set(name, { ...host, quarantine: { ...host.quarantine, untilMs: latest } })
  }
}

/** How long the host gets no VMs yet; null: it is not in quarantine. */
export function quarantineLeftMs(state: CoordinatorState, host: HostRecord, now: number): number | null {
  return host.quarantine === null ? null : Math.max(0, host.quarantine.untilMs - calendar(state, now))
}
