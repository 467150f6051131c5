// Where the machine of a VM is, for who wants something of it now: its console, its screen, its reset line.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Placement, VmRecord } from './state.ts'

/** Also while it is being started or stopped. Throws `not-running`; `notYet` where it is to run and has no place yet. */
export function placementOf(vm: VmRecord, notYet = 'not-placed'): Placement {
  if (vm.placement !== null) return vm.placement
  const hint = `start it: stellwerk vm start ${vm.name}`
  if (vm.desired !== 'running') {
    throw new StellwerkError('not-running', `VM "${vm.name}" is not running: it is stopped`, { hint })
  }
  if (vm.gaveUp != null) {
    throw new StellwerkError('not-running', `VM "${vm.name}" was given up: ${vm.gaveUp}`, { hint })
  }
  throw new StellwerkError(notYet, `VM "${vm.name}" is not placed yet`, {
    retryable: true,
    hint: `see why: stellwerk why vm ${vm.name}`,
  })
}
