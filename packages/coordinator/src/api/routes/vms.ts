// The HTTP API's routes about VMs and their migrations.

import {
  digestOf,
  digestOfGuest,
  guestOfDigest,
  MAX_MODULE_BYTES,
} from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { VmSpecSchema } from '@stellwerk/protocol/messages/cluster.ts'
import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import { WhenDivergingSchema } from '@stellwerk/protocol/messages/migration.ts'
import { type Static, Type } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Command } from '../../core/commands.ts'
import { isExport } from '../../core/exports.ts'
import { placementOf } from '../../core/placement-of.ts'
import { RestartPolicySchema } from '../../core/restart-policy.ts'
import type { VmRecord, VmSpec } from '../../core/state.ts'
import { MigrationViewSchema, VmViewSchema } from '../../view/schemas.ts'
import { vmViews } from '../../view/status.ts'
import { migrationView, vmView } from '../../view/vms.ts'
import { badRequest, unknownThing } from '../refuse.ts'
import { type ApiContext, type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'
import { diskOf, refuseExistingDisks } from './volumes.ts'

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const MAX_DISKS = 16
/** In base64, with the rest of the definition. */
const MODULE_TEXT_MAX = Math.ceil(MAX_MODULE_BYTES / 3) * 4
const CREATE_MAX_BYTES = MODULE_TEXT_MAX + 1024 * 1024

/** Of a size, or as a clone of a snapshot and as large as that. */
const DiskSpec = closed({
  volume: AnyName,
  sizeBytes: Type.Optional(Bytes),
  snapshot: Type.Optional(AnyName),
})

const NicSpec = closed({
  network: AnyName,
  /** Absent: one is made. */
  mac: Type.Optional(Type.String({ maxLength: 64 })),
  /** IPv4 addresses that its guest may use; absent: any. */
  addresses: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { maxItems: 16 })),
})

const Create = closed({
  name: AnyName,
  /** One that every agent has by name, or `sha256:DIGEST` of a module. */
  guest: Type.String({ minLength: 1, maxLength: 1024 }),
  /** That module, in base64; without it, one that the cluster has already. */
  module: Type.Optional(Type.String({ maxLength: MODULE_TEXT_MAX })),
  hypervisor: Type.Optional(Type.Union([Type.Literal('wasm'), Type.Literal('model'), Type.Literal('qemu')])),
  memoryBytes: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  parameters: Type.Optional(VmSpecSchema.properties.parameters),
  disks: Type.Optional(Type.Array(DiskSpec, { maxItems: MAX_DISKS })),
  nics: Type.Optional(Type.Array(NicSpec, { maxItems: 64 })),
  start: Type.Optional(Type.Boolean()),
  priority: Type.Optional(Type.Integer({ minimum: -1000, maximum: 1000 })),
  host: Type.Optional(Type.Union([AnyName, Type.Null()])),
  restart: Type.Optional(Type.Partial(RestartPolicySchema, { additionalProperties: false })),
})
const OnHost = closed({ host: Type.Optional(Type.Union([AnyName, Type.Null()])) })
const Done = Type.Object({ vm: Name })

/** Which machine of a VM an order is for. */
interface Placed {
  readonly vm: string
  readonly host: string
  readonly epoch: number
  readonly incarnation: number
}

export function vmOf(context: ApiContext, name: string): VmRecord {
  const vm = context.coordinator.state.vms.get(name)
  if (vm === undefined || isExport(vm)) throw unknownThing('VM', name)
  return vm
}

