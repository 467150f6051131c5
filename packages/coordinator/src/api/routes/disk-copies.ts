// The HTTP API's routes about snapshots and clones of disks, and about what a check has found to be repaired.

import { closed } from '@stellwerk/protocol/messages/fields.ts'
import { DiskInfoSchema } from '@stellwerk/protocol/messages/volume.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'
import { ask, checkName, diskOf, refuseDuplicate, served } from './volumes.ts'

/** A repair is asked for until nothing is left, so often at most: each gives back some hundreds of extents. */
const REPAIRS_MAX = 1_000

const Named = closed({ name: AnyName })

export const diskCopyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/volumes/{name}/disks/{disk}/snapshots',
    summary: 'Keep what the disk holds now, also while a VM runs with it: a disk that is only read',
    status: 201,
    body: Named,
    reply: DiskInfoSchema,
    handle: async (context, { params, body }) => {
      const volume = served(context, params['name'] ?? '')
      checkName(body.name)
      const disk = await diskOf(context, volume.name, params['disk'] ?? '')
      await refuseDuplicate(context, volume.name, body.name)
      return ask(context, volume.name, 'volume.snapshot-disk', {
        volume: volume.name,
        disk: disk.disk,
        snapshot: body.name,
        name: body.name,
      })
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
