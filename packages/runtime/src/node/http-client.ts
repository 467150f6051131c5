// A small HTTP client for what talks to the coordinator's API: one request with a JSON answer, or a stream of lines. No
// redirects, no pooling, no proxies.

import { request as httpRequest, type IncomingMessage } from 'node:http'
import { errorCode, errorMessage, StellwerkError } from '../errors.ts'
import { MIB } from '../units.ts'

/** An answer that is longer is not one of ours. */
const ANSWER_MAX_BYTES = 64 * MIB
const LINE_MAX_CHARACTERS = MIB

export interface HttpRequest {
  readonly host: string
  readonly port: number
  readonly method: string
  readonly path: string
  readonly headers: { readonly [name: string]: string }
  readonly body?: string
  /** Until the answer begins, and between two parts of it. */
  readonly timeoutMs: number
}

export interface HttpAnswer {
  readonly status: number
  readonly body: string
}

/** Rejects with `refused` (nothing listens there), `unreachable`, or `deadline`. */
export async function fetchText(request: HttpRequest): Promise<HttpAnswer> {
  const response = await send(request)
  return { status: response.statusCode ?? 0, body: await textOf(response, request) }
}

export interface LineStream {
  /** Not 200: `body` says why, and no line will come. */
  readonly status: number
  readonly body: string
  close(): void
}

/** Each line as it comes; `onEnd` once, when the other side has ended or the connection broke. */
export async function fetchLines(
  request: HttpRequest,
  onLine: (line: string) => void,
  onEnd: () => void,
): Promise<LineStream> {
  const response = await send(request)
  const status = response.statusCode ?? 0
  if (status !== 200) return { status, body: await textOf(response, request), close: () => undefined }
  let rest = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_MAX_CHARACTERS) response.destroy()
    for (const line of lines) onLine(line)
  })
  // `close` follows every way to end; an error says no more.
  response.on('error', () => undefined)
  response.on('close', onEnd)
  return { status, body: '', close: () => response.destroy() }
}

function send(request: HttpRequest): Promise<IncomingMessage> {
  const { host, port, method, path, headers, body, timeoutMs } = request
  const where = `${host}:${port}`
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ host, port, method, path, headers, agent: false, timeout: timeoutMs }, resolve)
    outgoing.on('timeout', () =>
      outgoing.destroy(new StellwerkError('deadline', `no answer within ${timeoutMs} ms`, { where, retryable: true })),
    )
    outgoing.on('error', error => reject(requestError(error, where)))
    outgoing.end(body)
  })
}

function requestError(error: Error, where: string): StellwerkError {
  if (error instanceof StellwerkError) return error
  const details = { where, retryable: true, cause: error }
  if (errorCode(error) === 'ECONNREFUSED') return new StellwerkError('refused', 'nothing listens there', details)
  return new StellwerkError('unreachable', `no connection: ${errorMessage(error)}`, details)
}

function textOf(response: IncomingMessage, request: HttpRequest): Promise<string> {
  const where = `${request.host}:${request.port}`
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > ANSWER_MAX_BYTES)
        response.destroy(new StellwerkError('too-large', 'the answer is too long', { where }))
      else chunks.push(chunk)
    })
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    response.on('error', error => reject(requestError(error, where)))
  })
}
