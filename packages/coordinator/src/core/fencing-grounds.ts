// Whether a silent host is fenced: it is gone, or isolated for so long that a host that could take its VMs may have them.
// How a fence goes is fencing.ts.

import { isExport } from './exports.ts'
import { externalsWrittenBy } from './external.ts'
import { beginFencing } from './fencing.ts'
import { usableHosts, vmsAt } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { whyNot } from './placement.ts'
import { noteFailure } from './quarantine.ts'
import type { CoordinatorState, HostLive, HostRecord } from './state.ts'

/** A host that nobody hears is fenced when it was silent for this share of its lease: the rest suffices for the fence. */
const FENCE_AFTER_LEASE_SHARE = 0.8

export function fenceIfGone(
  state: CoordinatorState,
  host: HostRecord,
  live: HostLive,
  now: number,
  out: StepOutput,
): void {
  // With nobody left who could take over, this coordinator may be the one that is cut off: it fences nobody.
  if (!usableHosts(state).some(other => other.name !== host.name)) return
  const { isolatedMs, leaseMs } = state.cluster.settings
  const silentMs = now - (live.suspectSince ?? now)
  const unheardMs = now - (live.lastBeatAt ?? state.startedAt)
  if (live.verdict === 'gone') {
    // Its VMs wait for its lease to end anyway: until shortly before, a host that is only slow may still be heard.
    if (unheardMs < leaseMs * FENCE_AFTER_LEASE_SHARE) return
    fail(state, host, live, 'it fell silent to the coordinator, its peers and storage', now, out)
  } else if (live.verdict === 'isolated' && silentMs > isolatedMs) {
    if (vmsAt(state, host.name).length > 0 && !wouldHelp(state, host, live, out)) return
    fail(state, host, live, 'it is cut off from coordinator and peers, though storage sees it', now, out)
  }
}

function fail(
  state: CoordinatorState,
  host: HostRecord,
  live: HostLive,
  why: string,
  now: number,
  out: StepOutput,
): void {
  if (!live.silenceCounted) noteFailure(state, host, live.incarnation ?? 0, why, now, out)
  live.silenceCounted = true
  // A fence ends what runs there and brings nothing where nothing does: it may still be starting.
  const ends = vmsAt(state, host.name).length > 0 || externalsWrittenBy(state, host).length > 0
  if (ends) beginFencing(state, state.hosts.get(host.name) ?? host, why, null, out)
}

/**
 * Its VMs run as long as storage sees it: a fence stops them, so there has to be a host, in contact and with the VM's
 * storage in its own reach, that can take at least one. If not, it is left alone, and why is put on record once.
 */
function wouldHelp(state: CoordinatorState, host: HostRecord, live: HostLive, out: StepOutput): boolean {
  const rejected: { option: string; why: string }[] = []
  for (const vm of vmsAt(state, host.name)) {
    // An export is nobody else's to take: a fence helps only where it is to end, and its host does not hear it.
    if (isExport(vm)) {
      if (vm.desired === 'deleted') return true
      continue
    }
    for (const other of [...state.hosts.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (other.name === host.name) continue
      const why = whyNot(state, vm, other)
      if (why === null) {
        live.whyNotFenced = null
        return true
      }
      rejected.push({ option: `${vm.name} on ${other.name}`, why })
    }
  }
  const why = `no other host could take any of its VMs: ${rejected.map(r => `${r.option}: ${r.why}`).join('; ')}`
  if (live.whyNotFenced === null) {
    out.decide({
      kind: 'not-fenced',
      subject: host.name,
      saw: { verdict: live.verdict, vms: vmsAt(state, host.name).map(vm => vm.name) },
      chose: 'leave it running, though it is isolated',
      rejected,
      why: 'no other host could take any of its VMs',
    })
  }
  live.whyNotFenced = why
  return false
}