export const vmRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/vms',
    summary: 'All VMs',
    reply: Type.Record(Type.String(), VmViewSchema),
    handle: ({ coordinator, env }) =>
      Object.fromEntries(vmViews(coordinator.state, env.clock.now()).map(view => [view.name, view])),
  }),
  route({
    method: 'GET',
    path: '/v1/vms/{name}',
    summary: 'One VM',
    reply: VmViewSchema,
    handle: (context, { params }) =>
      vmView(context.coordinator.state, vmOf(context, params['name'] ?? ''), context.env.clock.now()),
  }),
  route({
    method: 'POST',
    path: '/v1/vms',
    summary: 'Define a VM and, unless told otherwise, start it',
    status: 201,
    body: Create,
    bodyMaxBytes: CREATE_MAX_BYTES,
    reply: Done,
    handle: async (context, { body }) => {
      const { name, guest, memoryBytes, hypervisor = 'wasm', parameters = {} } = body
      const disks = await disksOf(context, body.disks ?? [])
      const spec = { hypervisor, guest, memoryBytes, parameters }
      const nics = (body.nics ?? []).map(({ network, mac, addresses }) => ({
        network,
        mac: mac ?? null,
        addresses: addresses ?? [],
      }))
      context.hooks.checkDefinition?.(name, spec, disks.length, nics.length)
      await refuseExistingDisks(context, name, disks)
      return withGuest(
        context,
        { ...body, spec },
        {
          kind: 'vm-create',
          name,
          spec,
          disks,
          nics,
          start: body.start ?? true,
          priority: body.priority ?? 0,
          host: body.host ?? null,
          ...(body.restart === undefined ? {} : { restart: body.restart }),
        },
      )
    },
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/start',
    summary: 'It is to run',
    body: OnHost,
    reply: Done,
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({ kind: 'vm-start', name: params['name'] ?? '', host: body.host ?? null }),
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/stop',
    summary: 'It is to be stopped: its guest is asked to shut down, and killed when its time is over',
    body: closed({
      /** Default: the setting `stopTimeoutMs`. */
      timeoutMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 3_600_000 })),
      /** Not asked: killed at once. */
      force: Type.Optional(Type.Boolean()),
    }),
    reply: Done,
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({
        kind: 'vm-stop',
        name: params['name'] ?? '',
        graceMs: body.force === true ? 0 : (body.timeoutMs ?? null),
      }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/vms/{name}',
    summary: 'Stop it and delete it with its disks',
    reply: Done,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'vm-delete', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/migrate',
    summary: 'Migrate it live; without a host: to wherever is best',
    status: 202,
    body: closed({
      to: Type.Optional(Type.Union([AnyName, Type.Null()])),
      /** The longest pause that is aimed at; default: the setting `downtimeMs`. */
      downtimeMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000 })),
      /** Where none so short is to be had: a longer one (default), or it stays where it is. */
      whenDiverging: Type.Optional(WhenDivergingSchema),
    }),
    reply: Type.Object({ migration: Type.String(), vm: Name, from: Name, to: Name }),
    handle: ({ coordinator, env }, { params, body }) => {
      const { to = null, ...limits } = body
      return coordinator.command({ kind: 'vm-migrate', name: params['name'] ?? '', to, id: env.random.id(), limits })
    },
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/cancel',
    summary: 'Cancel its migration, unless that is committed',
    reply: Done,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'vm-cancel', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/reset',
    summary: 'Its guest begins anew, with what its disks have: the reset button of a real machine',
    reply: Done,
    handle: async ({ coordinator }, { params }) => {
      const target = (await coordinator.command({ kind: 'vm-reset', name: params['name'] ?? '' })) as Placed
      await coordinator.askAgent(target.host, 'vm.reset', target)
      return { vm: target.vm }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/input',
    summary: 'A line for its console',
    body: closed({ line: Type.String({ maxLength: 4096 }) }),
    reply: Type.Object({ vm: Name }),
    handle: (context, { params, body }) => sendInput(context, params['name'] ?? '', body.line),
  }),
  route({
    method: 'GET',
    path: '/v1/migrations',
    summary: 'Migrations under way and those remembered, oldest first',
    reply: Type.Array(MigrationViewSchema),
    handle: ({ coordinator, env }) =>
      [...coordinator.state.migrations.values()]
        .sort((a, b) => a.requestedWallMs - b.requestedWallMs)
        .map(migration => migrationView(coordinator.state, migration, env.clock.now())),
  }),
  route({
    method: 'GET',
    path: '/v1/migrations/{id}',
    summary: 'One migration and how far it is',
    reply: MigrationViewSchema,
    handle: ({ coordinator, env }, { params }) => {
      const id = params['id'] ?? ''
      const migration = coordinator.state.migrations.get(id)
      if (migration === undefined) {
        throw new StellwerkError('unknown-migration', `there is no migration "${id}"`, {
          hint: 'only the last ones are remembered',
        })
      }
      return migrationView(coordinator.state, migration, env.clock.now())
    },
  }),
]

/** A module that comes with the definition is checked and durable before the VM is decided on, and gone if that is refused. */
async function withGuest(
  { coordinator, hooks }: ApiContext,
  { guest, module, name, spec }: { guest: string; module?: string; name: string; spec: VmSpec },
  command: Command,
): Promise<unknown> {
  const digest = digestOfGuest(guest)
  if (module === undefined) {
    if (digest !== null && !(await coordinator.guests.has(digest))) {
      throw new StellwerkError('unknown-guest', `the cluster has no guest module ${guest}`, {
        hint: 'name its file: stellwerk vm create --guest FILE',
      })
    }
    return coordinator.command(command)
  }
  const bytes = Buffer.from(module, 'base64')
  if (digestOf(bytes) !== digest) {
    throw new StellwerkError(
      'bad-guest',
      `the module that came is not ${guest}, but ${guestOfDigest(digestOf(bytes))}`,
      {
        hint: 'send it again',
      },
    )
  }
  await hooks.checkGuest?.(bytes, name, spec)
  return coordinator.guests.hold(bytes, () => coordinator.command(command))
}

async function sendInput(context: ApiContext, name: string, line: string): Promise<object> {
  const { host, epoch, incarnation } = placementOf(vmOf(context, name))
  await context.coordinator.askAgent(host, 'vm.input', { vm: name, epoch, host, incarnation, line })
  return { vm: name }
}

async function disksOf(
  context: ApiContext,
  asked: readonly Static<typeof DiskSpec>[],
): Promise<{ volume: string; sizeBytes: number; snapshot?: string }[]> {
  const disks: { volume: string; sizeBytes: number; snapshot?: string }[] = []
  for (const { volume, sizeBytes, snapshot } of asked) {
    if ((sizeBytes === undefined) === (snapshot === undefined)) {
      throw badRequest(`a disk on "${volume}" has either a size or a snapshot`, 'say VOLUME:SIZE or VOLUME/SNAPSHOT')
    }
    if (snapshot === undefined) {
      disks.push({ volume, sizeBytes: sizeBytes! })
      continue
    }
    const source = await diskOf(context, volume, snapshot)
    if (!source.snapshot) {
      throw new StellwerkError('not-a-snapshot', `"${snapshot}" is a disk, only snapshots are cloned`, {
        hint: `make one: stellwerk disk snapshot ${volume} ${snapshot} NAME`,
      })
    }
    disks.push({ volume, sizeBytes: source.sizeBytes, snapshot })
  }
  return disks
}
