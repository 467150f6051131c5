// The HTTP API's routes about ways from a host to a guest's TCP port or screen. One lives while it is asked for again, or, a lasting
// forward, until it is taken off record.

import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import type { OpenForward, OpenScreen } from '@stellwerk/protocol/messages/forward.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { routeForward, screenHost } from '../../core/forwards.ts'
import type { AskedForward } from '../../core/lasting-forwards.ts'
import { badRequest } from '../refuse.ts'
import { type Route, route } from '../route.ts'
import { AnyName } from './any-name.ts'
import { vmOf } from './vms.ts'

/** Whoever has not asked again for so long does not need it any more. */
const KEEP_MS = 15_000
const BITS = 24
const LOOPBACK = '127.0.0.1'
const Ipv4 = Type.String({ pattern: IPV4_PATTERN })
const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

const Listen = Type.Optional(closed({ host: Ipv4, port: Type.Integer({ minimum: 0, maximum: 65_535 }) }))
const ANY_PORT = { host: LOOPBACK, port: 0 }

const Bits = Type.Optional(Type.Integer({ minimum: 8, maximum: 28 }))

const wayFields = { host: Type.String(), address: Type.String(), port: Type.Integer(), keepMs: Type.Integer() }
const ForwardReply = Type.Object({ ...wayFields, guest: Type.String() })
const lastingFields = { vm: Type.String(), forward: Type.String() }
const ScreenReply = Type.Object(wayFields)

export const forwardRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/vms/{name}/forwards',
    summary: 'Open a way from a host to a TCP port of the guest, or keep the one of that id open',
    body: closed({
      forward: Name,
      port: Port,
      address: Type.Optional(Ipv4),
      bits: Bits,
      host: Type.Optional(Type.Union([AnyName, Type.Null()])),
      listen: Listen,
    }),
    reply: ForwardReply,
    handle: async (context, { params, body }) => {
      const { coordinator } = context
      const { forward, port, address = null, bits = BITS, host = null, listen = ANY_PORT } = body
      const chosen = routeForward(coordinator.state, vmOf(context, params['name'] ?? ''), { address, bits, host })
      const { network, gateway, guest } = chosen
      const order: OpenForward = { forward, network, gateway, bits, guest, guestPort: port, listen, keepMs: KEEP_MS }
      const at = (await coordinator.askAgent(chosen.host, 'forward.open', order, 'forwards')) as OpenForward['listen']
      return { host: chosen.host, address: at.host, port: at.port, guest: `${guest}:${port}`, keepMs: KEEP_MS }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/lasting-forwards',
    summary: 'Keep a TCP port of the guest reachable at a port of hosts, wherever the VM is, until that is deleted',
    body: closed({
      /** Of the guest. */
      port: Port,
      /** Of the hosts; without `host`: of the address that each has for forwards. */
      listen: closed({ host: Type.Optional(Type.Union([Ipv4, Type.Null()])), port: Port }),
      address: Type.Optional(Ipv4),
      bits: Bits,
      /** The host that has the VM (the default), or every host; or `host`: one for good. */
      on: Type.Optional(Type.Union([Type.Literal('vm'), Type.Literal('all')])),
      host: Type.Optional(Type.Union([AnyName, Type.Null()])),
    }),
    reply: Type.Object({ ...lastingFields, guest: Type.String() }),
    handle: ({ coordinator }, { params, body }) => {
      const { port: guestPort, listen, address = null, bits = BITS, on, host = null } = body
      if (on !== undefined && host !== null) throw badRequest("'on' and 'host' both say who listens", 'say one of them')
      const asked: AskedForward = {
        ...{ listenAddress: listen.host ?? null, port: listen.port, guestPort, address, bits },
        on: host === null ? (on ?? 'vm') : { host },
      }
      return coordinator.command({ kind: 'vm-forward', name: params['name'] ?? '', asked })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/vms/{name}/lasting-forwards/{forward}',
    summary: 'End a lasting forward, named by [ADDRESS:]PORT',
    reply: Type.Object(lastingFields),
    handle: ({ coordinator }, { params }) =>
      coordinator.command({ kind: 'vm-unforward', name: params['name'] ?? '', forward: params['forward'] ?? '' }),
  }),
  route({
    method: 'POST',
    path: '/v1/vms/{name}/screens',
    summary: 'Open a way from its host to its screen (VNC), or keep the one of that id open',
    body: closed({ forward: Name, listen: Listen }),
    reply: ScreenReply,
    handle: async (context, { params, body }) => {
      const vm = vmOf(context, params['name'] ?? '')
      const host = screenHost(vm)
      const order: OpenScreen = { ...body, vm: vm.name, listen: body.listen ?? ANY_PORT, keepMs: KEEP_MS }
      const at = (await context.coordinator.askAgent(host, 'forward.screen', order, 'forwards')) as OpenScreen['listen']
      return { host, address: at.host, port: at.port, keepMs: KEEP_MS }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/hosts/{name}/forwards/{forward}',
    summary: 'Close a way that this host has opened',
    reply: closed({}),
    handle: ({ coordinator }, { params }) =>
      coordinator.askAgent(params['name'] ?? '', 'forward.close', { forward: params['forward'] ?? '' }, 'forwards'),
  }),
]
