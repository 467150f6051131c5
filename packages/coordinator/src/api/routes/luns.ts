// The HTTP API's routes about the LUNs of an embedded storage: which there are, whose each is, and the way to be rid of one that no
// volume has: of a cluster that is no more, or made by an order that came late.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { closed } from '@stellwerk/protocol/messages/fields.ts'
import type { LunShown } from '@stellwerk/protocol/messages/storage.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { isExternal } from '../../core/external.ts'
import type { CoordinatorState } from '../../core/state.ts'
import { lunsOf } from '../new-leg.ts'
import { unknownThing } from '../refuse.ts'
import { type ApiContext, type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'

const LunView = Type.Object({
  lun: Type.String(),
  /** Of its creation: two LUNs of one name have different ones. */
  id: Type.String(),
  sizeBytes: Type.Integer(),
  allocatedBytes: Type.Integer(),
  connections: Type.Integer(),
  /** It holds, or held, a volume: it was laid out, or given a generation. */
  used: Type.Boolean(),
  /** Why its storage cannot serve it. */
  why: Type.Union([Type.Null(), Type.String()]),
  /** Whose leg it is, or was and is to be deleted; null: no volume of this cluster has it. */
  volume: Type.Union([Type.Null(), Type.String()]),
})

export const lunRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/storages/{name}/luns',
    summary: 'The LUNs of an embedded storage, and whose each is',
    reply: Type.Array(LunView),
    handle: async (context, { params }) => {
      const storage = ordered(context, params['name'] ?? '')
      const { state } = context.coordinator
      return (await lunsOf(context.coordinator, storage)).map(shown => {
        const { lun, id, sizeBytes, allocatedBytes, connections, why } = shown
        const of = { used: isUsed(shown), volume: whoseLun(state, storage, lun, id) }
        return { ...{ lun, id, sizeBytes, allocatedBytes, connections, why }, ...of }
      })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/storages/{name}/luns/{lun}',
    summary: 'Delete a LUN, with all that is in it, which no volume has and nobody has open',
    query: closed({ id: AnyName, force: Type.Optional(Type.Union([Type.Literal('true'), Type.Literal('false')])) }),
    reply: Type.Object({ lun: Type.String(), id: Type.String() }),
    handle: async (context, { params, query }) => {
      const storage = ordered(context, params['name'] ?? '')
      const lun = params['lun'] ?? ''
      const id = String(query['id'])
      const known = (await lunsOf(context.coordinator, storage, lun)).find(each => each.id === id)
      if (known === undefined) {
        throw new StellwerkError('unknown-lun', `storage "${storage}" has no LUN "${lun}" with the id ${id}`, {
          hint: `see: stellwerk lun list ${storage}`,
        })
      }
      refuseIfOwned(context.coordinator.state, storage, lun, id)
      if (isUsed(known) && query['force'] !== 'true') {
        throw new StellwerkError('lun-used', `LUN "${lun}" of storage "${storage}" holds, or held, a volume`, {
          hint: 'of another cluster, or of this one after a restore from an older copy? if its data are of no more use: --force',
        })
      }
      await context.coordinator.askStorage(storage, 'storage.delete-lun', { lun, id })
      return { lun, id }
    },
  }),
]

/** Throws for one that has none of its own: an external one's exports are their server's. */
function ordered({ coordinator }: ApiContext, name: string): string {
  if (!coordinator.state.storages.has(name)) throw unknownThing('storage', name)
  if (!isExternal(coordinator.state, name)) return name
  throw new StellwerkError('not-embedded', `storage "${name}" is an NBD server, which has exports and no LUNs`, {
    hint: 'look at its exports where it runs',
  })
}

function isUsed({ generation, owner, layout }: LunShown): boolean {
  return generation > 0 || owner > 0 || layout !== null
}

function whoseLun(state: CoordinatorState, storage: string, lun: string, id: string): string | null {
  for (const volume of state.volumes.values()) {
    const isLeg = volume.legs.some(leg => leg.storage === storage && leg.lun === lun && lunId(volume, leg) === id)
    const isFormer = volume.retired.some(each => each.storage === storage && each.lun === lun && (each.id ?? id) === id)
    // Restored from a copy, which may know another leg than the one that counts.
    const mayBeIts = volume.unsure && lun === volume.name && (id === volume.id || id.startsWith(`${volume.id}-`))
    if (isLeg || isFormer || mayBeIts) return volume.name
  }
  return null
}

function refuseIfOwned(state: CoordinatorState, storage: string, lun: string, id: string): void {
  const volume = whoseLun(state, storage, lun, id)
  if (volume === null) return
  throw new StellwerkError('lun-in-use', `LUN "${lun}" of storage "${storage}" is volume "${volume}"'s`, {
    hint: `take that leg away: stellwerk volume mirror ${volume} --remove ${storage}; or delete the volume`,
  })
}
