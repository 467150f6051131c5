// The HTTP API's routes about the cluster as a whole: status, why, events, settings, halting.

import { Type } from '@stellwerk/protocol/schema/typebox.js'
import type { DecisionRecord } from '../../core/state.ts'
import { EventSchema, StatusSchema, WhySchema } from '../../view/schemas.ts'
import { statusOf } from '../../view/status.ts'
import { type WhyWhat, whyOf } from '../../view/why.ts'
import { EVENTS_KEPT } from '../event-log.ts'
import { badRequest, unknownThing } from '../refuse.ts'
import { type ApiContext, type Route, route } from '../route.ts'

const Digits = Type.String({ pattern: '^[0-9]{1,12}$' })

export const clusterRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/status',
    summary: 'What can be lost, hosts, VMs, volumes, paths',
    reply: StatusSchema,
    handle: ({ coordinator, env, usage }) => statusOf(coordinator.state, env.clock.now(), volume => usage.get(volume)),
  }),
  route({
    method: 'GET',
    path: '/v1/why/{what}/{name}',
    summary: 'Why a vm, host or volume is as it is, or is not',
    reply: WhySchema,
    handle: (context, { params }) => why(context, params['what'] ?? '', params['name'] ?? ''),
  }),
  route({
    method: 'GET',
    path: '/v1/events',
    summary: 'What happened, oldest first',
    query: Type.Object({ after: Type.Optional(Digits), limit: Type.Optional(Digits) }, { additionalProperties: false }),
    reply: Type.Array(EventSchema),
    handle: ({ events }, { query }) =>
      events.since(Number(query['after'] ?? 0), Math.min(EVENTS_KEPT, Number(query['limit'] ?? EVENTS_KEPT))),
  }),
  route({
    method: 'GET',
    path: '/v1/events/follow',
    summary: 'What happens from now on, as server-sent events',
    reply: EventSchema,
    stream: true,
    handle: () => undefined,
  }),
  route({
    method: 'GET',
    path: '/v1/config',
    summary: 'The settings in force, and the storages',
    reply: Type.Object({
      cluster: Type.String(),
      term: Type.Integer(),
      settings: Type.Record(Type.String(), Type.Number()),
      storages: Type.Array(Type.Unknown()),
    }),
    handle: ({ coordinator: { state } }) => ({
      cluster: state.cluster.cluster,
      term: state.cluster.term,
      settings: state.cluster.settings,
      storages: [...state.storages.values()],
    }),
  }),
  route({
    method: 'POST',
    path: '/v1/cluster/halt',
    summary: 'Stop every VM; the next start of the coordinator brings back those that are to run',
    reply: Type.Object({ halting: Type.Array(Type.String()) }),
    handle: ({ coordinator }) => coordinator.command({ kind: 'cluster-halt' }),
  }),
]

function why(context: ApiContext, what: string, name: string): unknown {
  if (what !== 'vm' && what !== 'host' && what !== 'volume') {
    throw badRequest(`"${what}" is nothing to ask about`, 'ask about vm, host or volume')
  }
  const { coordinator, env } = context
  const decisions = env.store.entries('decisions/').map(([, value]) => value as unknown as DecisionRecord)
  const answer = whyOf(coordinator.state, what satisfies WhyWhat, name, decisions, env.clock.now())
  if (answer === null) throw unknownThing(what === 'vm' ? 'VM' : what, name)
  return answer
}
