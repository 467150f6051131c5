// The HTTP API's routes about ways from a host to a guest's TCP port or screen. One lives while it is asked for again.

import { IPV4_PATTERN } from '@stellwerk/protocol/ipv4.ts'
import { closed, Name } from '@stellwerk/protocol/messages/fields.ts'
import type { OpenForward, OpenScreen } from '@stellwerk/protocol/messages/forward.ts'
import { Type } from '@stellwerk/protocol/schema/typebox.js'
import { routeForward, screenHost } from '../../core/forwards.ts'
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

const wayFields = { host: Type.String(), address: Type.String(), port: Type.Integer(), keepMs: Type.Integer() }
const ForwardReply = Type.Object({ ...wayFields, guest: Type.String() })
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
      bits: Type.Optional(Type.Integer({ minimum: 8, maximum: 28 })),
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
