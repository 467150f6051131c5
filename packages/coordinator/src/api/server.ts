// The HTTP server of the coordinator: routes, token, checks, errors as { code, message, hint }. It decides nothing.

import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Coordinator } from '../coordinator.ts'
import { type EventLog, FOLLOWERS_MAX } from './event-log.ts'
import { checkOf } from './misfit.ts'
import { openApiOf } from './openapi.ts'
import { badRequest, statusOfError } from './refuse.ts'
import type { ApiContext, Hooks, Route } from './route.ts'
import { clusterRoutes } from './routes/cluster.ts'
import { diskCopyRoutes } from './routes/disk-copies.ts'
import { exportRoutes } from './routes/exports.ts'
import { forwardRoutes } from './routes/forwards.ts'
import { hostRoutes } from './routes/hosts.ts'
import { lunRoutes } from './routes/luns.ts'
import { vmRoutes } from './routes/vms.ts'
import { volumeRoutes } from './routes/volumes.ts'
import { checkToken } from './token.ts'
import { UsageCache } from './usage-cache.ts'

export const ROUTES: readonly Route[] = [
  ...clusterRoutes,
  ...hostRoutes,
  ...vmRoutes,
  ...volumeRoutes,
  ...diskCopyRoutes,
  ...exportRoutes,
  ...forwardRoutes,
  ...lunRoutes,
]

const VERSION = '1'
const BODY_MAX_BYTES = MIB
/** Of a request: its line with the URL, and its headers. */
const HEAD_MAX_BYTES = 16_384
/** A follower that reads so slowly is let go. */
const FOLLOWER_BUFFER_MAX_BYTES = MIB
const KEEP_ALIVE_MS = 15_000

export interface ApiOptions {
  /** Loopback unless told. */
  readonly listen: { readonly host?: string; readonly port: number }
  readonly token: string
  readonly events: EventLog
  readonly hooks?: Hooks
}

export interface Api {
  readonly host: string
  readonly port: number
  close(): Promise<void>
}

/** Rejects with `address-in-use` when the port is taken. */
export async function startApi(env: Environment, coordinator: Coordinator, options: ApiOptions): Promise<Api> {
  const app = createApi(env, coordinator, options)
  const host = options.listen.host ?? '127.0.0.1'
  try {
    await app.listen({ host, port: options.listen.port })
  } catch (error) {
    throw listenError(error, `${host}:${options.listen.port}`)
  }
  const bound = app.server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.listen.port
  return { host, port, close: () => app.close() }
}

/** The server without a socket. */
export function createApi(env: Environment, coordinator: Coordinator, options: ApiOptions): FastifyInstance {
  const { events, hooks = {}, token } = options
  const context: ApiContext = { env, coordinator, events, hooks, usage: new UsageCache(env, coordinator) }
  const app = fastify({
    logger: false,
    bodyLimit: BODY_MAX_BYTES,
    forceCloseConnections: true,
    http: { maxHeaderSize: HEAD_MAX_BYTES },
    // As long as that: a name that is too long is answered like any other that nothing has.
    routerOptions: { maxParamLength: HEAD_MAX_BYTES },
    frameworkErrors: (error, _request, reply) => sendError(env, reply, error),
    clientErrorHandler: refuseUnreadable,
  })
  context.usage.watch()
  app.addHook('onClose', async () => context.usage.close())
  const document = openApiOf(ROUTES, VERSION)
  app.addHook('onRequest', async request => {
    if (request.routeOptions.url !== '/openapi.json') checkToken(request.headers.authorization, token)
  })
  app.setErrorHandler((error, _request, reply) => sendError(env, reply, error))
  app.setNotFoundHandler((request, reply) =>
    sendError(
      env,
      reply,
      new StellwerkError('unknown-route', `there is no ${request.method} ${request.url}`, {
        hint: 'see /openapi.json',
      }),
    ),
  )
  app.get('/openapi.json', () => document)
  for (const route of ROUTES) serve(app, context, route)
  return app
}

