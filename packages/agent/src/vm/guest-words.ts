// What a guest says on its console: to who follows it; its lines also on record.

import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { MachineEvent } from '../hypervisor/hypervisor.ts'
import type { Evidence } from './evidence.ts'
import type { VmParts } from './vm-parts.ts'

export function passWords(
  event: Extract<MachineEvent, { kind: 'console' | 'prompt' | 'output' }>,
  parts: Pick<VmParts, 'consoles'>,
  { vm, epoch }: VmOrder,
  evidence: Evidence,
): void {
  if (event.kind === 'prompt') {
    parts.consoles.prompt(vm, event.text)
    return
  }
  if (event.kind === 'output') {
    parts.consoles.output(vm, event.bytes, event.port)
    return
  }
  evidence.said(event.line)
  parts.consoles.line(vm, epoch, event.line, event.said)
}
