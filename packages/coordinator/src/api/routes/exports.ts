// The HTTP API's routes about exported disks.

import { closed } from '@stellwerk/protocol/messages/fields.ts'
import { formatNbdUri } from '@stellwerk/protocol/nbd-uri.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { exportOf, sourceOf } from '../../core/exports.ts'
import type { DecisionRecord, VmRecord } from '../../core/state.ts'
import { exportView, exportViews } from '../../view/exports.ts'
import { type ExportView, ExportViewSchema } from '../../view/schemas.ts'
import { type ApiContext, type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'
import { diskOf } from './volumes.ts'

const PATH = '/v1/volumes/{name}/disks/{disk}/export'
const Done = Type.Object({ export: Type.String() })
const MAX_SOCKET_PATH = 100

export const exportRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/exports',
    summary: 'All disks that are exported',
    reply: Type.Array(ExportViewSchema),
    handle: ({ coordinator, env }) => exportViews(coordinator.state, env.clock.now()),
  }),
  route({
    method: 'GET',
    path: PATH,
    summary: 'The export of a disk, and its NBD URI once it is served',
    reply: ExportViewSchema,
    handle: (context, { params }) => {
      const { volume, disk } = named(params)
      const record = exportOf(context.coordinator.state, volume, disk)
      if (record === null) throw notExported(context, volume, disk)
      return located(context, record)
    },
  }),
  route({
    method: 'POST',
    path: PATH,
    summary: 'Serve a snapshot, or a disk that no VM has open to tools, by NBD, from one of the hosts',
    status: 202,
    body: closed({
      readOnly: Type.Optional(Type.Boolean()),
      host: Type.Optional(Type.Union([AnyName, Type.Null()])),
      /** A unix socket on that host; otherwise a port of its loopback. */
      socket: Type.Optional(Type.String({ minLength: 1, maxLength: MAX_SOCKET_PATH, pattern: '^/' })),
      port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
    }),
    reply: Done,
    handle: async (context, { params, body }) => {
      const { volume, disk } = named(params)
      const known = await diskOf(context, volume, disk)
      return context.coordinator.command({
        kind: 'disk-export',
        id: context.env.random.id(),
        volume,
        disk: known.disk,
        // A snapshot is exported while the VM that it was taken of runs.
        readOnly: known.snapshot || (body.readOnly ?? false),
        host: body.host ?? null,
        socket: body.socket ?? null,
        port: body.port ?? 0,
      })
    },
  }),
  route({
    method: 'DELETE',
    path: PATH,
    summary: 'End the export of a disk, in order',
    reply: Done,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'disk-unexport', ...named(params) }),
  }),
]

function named(params: { readonly [name: string]: string }): { volume: string; disk: string } {
  return { volume: params['name'] ?? '', disk: params['disk'] ?? '' }
}

async function located(context: ApiContext, record: VmRecord): Promise<ExportView> {
  const { coordinator, env } = context
  const view = exportView(coordinator.state, record, env.clock.now())
  if (view.host === null || view.state !== 'running') return view
  try {
    const where = (await coordinator.askAgent(view.host, 'export.where', { vm: record.name })) as {
      address: Address | null
      connections: number
    }
    const uri = where.address === null ? null : formatNbdUri({ address: where.address, exportName: view.name })
    return { ...view, uri, connections: where.connections }
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    return { ...view, why: `host ${view.host} does not say where: ${error.message}` }
  }
}

/** With why the last one ended, if that is still on record. */
function notExported({ env }: ApiContext, volume: string, disk: string): StellwerkError {
  const source = sourceOf(volume, disk)
  const last = env.store
    .entries('decisions/')
    .map(([, value]) => value as unknown as DecisionRecord)
    .findLast(({ kind, saw }) => kind === 'export-ended' && (saw as { source?: unknown } | null)?.source === source)
  const why = last === undefined ? '' : `: ${last.why}`
  return new StellwerkError('unknown-export', `disk "${disk}" of volume "${volume}" is not exported${why}`, {
    hint: `see: stellwerk disk list ${volume}`,
  })
}