function serve(app: FastifyInstance, context: ApiContext, route: Route): void {
  const checkBody = route.body === undefined ? null : checkOf(route.body)
  const checkQuery = route.query === undefined ? null : checkOf(route.query)
  app.route({
    method: route.method,
    url: route.path.replace(/\{(\w+)\}/g, ':$1'),
    ...(route.bodyMaxBytes === undefined ? {} : { bodyLimit: route.bodyMaxBytes }),
    handler: async (request, reply) => {
      const body = request.body ?? {}
      const where = `${route.method} ${request.url}`
      const misfit =
        (checkBody ?? noProperties('a body'))(body) ?? (checkQuery ?? noProperties('a query'))(request.query)
      if (misfit !== null) throw badRequest(`${where}: ${misfit}`, 'see /openapi.json for what it takes')
      if (route.stream === true) return stream(context, request, reply)
      const { params, query } = request as { params: Record<string, string>; query: Record<string, string> }
      const answer = await route.handle(context, { params, query, body: body as never })
      return reply.code(route.status ?? 200).send(answer)
    },
  })
}

const noProperties = (what: string) => (value: unknown) =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0
    ? null
    : `it takes no ${what.slice(2)}, but has ${JSON.stringify(value)?.slice(0, 100)}`

function sendError(env: Environment, reply: FastifyReply, error: unknown): void {
  const coded = codedError(error)
  const status = statusOfError(coded)
  if (status === 500) env.log.error({ code: errorCode(error), error }, `the API failed: ${errorMessage(error)}`)
  const { code, message, hint = '' } = coded
  reply.code(status).send({ code, message, hint })
}

/** Fastify's own refusals (a body that is no JSON, or too long) are the asker's; everything else uncoded is ours. */
function codedError(error: unknown): StellwerkError {
  if (error instanceof StellwerkError) return error
  const status = (error as { statusCode?: unknown }).statusCode
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return badRequest(errorMessage(error), 'send a JSON object that fits the schema in /openapi.json')
  }
  return internal(error)
}

/** What is no HTTP request, or has too long a head, never gets to a route. */
function refuseUnreadable(error: Error, socket: Duplex): void {
  if (!socket.writable) return
  const isLong = errorCode(error) === 'HPE_HEADER_OVERFLOW'
  const [status, message, hint] = isLong
    ? [
        '431 Request Header Fields Too Large',
        `the request's head has more than ${HEAD_MAX_BYTES} bytes`,
        'say less in it',
      ]
    : ['400 Bad Request', 'that is no HTTP request', 'see /openapi.json']
  const body = JSON.stringify({ code: 'bad-request', message, hint })
  const head = [`HTTP/1.1 ${status}`, 'connection: close', 'content-type: application/json; charset=utf-8']
  socket.end(`${[...head, `content-length: ${Buffer.byteLength(body)}`].join('\r\n')}\r\n\r\n${body}`)
}

function internal(error: unknown): StellwerkError {
  return new StellwerkError('internal', `the coordinator failed at this: ${errorMessage(error)}`, {
    hint: 'see its log',
    cause: error,
  })
}

function listenError(error: unknown, where: string): StellwerkError {
  const code = errorCode(error)
  if (code !== 'EADDRINUSE') return new StellwerkError(code, `the API can't listen: ${errorMessage(error)}`, { where })
  return new StellwerkError('address-in-use', 'the API’s port is taken by another process', {
    where,
    hint: 'stop that process, or use another port',
    cause: error,
  })
}

/** Server-sent events, until either side ends. */
function stream(context: ApiContext, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { env, events } = context
  if (events.followers >= FOLLOWERS_MAX) {
    throw new StellwerkError('too-many-followers', `${FOLLOWERS_MAX} follow the events already`, { hint: 'end one' })
  }
  reply.hijack()
  const response: ServerResponse = reply.raw
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  const write = (text: string): void => {
    if (response.writableLength > FOLLOWER_BUFFER_MAX_BYTES) response.destroy()
    else response.write(text)
  }
  const unfollow = events.follow(event => write(`id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`))
  // Without a word now and then, neither side would notice that the other is gone.
  const beat = () => {
    write(': still here\n\n')
    timer = env.timers.after(KEEP_ALIVE_MS, beat)
  }
  let timer = env.timers.after(KEEP_ALIVE_MS, beat)
  write(': following\n\n')
  request.raw.on('close', () => {
    timer.cancel()
    unfollow()
  })
  return reply
}
