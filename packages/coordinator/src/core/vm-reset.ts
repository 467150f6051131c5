// The reset of a VM's guest, as an operator asks for it: whether it can be, and which machine it is for. What it comes to is between
// the API and that machine's host: nothing durable hangs on it, and nobody repeats it.

import { accept, type CommandResult, refuse } from './command-result.ts'
import type { StepOutput } from './output.ts'
import { whyNoPlacement } from './placement-of.ts'
import type { VmRecord } from './state.ts'

export function resetVm(vm: VmRecord, out: StepOutput): CommandResult {
  const { name, spec, placement } = vm
  if (spec.hypervisor !== 'qemu') {
    const hint = `stop and start it: stellwerk vm stop ${name}, stellwerk vm start ${name}`
    return refuse('no-reset', `VM "${name}" is no real machine and has no reset line`, hint)
  }
  const why = whyNoPlacement(vm)
  if (why !== null) return { ok: false, refusal: why }
  if (placement === null || placement.phase === 'stopping') {
    return refuse('not-running', `VM "${name}" is being stopped`, `start it again: stellwerk vm start ${name}`)
  }
  const { host, epoch, incarnation } = placement
  out.decide({
    kind: 'vm-reset',
    subject: name,
    saw: { host, epoch, phase: placement.phase },
    chose: `reset its guest on ${host}`,
    why: 'an operator asked for it',
  })
  return accept({ vm: name, host, epoch, incarnation })
}
