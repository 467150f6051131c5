// Errors that tell what the world did wrong. A bug is an assertion (assert.ts), never one of these.

export interface ErrorDetails {
  /** True when the same request may succeed later without anybody changing anything. */
  readonly retryable?: boolean
  /** Where it happened: a file, a flag, an address, an object's name. */
  readonly where?: string
  /** What the reader can do about it. */
  readonly hint?: string
  readonly cause?: unknown
}

/** An error with a stable code. `code` is API: scripts and tests match on it, so it is never renamed. */
export class StellwerkError extends Error {
  readonly code: string
  readonly retryable: boolean
  readonly where: string | undefined
  readonly hint: string | undefined

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'StellwerkError'
    this.code = code
    this.retryable = details.retryable ?? false
    this.where = details.where
    this.hint = details.hint
  }
}

/** The code of any thrown value: a StellwerkError's, a system error's (`ENOENT`), or `unknown`. */
export function errorCode(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string') {
    return error.code
  }
  return 'unknown'
}

/** The message of any thrown value, for logs and traces. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** One line for a terminal: what is wrong, where, and what to do. What others say in several lines is in one, too. */
export function describeError(error: unknown): string {
  return describe(error)
    .trim()
    .replace(/\s*[\r\n]\s*/g, ' ')
}

function describe(error: unknown): string {
  if (!(error instanceof StellwerkError)) return errorMessage(error)
  const where = error.where === undefined ? '' : ` (${error.where})`
  const hint = error.hint === undefined ? '' : `; ${error.hint}`
  return `${error.message}${where}${hint}`
}

/** An error as it is told to another process. */
export interface ToldError {
  readonly code: string
  readonly message: string
  readonly where: string
  readonly hint: string
}

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
