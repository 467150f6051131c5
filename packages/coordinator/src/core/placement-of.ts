// Where the machine of a VM is, for who wants something of it now: its console, its screen, its reset line.

import { present } from '@stellwerk/runtime/assert.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Refusal } from './migration.ts'
import type { Placement, VmRecord } from './state.ts'

/** Null: it has one, also while it is being started or stopped. `not-running`; `notYet` where it is to run and has no place yet. */
export function whyNoPlacement({ name, placement, desired, gaveUp }: VmRecord, notYet = 'not-placed'): Refusal | null {
  if (placement !== null) return null
  const hint = `start it: stellwerk vm start ${name}`
  if (desired !== 'running') return { code: 'not-running', message: `VM "${name}" is not running: it is stopped`, hint }
  if (gaveUp != null) return { code: 'not-running', message: `VM "${name}" was given up: ${gaveUp}`, hint }
  return { code: notYet, message: `VM "${name}" is not placed yet`, hint: `see why: stellwerk why vm ${name}` }
}

/** Throws as `whyNoPlacement` says. */
export function placementOf(vm: VmRecord, notYet?: string): Placement {
  const why = whyNoPlacement(vm, notYet)
  if (why === null) return present(vm.placement, `the placement of ${vm.name}`)
  throw new StellwerkError(why.code, why.message, { hint: why.hint, retryable: why.code !== 'not-running' })
}
