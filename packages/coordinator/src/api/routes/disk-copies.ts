// The HTTP API's routes about snapshots and clones of disks, and about what a check has found to be repaired.

import { closed, OneOf } from '@stellwerk/protocol/messages/fields.ts'
import { DiskInfoSchema } from '@stellwerk/protocol/messages/volume.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { CONSISTENCIES, whileFrozen } from '../frozen-files.ts'
import { type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'
import { ask, checkName, diskOf, refuseDuplicate, served, vmRecordWith } from './volumes.ts'

/** A repair is asked for until nothing is left, so often at most: each gives back some hundreds of extents. */
const REPAIRS_MAX = 1_000

const Named = closed({ name: AnyName })

export const diskCopyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/disks/{disk}/snapshots',
    summary: 'Keep what the disk holds now, also while a VM runs with it: a disk that is only read',
    status: 201,
    body: closed({
      name: AnyName,
      /** False: the agent in the guest is not asked to hold its file systems still. */
      freeze: Type.Optional(Type.Boolean()),
    }),
    reply: Type.Object({
      ...DiskInfoSchema.properties,
      /** What of the guest that runs with the disk is in it: all that its programs had finished, or what a crash would have left. */
      consistency: OneOf(...CONSISTENCIES),
      /** Why it is not application-consistent. */
      why: Type.Union([Type.String(), Type.Null()]),
    }),
    handle: async (context, { params, body }) => {
      const volume = served(context, params['name'] ?? '')
      checkName(body.name)
      const disk = await diskOf(context, volume.name, params['disk'] ?? '')
      await refuseDuplicate(context, volume.name, body.name)
      const of = { volume: volume.name, disk: disk.disk, snapshot: body.name }
      const vm = vmRecordWith(context, volume.name, disk.disk)
      const use = { vm, isOpen: disk.holder !== null, mayFreeze: body.freeze !== false }
      const make = () => ask(context, volume.name, 'volume.snapshot-disk', { ...of, name: body.name })
      const { result, consistency, why } = await whileFrozen(context, use, make)
      if (vm !== null && consistency !== 'idle') {
        await context.coordinator.command({ kind: 'disk-snapshot', ...of, vm: vm.name, consistency, why })
      }
      return { ...(result as object), consistency, why }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/disks/{disk}/clones',
    summary: 'Make a disk that begins as the snapshot is',
    status: 201,
    body: Named,
    reply: DiskInfoSchema,
    handle: async (context, { params, body }) => {
      const volume = served(context, params['name'] ?? '')
      checkName(body.name)
      const snapshot = await diskOf(context, volume.name, params['disk'] ?? '')
      await refuseDuplicate(context, volume.name, body.name)
      return ask(context, volume.name, 'volume.clone-disk', {
        volume: volume.name,
        snapshot: snapshot.disk,
        disk: body.name,
        name: body.name,
      })
    },
  }),
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/repair',
    summary: 'Give back extents that are in use and that nothing maps',
    reply: Type.Object({ freed: Type.Integer() }),
    handle: async (context, { params }) => {
      const { name } = served(context, params['name'] ?? '')
      let sum = 0
      for (let times = 0; times < REPAIRS_MAX; times += 1) {
        const { freed } = (await ask(context, name, 'volume.repair-leaks', { volume: name })) as { freed: number }
        sum += freed
        if (freed === 0) break
      }
      return { freed: sum }
    },
  }),
]
