// What guardian and agent tell each other over their pipe. Times are on the machine's clock, which both read.

import type { CommandExit, CommandSpec, Json } from '@stellwerk/runtime/environment.ts'
import type { ToldError } from '@stellwerk/runtime/errors.ts'

export interface MachineDeadline {
  readonly vm: string
  readonly epoch: number
  /** Past this the machine must not run: the guardian kills what has not been reported frozen. */
  readonly until: number
  readonly frozen: boolean
  /** It has executed here. */
  readonly begun: boolean
}

/**
 * A machine that goes on executing though the agent that started it is dead: a process of the guardian's. It ends with its right
 * to run, unless the next agent takes it over before.
 */
export interface Survivor {
  readonly vm: string
  /** The placement epoch it was given. */
  readonly epoch: number
  /** Its deadline, as for all. */
  readonly until: number
  /** As the guardian numbers it. */
  readonly program: number
  /** What its agent wrote down of it at its start, for whoever takes it over. */
  readonly keep: Kept
}

export interface Kept {
  /** The id of this creation of the VM, in evidence. */
  readonly instance: string
  readonly [what: string]: Json
}

export type ToGuardian =
  /** All machines of the agent, each time; acknowledged. */
  | { readonly kind: 'deadlines'; readonly seq: number; readonly machines: readonly MachineDeadline[] }
  /**
   * To be started by the guardian, who reaps it and kills it past the VM's deadline: `program.started` or `program.refused`. Without
   * `keep` it also ends with the agent.
   */
  | {
      readonly kind: 'program.start'
      readonly id: number
      readonly vm: string | null
      readonly spec: CommandSpec
      readonly keep: Kept | null
    }
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
