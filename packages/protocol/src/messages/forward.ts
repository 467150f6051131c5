// Ways from a host to what its guests offer: into a network of theirs, or to a machine's screen. The coordinator's API asks a
// host to open one and keeps it open by asking again.

import { IPV4_PATTERN } from '../ipv4.ts'
import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

const Ipv4 = Type.String({ pattern: IPV4_PATTERN })
const Port = Type.Integer({ minimum: 0, maximum: 65_535 })

/** What every way has. */
const wayFields = {
  /** Drawn by whoever wants it; asked for again it is the same one. */
  forward: Name,
  /** On the host; port 0: any. */
  listen: closed({ host: Ipv4, port: Port }),
  /** Unless it is asked for again. */
  keepMs: Count,
}

const OpenForwardSchema = closed({
  ...wayFields,
  network: Name,
  /** Whose addresses are as the gateway's in their first `bits`. */
  gateway: Ipv4,
  bits: Type.Integer({ minimum: 8, maximum: 28 }),
  guest: Ipv4,
  guestPort: Port,
})
export type OpenForward = Static<typeof OpenForwardSchema>

/** To the screen of a machine that is on this host. */
const OpenScreenSchema = closed({ ...wayFields, vm: Name })
export type OpenScreen = Static<typeof OpenScreenSchema>

const ListeningSchema = closed({ host: Ipv4, port: Port })

export const forwardFamily = defineFamily('forward', {
  /** To `HOST/forwards`. */
  'forward.open': { request: OpenForwardSchema, reply: ListeningSchema },
  'forward.screen': { request: OpenScreenSchema, reply: ListeningSchema },
  /** One that is not there is closed. */
  'forward.close': { request: closed({ forward: Name }), reply: closed({}) },
})
