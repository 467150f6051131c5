// The HTTP API's routes about volumes and their disks. Disks are their volume's owner's: it is asked directly.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { closed, NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import { type DiskInfo, DiskInfoSchema } from '@stellwerk/protocol/messages/volume.ts'
import { CheckAnswerSchema } from '@stellwerk/protocol/messages/volume-check.ts'
import { ScrubReportSchema } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { vmDiskName } from '../../core/commands.ts'
import { exportOf, isExport } from '../../core/exports.ts'
import { orderedNames } from '../../core/external.ts'
import { nextLeg, whyNoMirror } from '../../core/leg-commands.ts'
import { isDamaged, isServing } from '../../core/ownership.ts'
import type { VmRecord, VolumeRecord } from '../../core/state.ts'
import { whyNoVolume } from '../../core/volume-creation.ts'
import { UsageSchema, VolumeViewSchema } from '../../view/schemas.ts'
import { volumeViews } from '../../view/status.ts'
import { volumeView } from '../../view/volumes.ts'
import { checkNewLeg } from '../new-leg.ts'
import { unknownThing } from '../refuse.ts'
import { type ApiContext, type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const BLOCK_BYTES = 4096
const MAX_LEGS = 8
/** Disks named in a refusal. */
const NAMED_MAX = 3
/** An owner reads all of the metadata for it. */
const CHECK_MS = 60_000

const LegReply = Type.Object({ volume: Type.String(), leg: Type.String(), storage: Type.String() })

function volumeOf(context: ApiContext, name: string): VolumeRecord {
  const volume = context.coordinator.state.volumes.get(name)
  if (volume === undefined) throw unknownThing('volume', name)
  return volume
}

/** The volume, if its owner can be asked now. */
export function served(context: ApiContext, name: string): VolumeRecord {
  const volume = volumeOf(context, name)
  if (isServing(context.coordinator.state, name)) return volume
  throw new StellwerkError('owner-away', `volume "${name}" has no owner that serves it now`, {
    retryable: true,
    hint: `see: stellwerk why volume ${name}`,
  })
}

/** The volume, if its owner can be asked for a check: also one that cannot open it, for what is damaged is what a check tells. */
function checkable(context: ApiContext, name: string): VolumeRecord {
  const volume = volumeOf(context, name)
  return isDamaged(context.coordinator.state, volume) ? volume : served(context, name)
}

export const volumeRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/volumes',
    summary: 'All volumes',
    reply: Type.Record(Type.String(), VolumeViewSchema),
    handle: ({ coordinator, env, usage }) =>
      Object.fromEntries(
        volumeViews(coordinator.state, env.clock.now(), name => usage.get(name)).map(view => [view.name, view]),
      ),
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/{name}',
    summary: 'One volume',
    reply: VolumeViewSchema,
    handle: (context, { params }) => {
      const volume = volumeOf(context, params['name'] ?? '')
      return volumeView(context.coordinator.state, volume, context.usage.get(volume.name), context.env.clock.now())
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/path-policy',
    summary: 'How hosts spread its requests over paths that are as good: least-queue or fixed',
    body: closed({ policy: AnyName }),
    reply: Type.Object({ volume: Type.String(), pathPolicy: Type.String() }),
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({ kind: 'path-policy', volume: params['name'] ?? '', policy: body.policy }),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes',
    summary: 'Make a volume; without storages named: a mirror over the two that have fewest, where there are two',
    status: 201,
    body: closed({
      name: AnyName,
      sizeBytes: Bytes,
      storages: Type.Optional(Type.Array(AnyName, { maxItems: MAX_LEGS })),
    }),
    reply: Type.Object({ volume: Type.String() }),
    handle: async ({ coordinator, env }, { body }) => {
      const { name, sizeBytes } = body
      const id = env.random.id()
      const storages = body.storages ?? defaultLegs(coordinator.state)
      const command = { kind: 'volume-create', name, id, sizeBytes, storages } as const
      if (whyNoVolume(coordinator.state, command, env.clock.now()) === null) {
        const wanted = { lun: name, sizeBytes, volumeId: id, lunId: id, legs: [] }
        for (const storage of storages) await checkNewLeg(coordinator, storage, wanted)
      }
      return coordinator.command(command)
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/volumes/{name}',
    summary: 'Delete it with its LUNs; refused while anything is on it, unless force is "true": then with all that is',
    query: closed({ force: Type.Optional(Type.Union([Type.Literal('true'), Type.Literal('false')])) }),
    reply: Type.Object({ volume: Type.String() }),
    handle: async (context, { params, query }) => {
      const name = params['name'] ?? ''
      const force = query['force'] === 'true'
      if (!force) await refuseUnlessEmpty(context, name)
      return context.coordinator.command({ kind: 'volume-delete', name, force })
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/own',
    summary: 'Give its metadata to another host',
    body: closed({ host: AnyName }),
    reply: Type.Object({ volume: Type.String(), owner: Type.String(), epoch: Type.Integer() }),
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({ kind: 'volume-own', name: params['name'] ?? '', host: body.host }),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/mirror',
    summary: 'Give it a second leg on this storage, online',
    body: closed({ storage: AnyName }),
    reply: LegReply,
    handle: async (context, { params, body }) => {
      const volume = volumeOf(context, params['name'] ?? '')
      const { name, legs } = volume
      if (whyNoMirror(context.coordinator.state, volume, body.storage) === null) {
        await checkNewLeg(context.coordinator, body.storage, {
          ...{ lun: name, sizeBytes: volume.sizeBytes, volumeId: volume.id },
          ...{ lunId: lunId(volume, { leg: nextLeg(volume) }), legs: legs.map(({ leg }) => leg) },
        })
      }
      return context.coordinator.command({ kind: 'volume-mirror', name, storage: body.storage })
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/unmirror',
    summary: 'Take a leg away, by its id or its storage',
    body: closed({ leg: AnyName }),
    reply: LegReply,
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({ kind: 'volume-unmirror', name: params['name'] ?? '', leg: body.leg }),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/resync',
    summary: 'Resync its stale leg now, not when it has answered for long enough',
    reply: LegReply,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'volume-resync', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/force-leg',
    summary: 'Go on with a leg that is behind; what only the other one had is lost',
    body: closed({ leg: AnyName }),
    reply: Type.Object({ volume: Type.String(), leg: Type.String(), mixed: Type.Optional(Type.Literal(true)) }),
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({ kind: 'volume-force-leg', name: params['name'] ?? '', leg: body.leg }),
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/{name}/usage',
    summary: 'How full it is, asked of its owner now',
    reply: UsageSchema,
    handle: (context, { params }) => context.usage.fresh(served(context, params['name'] ?? '').name),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/check',
    summary: 'Have its owner prove that it is sound, while it is open, or say what keeps it closed; changes nothing',
    reply: CheckAnswerSchema,
    handle: (context, { params }) => {
      const { name } = checkable(context, params['name'] ?? '')
      return context.coordinator.askOwner(name, 'volume.check', { volume: name }, CHECK_MS)
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/scrub',
    summary:
      'Begin to compare its legs, online; goodLeg, by its id or its storage, is right where nothing else decides',
    body: closed({ goodLeg: Type.Optional(AnyName) }),
    reply: Type.Object({ scrub: Type.String() }),
    handle: async ({ coordinator }, { params, body }) => {
      const volume = params['name'] ?? ''
      const may = await coordinator.command({ kind: 'volume-scrub', name: volume, leg: body.goodLeg ?? null })
      const { goodLeg } = may as { goodLeg: string | null }
      return coordinator.askOwner(volume, 'volume.scrub', { volume, goodLeg })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/volumes/{name}/scrub',
    summary: 'Cancel the scrub that runs; what it has found and repaired stays',
    reply: Type.Object({ scrub: Type.String() }),
    handle: (context, { params }) => {
      const { name } = served(context, params['name'] ?? '')
      return ask(context, name, 'volume.scrub-cancel', { volume: name })
    },
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/{name}/scrub',
    summary: 'How far its scrub is, or what the last one of its present owner found',
    reply: ScrubReportSchema,
    handle: (context, { params }) => {
      const { name } = served(context, params['name'] ?? '')
      return ask(context, name, 'volume.scrub-report', { volume: name })
    },
  }),
  route({
    method: 'GET',
    path: '/v1/volumes/{name}/disks',
    summary: 'Its disks',
    reply: Type.Array(DiskInfoSchema),
    handle: async (context, { params }) => listDisks(context, params['name'] ?? ''),
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/disks',
    summary: 'Make a thin disk',
    status: 201,
    body: closed({ disk: AnyName, sizeBytes: Bytes }),
    reply: DiskInfoSchema,
    handle: async (context, { params, body }) => {
      const volume = served(context, params['name'] ?? '')
      checkDisk(volume, body.disk, body.sizeBytes)
      await refuseDuplicate(context, volume.name, body.disk)
      return ask(context, volume.name, 'volume.create-disk', {
        volume: volume.name,
        disk: body.disk,
        name: body.disk,
        sizeBytes: body.sizeBytes,
      })
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/disks/{disk}/resize',
    summary: 'Give a disk another size; one in use only grows, under its guest',
    body: closed({ sizeBytes: Bytes }),
    reply: DiskInfoSchema,
    handle: async (context, { params, body }) => {
      const volume = served(context, params['name'] ?? '')
      const disk = await diskOf(context, volume.name, params['disk'] ?? '')
      checkDisk(volume, disk.disk, body.sizeBytes)
      if (body.sizeBytes < disk.sizeBytes) refuseIfUsed(context, volume.name, disk)
      const info = await ask(context, volume.name, 'volume.resize-disk', {
        volume: volume.name,
        disk: disk.disk,
        sizeBytes: body.sizeBytes,
      })
      // What is known of its VM says so too.
      const of = { volume: volume.name, disk: disk.disk, sizeBytes: body.sizeBytes }
      await context.coordinator.command({ kind: 'disk-resized', ...of })
      return info
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/volumes/{name}/disks/{disk}',
    summary: 'Delete a disk or snapshot that no VM has; what was made from it stays',
    reply: Type.Object({ existed: Type.Boolean() }),
    handle: async (context, { params }) => {
      const volume = served(context, params['name'] ?? '')
      const disk = await diskOf(context, volume.name, params['disk'] ?? '')
      const vm = vmWith(context, volume.name, disk.disk)
      if (vm !== null) {
        throw new StellwerkError('disk-in-use', `disk "${disk.disk}" is VM "${vm}"'s`, { hint: 'delete the VM' })
      }
      refuseIfUsed(context, volume.name, disk)
      return ask(context, volume.name, 'volume.delete-disk', { volume: volume.name, disk: disk.disk })
    },
  }),
]

function duplicateDisk(volume: string, disk: string, hint: string): StellwerkError {
  return new StellwerkError('duplicate-name', `there is already a disk "${disk}" on volume "${volume}"`, { hint })
}

export async function refuseDuplicate(context: ApiContext, volume: string, disk: string): Promise<void> {
  const known = await listDisks(context, volume)
  // One that is a VM's may have yet to be made.
  if (!known.some(each => each.disk === disk) && vmWith(context, volume, disk) === null) return
  throw duplicateDisk(volume, disk, 'choose another name')
}

/** A new VM takes over no disk that is there already: it would be deleted with the VM. */
export async function refuseExistingDisks(
  context: ApiContext,
  vm: string,
  disks: readonly { readonly volume: string }[],
): Promise<void> {
  const { vms, volumes } = context.coordinator.state
  if (vms.has(vm)) return
  for (const [index, { volume }] of disks.entries()) {
    // A volume that no host has ever owned has no disks; one that is unknown is refused with the rest.
    if ((volumes.get(volume)?.ownerEpoch ?? 0) === 0) continue
    const wanted = vmDiskName(vm, index)
    if ((await listDisks(context, volume)).some(({ disk, name }) => disk === wanted || name === wanted)) {
      throw duplicateDisk(volume, wanted, 'choose another name for the VM')
    }
  }
}

/** Its owner must say so: but for one that never had an owner. Disks of VMs are the command's to look at. */
async function refuseUnlessEmpty(context: ApiContext, name: string): Promise<void> {
  const volume = context.coordinator.state.volumes.get(name)
  if (volume === undefined || volume.phase === 'deleting' || volume.ownerEpoch === 0) return
  const disks = (await listDisks(context, name)).filter(({ disk }) => vmWith(context, name, disk) === null)
  if (disks.length === 0) return
  const few = disks.slice(0, NAMED_MAX).map(({ disk }) => `"${disk}"`)
  const more = disks.length > few.length ? ` and ${disks.length - few.length} more` : ''
  throw new StellwerkError('volume-not-empty', `volume "${name}" has disks or snapshots: ${few.join(', ')}${more}`, {
    hint: `delete them first: stellwerk disk delete ${name} ${disks[0]?.disk}`,
  })
}

/** Two for a mirror, where there are two. */
function defaultLegs(state: ApiContext['coordinator']['state']): string[] {
  const used = (storage: string) =>
    [...state.volumes.values()].filter(volume => volume.legs.some(leg => leg.storage === storage)).length
  // One without epochs only where it is named.
  const names = orderedNames(state).sort((a, b) => used(a) - used(b) || (a < b ? -1 : 1))
  return names.slice(0, 2)
}

export function checkName(disk: string): void {
  if (!new RegExp(NAME_PATTERN).test(disk)) {
    throw new StellwerkError('bad-name', `"${disk}" is no name for a disk`, {
      hint: 'use letters, digits, ".", "_" and "-", at most 63',
    })
  }
}

function checkDisk(volume: VolumeRecord, disk: string, sizeBytes: number): void {
  checkName(disk)
  if (sizeBytes <= 0 || sizeBytes % BLOCK_BYTES !== 0) {
    throw new StellwerkError('bad-size', `${sizeBytes} bytes is no size for a disk`, {
      hint: `use a positive multiple of ${BLOCK_BYTES}`,
    })
  }
  if (sizeBytes > volume.sizeBytes) {
    throw new StellwerkError(
      'disk-too-large',
      `a disk of ${sizeBytes} bytes is larger than volume "${volume.name}" (${volume.sizeBytes})`,
      { hint: 'give it less' },
    )
  }
}

/** Resized or deleted under a host that has it open, a disk would be two things at once. */
function refuseIfUsed(context: ApiContext, volume: string, disk: DiskInfo): void {
  const exported = exportOf(context.coordinator.state, volume, disk.disk)
  if (exported !== null) {
    throw new StellwerkError('disk-exported', `disk "${disk.disk}" is exported`, {
      hint: `end that first: stellwerk disk unexport ${volume} ${disk.disk}`,
    })
  }
  const holder = disk.holder ?? disk.reserved
  if (holder === null) return
  const vm = vmWith(context, volume, disk.disk) ?? holder.vm
  throw new StellwerkError('disk-in-use', `disk "${disk.disk}" is open on host "${holder.host}" for VM "${vm}"`, {
    hint: `stop the VM: stellwerk vm stop ${vm}`,
  })
}

function vmWith(context: ApiContext, volume: string, disk: string): string | null {
  return vmRecordWith(context, volume, disk)?.name ?? null
}

export function vmRecordWith(context: ApiContext, volume: string, disk: string): VmRecord | null {
  for (const vm of context.coordinator.state.vms.values()) {
    if (!isExport(vm) && vm.disks.some(known => known.volume === volume && known.disk === disk)) return vm
  }
  return null
}

async function listDisks(context: ApiContext, name: string): Promise<DiskInfo[]> {
  const volume = served(context, name)
  const answer = (await ask(context, volume.name, 'volume.list-disks', { volume: volume.name })) as {
    disks: DiskInfo[]
  }
  return answer.disks
}

export async function diskOf(context: ApiContext, volume: string, name: string): Promise<DiskInfo> {
  const disk = (await listDisks(context, volume)).find(known => known.disk === name)
  if (disk === undefined) {
    throw new StellwerkError('unknown-disk', `there is no disk "${name}" on volume "${volume}"`, {
      hint: `see: stellwerk disk list ${volume}`,
    })
  }
  return disk
}

export function ask(context: ApiContext, volume: string, kind: string, body: object): Promise<unknown> {
  return context.coordinator.askOwner(volume, kind, body)
}
