// What a program gives to the process that runs it, and what processes of a cluster on one machine tell each other over
// their pipes (the guardian's agent apart, who has its own).

import type { Json } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'

export interface Running {
  /** Told to the parent with `ready`. */
  readonly info: Json
  onMessage?: (message: ToChild) => void
  stop(): Promise<void>
}

export interface ToldError {
  readonly code: string
  readonly message: string
  readonly where: string
  readonly hint: string
}

export type ToChild =
  /** End in order. */
  | { readonly kind: 'stop' }
  | { readonly kind: 'host-added'; readonly seq: number; readonly name: string; readonly error: ToldError | null }

export type ToParent =
  | { readonly kind: 'ready'; readonly info: Json }
  /** It could not start; it exits. */
  | { readonly kind: 'failed'; readonly error: ToldError }
  | { readonly kind: 'add-host'; readonly seq: number; readonly name: string }

export function tellError(error: unknown): ToldError {
  if (!(error instanceof StellwerkError)) {
    return { code: errorCode(error), message: errorMessage(error), where: '', hint: '' }
  }
  const { code, message, where = '', hint = '' } = error
  return { code, message, where, hint }
}

export function asError(told: ToldError): StellwerkError {
  const { code, message, where, hint } = told
  return new StellwerkError(code, message, {
    ...(where === '' ? {} : { where }),
    ...(hint === '' ? {} : { hint }),
  })
}
