// What an agent gives every hypervisor when it constructs one: the world, the right to run, and where evidence goes.

import type { Environment, TraceEvent } from '@stellwerk/runtime/environment.ts'
import type { MachineSpec } from './hypervisor.ts'

export interface HypervisorOptions {
  readonly env: Environment
  /**
   * The lease check, asked as the guest runs: before guest code executes and before anything leaves a guest (a block
   * request, a console line, a frame). It must be cheap, must not call back into the machine, and must judge by the
   * clock at the moment it is asked.
   */
  mayExecute(vm: string): boolean
  /** Until when, on the environment's clock, if nothing prolongs it: for what executes where it cannot ask. */
  until(vm: string): number
  /** `guest.step` (docs/SPEC.md) without its host, which the agent adds. Called only where the trace level is on. */
  evidence(event: TraceEvent): void
}

/** The evidence that guest code of this very creation was executed: now, or last so long ago. */
export function stepEvidence(
  spec: MachineSpec,
  identity: { readonly epoch: number; readonly instance: string },
  agoMs?: number,
): TraceEvent {
  const { epoch, instance } = identity
  const body = agoMs === undefined ? { epoch, instance } : { epoch, instance, agoMs: Math.round(agoMs * 10) / 10 }
  return { level: 'io', kind: 'guest.step', vm: spec.vm, body }
}
