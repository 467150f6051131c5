// What a program gives to the process that runs it, and what processes of a cluster on one machine tell each other over
// their pipes (the guardian's agent apart, who has its own).

import type { AgentFailed } from '@stellwerk/agent/guardian/pipe.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { ToldError } from '@stellwerk/runtime/errors.ts'

export interface Running {
  /** Told to the parent with `ready`. */
  readonly info: Json
  onMessage?: (message: ToChild) => void
  stop(): Promise<void>
}

export type ToChild =
  /** End in order. */
  | { readonly kind: 'stop' }
  | { readonly kind: 'host-added'; readonly seq: number; readonly name: string; readonly error: ToldError | null }

export type ToParent =
  | { readonly kind: 'ready'; readonly info: Json }
  /** It could not start; it exits. */
  | { readonly kind: 'failed'; readonly error: ToldError }
  | AgentFailed
  | { readonly kind: 'add-host'; readonly seq: number; readonly name: string }
