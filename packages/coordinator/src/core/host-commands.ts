// What operators ask for about hosts as members: removing one, letting a removed one come back, ending a quarantine.

import { accept, type CommandResult, refuse } from './command-result.ts'
import { beginFencing } from './fencing.ts'
import { unbindGuardian } from './guardians.ts'
import { hostLive, vmsAt } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { endQuarantine } from './quarantine.ts'
import type { CoordinatorState } from './state.ts'

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
  const removed = { ...host, removed: true, failures: [], quarantine: null, disabledFabrics: [] }
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

/** The operator takes the host for sound again. */
export function resumeHost(state: CoordinatorState, name: string, out: StepOutput): CommandResult {
  const host = state.hosts.get(name)
  if (host === undefined || host.removed) return unknown(name)
  if (host.quarantine === null) {
    return refuse('not-quarantined', `host "${name}" is not in quarantine`, `see: stellwerk host show ${name}`)
  }
  endQuarantine(host, 'an operator resumed it', out)
  return accept({ host: name })
}
