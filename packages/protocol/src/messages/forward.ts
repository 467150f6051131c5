// Ways from a host into a network of the guests: the coordinator's API asks a host to open one and keeps it open by asking
// again.

import { IPV4_PATTERN } from '../ipv4.ts'
import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

const Ipv4 = Type.String({ pattern: IPV4_PATTERN })
const Port = Type.Integer({ minimum: 0, maximum: 65_535 })

const OpenForwardSchema = closed({
  /** Drawn by whoever wants it; asked for again it is the same one. */
  forward: Name,
  network: Name,
  /** Whose addresses are as the gateway's in their first `bits`. */
  gateway: Ipv4,
  bits: Type.Integer({ minimum: 8, maximum: 28 }),
  guest: Ipv4,
  guestPort: Port,
  /** On the host; port 0: any. */
  listen: closed({ host: Ipv4, port: Port }),
  /** Unless it is asked for again. */
  keepMs: Count,
})
export type OpenForward = Static<typeof OpenForwardSchema>

export const forwardFamily = defineFamily('forward', {
  /** To `HOST/forwards`. */
  'forward.open': { request: OpenForwardSchema, reply: closed({ host: Ipv4, port: Port }) },
  /** One that is not there is closed. */
  'forward.close': { request: closed({ forward: Name }), reply: closed({}) },
})
