// An error as data: how a failed request travels between actors and across links. It carries what a StellwerkError does,
// and nothing of a stack or a cause, which mean nothing in another process.
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'

export interface Failure {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly where?: string
  readonly hint?: string
}

/** What strings of a failure are cut to, so that an error that quotes its input can't exceed a frame. */
export const MAX_FAILURE_TEXT = 2000

const cut = (text: string): string =>
  text.length > MAX_FAILURE_TEXT ? `${text.slice(0, MAX_FAILURE_TEXT - 1)}…` : text

export function failureOf(error: unknown): Failure {
  const code = cut(errorCode(error))
  const message = cut(errorMessage(error))
  if (!(error instanceof StellwerkError)) return { code, message, retryable: false }
  return {
    code,
    message,
    retryable: error.retryable,
    ...(error.where === undefined ? {} : { where: cut(error.where) }),
    ...(error.hint === undefined ? {} : { hint: cut(error.hint) }),
  }
}

export function errorOf(failure: Failure): StellwerkError {
  return new StellwerkError(failure.code, failure.message, {
    retryable: failure.retryable,
    ...(failure.where === undefined ? {} : { where: failure.where }),
    ...(failure.hint === undefined ? {} : { hint: failure.hint }),
  })
}
