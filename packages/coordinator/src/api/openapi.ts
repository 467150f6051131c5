// The OpenAPI 3.1 document of the HTTP API, made from the same routes and schemas that serve it.

import { type TSchema, Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Route } from './route.ts'

export const ErrorSchema = Type.Object({
  /** Stable: scripts match on it. */
  code: Type.String(),
  message: Type.String(),
  /** What to do about it. */
  hint: Type.String(),
})

export function openApiOf(routes: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of routes) {
    const item = paths[route.path] ?? {}
    paths[route.path] = item
    item[route.method.toLowerCase()] = operationOf(route)
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Stellwerk', version, description: "The coordinator's API: what the stellwerk command speaks." },
    security: [{ token: [] }],
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Error: plain(ErrorSchema) },
    },
    paths,
  }
}

function operationOf(route: Route): object {
  const names = [...route.path.matchAll(/\{(\w+)\}/g)].map(match => match[1] ?? '')
  const parameters: object[] = names.map(name => ({ name, in: 'path', required: true, schema: { type: 'string' } }))
  for (const [name, schema] of Object.entries(route.query?.properties ?? {})) {
    parameters.push({ name, in: 'query', required: false, schema: plain(schema) })
  }
  const type = route.stream === true ? 'text/event-stream' : 'application/json'
  const failure = { content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } } }
  return {
    summary: route.summary,
    operationId: `${route.method.toLowerCase()}${route.path.replace(/[^A-Za-z]+/g, '-').replace(/-$/, '')}`,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: plain(route.body) } } } }),
    responses: {
      [String(route.status ?? 200)]: { description: 'Done', content: { [type]: { schema: plain(route.reply) } } },
      '4XX': { description: 'Refused: nothing was changed', ...failure },
      '503': { description: 'Somebody who is needed for it does not answer now', ...failure },
    },
  }
}

/** Only what JSON Schema knows. */
function plain(schema: TSchema): unknown {
  return JSON.parse(JSON.stringify(schema))
}
