// The HTTP API's routes about hosts and their paths.

import { closed, NAME_PATTERN } from '@stellwerk/protocol/messages/fields.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { whyNoHostName } from '../../core/host-names.ts'
import type { CoordinatorState } from '../../core/state.ts'
import { hostView, pathViews, sortedHosts } from '../../view/hosts.ts'
import { HostViewSchema, PathViewSchema } from '../../view/schemas.ts'
import { unknownThing } from '../refuse.ts'
import { type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'

const Done = Type.Object({ host: Type.String() })
const Fabrics = Type.Object({ host: Type.String(), disabled: Type.Array(Type.String()) })

export const hostRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/hosts',
    summary: 'All hosts',
    reply: Type.Record(Type.String(), HostViewSchema),
    handle: ({ coordinator: { state }, env }) =>
      Object.fromEntries(sortedHosts(state).map(host => [host.name, hostView(state, host, env.clock.now())])),
  }),
  route({
    method: 'GET',
    path: '/v1/hosts/{name}',
    summary: 'One host',
    reply: HostViewSchema,
    handle: ({ coordinator: { state }, env }, { params }) => {
      const name = params['name'] ?? ''
      const host = sortedHosts(state).find(known => known.name === name)
      if (host === undefined) throw unknownThing('host', name)
      return hostView(state, host, env.clock.now())
    },
  }),
  route({
    method: 'POST',
    path: '/v1/hosts',
    summary: 'Start a host on the machine of this coordinator: a new one, one that is down, or one that was removed',
    status: 202,
    body: closed({ name: AnyName }),
    reply: Done,
    handle: async ({ hooks, coordinator }, { body }) => {
      checkNewHost(coordinator.state, body.name)
      const { name } = body
      const wasRemoved = coordinator.state.hosts.get(name)?.removed === true
      if (wasRemoved) await coordinator.command({ kind: 'host-readmit', name })
      // Its agent may never have gone; and one on another machine joins by itself, now that it may.
      if (wasRemoved && (isConnected(coordinator.state, name) || hooks.addHost === undefined)) return { host: name }
      if (hooks.addHost !== undefined) return hooks.addHost(name)
      throw new StellwerkError('not-here', 'this coordinator starts no hosts: it was not started by "stellwerk up"', {
        hint: 'run on the new host itself: stellwerk agent serve --config FILE; it joins by the join token',
      })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/hosts/{name}',
    summary: 'Remove a host that has no VMs',
    reply: Done,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'host-remove', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/hosts/{name}/confirm-dead',
    summary: 'The operator vouches that the host is off: saves the wait, never the fence',
    reply: Done,
    handle: ({ coordinator }, { params }) =>
      coordinator.command({ kind: 'host-confirm-dead', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/hosts/{name}/drain',
    summary: 'Move its VMs and volumes to other hosts and give it no more, until it is resumed',
    status: 202,
    body: closed({ why: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })) }),
    reply: Type.Object({ host: Type.String(), vms: Type.Array(Type.String()) }),
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({
        kind: 'host-drain',
        name: params['name'] ?? '',
        why: body.why ?? 'an operator asked for it',
      }),
  }),
  route({
    method: 'POST',
    path: '/v1/hosts/{name}/resume',
    summary: 'End its drain or quarantine: it may be given VMs again',
    reply: Done,
    handle: ({ coordinator }, { params }) => coordinator.command({ kind: 'host-resume', name: params['name'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/hosts/{name}/fabrics/{fabric}/disable',
    summary: 'Send nothing over a fabric from this host while there is another way, the redirected path included',
    body: closed({ force: Type.Optional(Type.Boolean()) }),
    reply: Fabrics,
    handle: ({ coordinator }, { params, body }) =>
      coordinator.command({
        ...{ kind: 'path-disable', host: params['name'] ?? '', fabric: params['fabric'] ?? '' },
        force: body.force ?? false,
      }),
  }),
  route({
    method: 'POST',
    path: '/v1/hosts/{name}/fabrics/{fabric}/enable',
    summary: 'Use a fabric from this host again',
    reply: Fabrics,
    handle: ({ coordinator }, { params }) =>
      coordinator.command({ kind: 'path-enable', host: params['name'] ?? '', fabric: params['fabric'] ?? '' }),
  }),
  route({
    method: 'GET',
    path: '/v1/paths',
    summary: 'Paths from hosts over fabrics to storages, keyed host/fabric/storage',
    reply: Type.Record(Type.String(), PathViewSchema),
    handle: ({ coordinator, env }) => pathViews(coordinator.state, env.clock.now()),
  }),
]

function checkNewHost(state: CoordinatorState, name: string): void {
  if (!new RegExp(NAME_PATTERN).test(name)) {
    throw new StellwerkError('bad-name', `"${name}" is no name for a host`, {
      hint: 'use letters, digits, ".", "_" and "-", at most 63',
    })
  }
  const whyNot = whyNoHostName(state, name)
  if (whyNot !== null) throw new StellwerkError('bad-name', whyNot, { hint: 'choose another name' })
  if (state.hosts.get(name)?.removed !== true && isConnected(state, name)) {
    throw new StellwerkError('duplicate-name', `host "${name}" is already there`, { hint: 'choose another name' })
  }
}

function isConnected(state: CoordinatorState, name: string): boolean {
  return state.liveHosts.get(name)?.session != null
}
