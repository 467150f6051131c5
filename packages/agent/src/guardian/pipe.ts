// What guardian and agent tell each other over their pipe. Times are on the machine's clock, which both read.

import type { Json } from '@stellwerk/runtime/environment.ts'

export interface MachineDeadline {
  readonly vm: string
  readonly epoch: number
  /** Past this the machine must not run: the guardian kills what has not been reported frozen. */
  readonly until: number
  readonly frozen: boolean
}

export type ToGuardian =
  /** All machines of the agent, each time; acknowledged. */
  { readonly kind: 'deadlines'; readonly seq: number; readonly machines: readonly MachineDeadline[] }

export type ToAgent =
  | { readonly kind: 'acknowledged'; readonly seq: number }
  /** Stop the guests in order, then end. */
  | { readonly kind: 'stop' }

export function asToGuardian(message: Json): ToGuardian {
  return message as unknown as ToGuardian
}

export function asToAgent(message: Json): ToAgent {
  return message as unknown as ToAgent
}
