// The coordinator's HTTP API as the commands use it: a path and a body in, the answer or the coded error out.

import { checkOf } from '@stellwerk/coordinator/api/misfit.ts'
import { ErrorSchema } from '@stellwerk/coordinator/api/openapi.ts'
import type { ClusterEvent, MigrationView, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { fetchLines, fetchText, type HttpRequest } from '@stellwerk/runtime/node/http-client.ts'

const TIMEOUT_MS = 10_000
/** The other side says something at least this often. */
const FOLLOW_TIMEOUT_MS = 60_000

export interface ApiAddress {
  readonly host: string
  readonly port: number
  readonly token: string
}

const isError = checkOf(ErrorSchema)

const AWAY = new Set(['coordinator-away', 'deadline', 'unreachable'])

/** The coordinator does not answer now, and may do so later. */
export function isAway(error: unknown): boolean {
  return AWAY.has(errorCode(error))
}

export class ApiClient {
  readonly address: ApiAddress

  constructor(address: ApiAddress) {
    this.address = address
  }

  get(path: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return this.#call('GET', path, undefined, timeoutMs)
  }

  post(path: string, body: object = {}, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return this.#call('POST', path, body, timeoutMs)
  }

  delete(path: string): Promise<unknown> {
    return this.#call('DELETE', path)
  }

  async status(timeoutMs = TIMEOUT_MS): Promise<Status> {
    return (await this.get('/v1/status', timeoutMs)) as Status
  }

  /** `limit`: the newest of them only. */
  async events(after: number, limit?: number): Promise<ClusterEvent[]> {
    const only = limit === undefined ? '' : `&limit=${limit}`
    return (await this.get(`/v1/events?after=${after}${only}`)) as ClusterEvent[]
  }

  async migration(id: string): Promise<MigrationView> {
    return (await this.get(`/v1/migrations/${encodeURIComponent(id)}`)) as MigrationView
  }

  /** Every event from now on. Gives the way to end it. */
  async follow(onEvent: (event: ClusterEvent) => void, onEnd: () => void): Promise<() => void> {
    const request = { ...this.#request('GET', '/v1/events/follow'), timeoutMs: FOLLOW_TIMEOUT_MS }
    const onLine = (line: string) => {
      if (line.startsWith('data: ')) onEvent(JSON.parse(line.slice('data: '.length)) as ClusterEvent)
    }
    const stream = await this.#reach(fetchLines(request, onLine, onEnd))
    if (stream.status !== 200) throw errorOf(stream.status, stream.body, request.path)
    return () => stream.close()
  }

  async #call(method: string, path: string, body?: object, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    const answer = await this.#reach(fetchText({ ...this.#request(method, path, body), timeoutMs }))
    if (answer.status >= 200 && answer.status < 300) return JSON.parse(answer.body) as unknown
    throw errorOf(answer.status, answer.body, path)
  }

  async #reach<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      const code = errorCode(error)
      if (code !== 'refused' && !isReset(error)) throw error
      const { host, port } = this.address
      const what = code === 'refused' ? 'nothing listens there' : 'it ended while it was asked'
      throw new StellwerkError('coordinator-away', `the coordinator does not answer: ${what}`, {
        where: `${host}:${port}`,
        retryable: true,
        hint: 'is the cluster up? start it: npx stellwerk up',
        cause: error,
      })
    }
  }

  #request(method: string, path: string, body?: object): HttpRequest {
    const { host, port, token } = this.address
    const headers: Record<string, string> = { authorization: `Bearer ${token}` }
    if (body !== undefined) headers['content-type'] = 'application/json'
    return {
      host,
      port,
      method,
      path,
      headers,
      timeoutMs: TIMEOUT_MS,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }
  }
}

/** Whoever was asked went away meanwhile: what came of it is not known. */
function isReset(error: unknown): boolean {
  const cause = error instanceof StellwerkError ? error.cause : error
  return errorCode(cause) === 'ECONNRESET'
}

function errorOf(status: number, body: string, path: string): StellwerkError {
  let value: unknown = null
  try {
    value = JSON.parse(body)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  if (isError(value) !== null) {
    return new StellwerkError('bad-answer', `answered ${status} without saying why: this is no coordinator`, {
      where: path,
      hint: 'see what listens on that port',
    })
  }
  const { code, message, hint } = value as { code: string; message: string; hint: string }
  return new StellwerkError(code, message, hint === '' ? {} : { hint })
}

/** A path from words that people typed. */
export function pathOf(...segments: readonly string[]): string {
  return `/v1/${segments.map(encodeURIComponent).join('/')}`
}
