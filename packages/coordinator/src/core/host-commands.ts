// What operators ask for about hosts as members: removing one, letting a removed one come back, draining one for its
// maintenance, and taking it back into service.

import { accept, type CommandResult, refuse } from './command-result.ts'
import { beginDrain, endDrain, isDraining } from './drains.ts'
import { beginFencing } from './fencing.ts'
import { unbindGuardian } from './guardians.ts'
import { hostLive, vmsAt } from './hosts.ts'
import { leftAt } from './live-moves.ts'
import type { StepOutput } from './output.ts'
import { endQuarantine } from './quarantine.ts'
import type { CoordinatorState, HostRecord } from './state.ts'

const unknown = (name: string) => refuse('unknown-host', `there is no host "${name}"`, 'see: stellwerk host list')

/** Its epoch is fenced, so that nothing it still does can be written; the record stays, so that its epochs never fall. */
export function removeHost(state: CoordinatorState, name: string, out: StepOutput): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) return unknown(name)
  const vms = vmsAt(state, name)
  if (vms.length > 0) {
    return refuse(
      'host-in-use',
      `host "${name}" runs ${vms.map(vm => vm.name).join(', ')}`,
      'migrate or stop them first',
    )
  }
  const { drain: _over, ...rest } = host
  const removed: HostRecord = { ...rest, removed: true, failures: [], quarantine: null, disabledFabrics: [] }
  out.put('hosts', name, removed)
  if (host.phase === 'admitted' || host.phase === 'admitting') {
    beginFencing(state, removed, 'an operator removed it', null, out)
  }
  state.mapVersion += 1
  return accept({ host: name })
}

/**
 * A removed host may join again under its name. It is as if it had been fenced: once its agent is here and runs nothing,
 * it is admitted above every epoch it ever had. Another machine may take its place, unless its own is connected.
 */
export function readmitHost(state: CoordinatorState, name: string, out: StepOutput): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined) return unknown(name)
  if (!host.removed) return refuse('not-removed', `host "${name}" was not removed`, `see: stellwerk host show ${name}`)
  const isConnected = hostLive(state, name).session !== null
  out.put('hosts', name, { ...unbindGuardian(host, isConnected), removed: false })
  state.mapVersion += 1
  out.decide({
    kind: 'readmit',
    subject: name,
    saw: { epoch: host.epoch, phase: host.phase },
    chose: `let it join again, above epoch ${host.epoch}`,
    why: 'an operator added it again',
  })
  return accept({ host: name })
}

export function drainHost(
  state: CoordinatorState,
  name: string,
  why: string,
  now: number,
  out: StepOutput,
): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) return unknown(name)
  beginDrain(state, host, why, now, out)
  return accept({ host: name, vms: leftAt(state, name).map(({ vm }) => vm) })
}

/** The operator takes the host for sound again, or has done what it was drained for. */
export function resumeHost(state: CoordinatorState, name: string, out: StepOutput): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) return unknown(name)
  if (host.quarantine === null && !isDraining(host)) {
    const message = `host "${name}" is neither being drained nor in quarantine`
    return refuse('not-quarantined', message, `see: stellwerk host show ${name}`)
  }
  if (isDraining(host)) endDrain(host, 'an operator resumed it', out)
  const now = state.hosts.get(name) ?? host
  if (now.quarantine !== null) endQuarantine(now, 'an operator resumed it', out)
  return accept({ host: name })
}
