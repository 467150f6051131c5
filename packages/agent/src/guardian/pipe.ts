// What guardian and agent tell each other over their pipe. Times are on the machine's clock, which both read.

import type { CommandExit, CommandSpec, Json } from '@stellwerk/runtime/environment.ts'
import type { ToldError } from '@stellwerk/runtime/errors.ts'

export interface MachineDeadline {
  readonly vm: string
  readonly epoch: number
  /** Past this the machine must not run: the guardian kills what has not been reported frozen. */
  readonly until: number
  readonly frozen: boolean
}

export type ToGuardian =
  /** All machines of the agent, each time; acknowledged. */
  | { readonly kind: 'deadlines'; readonly seq: number; readonly machines: readonly MachineDeadline[] }
  /** To be started by the guardian, who reaps it and kills it past the VM's deadline: `program.started` or `program.refused`. */
  | { readonly kind: 'program.start'; readonly id: number; readonly vm: string | null; readonly spec: CommandSpec }
  | { readonly kind: 'program.kill'; readonly id: number }
  /** It could not start; it exits. */
  | { readonly kind: 'failed'; readonly error: ToldError }

/** What a guardian tells the process that spawned it: its agent could not start. */
export interface AgentFailed {
  readonly kind: 'agent-failed'
  readonly error: ToldError
}

export type ToAgent =
  | { readonly kind: 'acknowledged'; readonly seq: number }
  | { readonly kind: 'program.started'; readonly id: number }
  | { readonly kind: 'program.refused'; readonly id: number; readonly error: ToldError }
  | { readonly kind: 'program.exited'; readonly id: number; readonly exit: CommandExit }
  /** Stop the guests in order, then end. */
  | { readonly kind: 'stop' }

export function asToGuardian(message: Json): ToGuardian {
  return message as unknown as ToGuardian
}

export function asToAgent(message: Json): ToAgent {
  return message as unknown as ToAgent
}
