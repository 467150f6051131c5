// Ways from a host to what its guests offer: into a network of theirs, or to a machine's screen. The coordinator's API asks a
// host to open one and keeps it open by asking again; lasting ones stand in the cluster's map, and how they fare in hosts' beats.

import { IPV4_PATTERN } from '../ipv4.ts'
import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, List, Name } from './fields.ts'

const Ipv4 = Type.String({ pattern: IPV4_PATTERN })
const Port = Type.Integer({ minimum: 0, maximum: 65_535 })

/** Into a network of the guests. */
const intoFields = {
  network: Name,
  /** How many bits of its addresses are the network's. */
  bits: Type.Integer({ minimum: 8, maximum: 28 }),
  guest: Ipv4,
  guestPort: Port,
}

/** What every way has that is asked for. */
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
  ...intoFields,
  /** The host's own address in the network. */
  gateway: Ipv4,
})
export type OpenForward = Static<typeof OpenForwardSchema>

/** To the screen of a machine that is on this host. */
const OpenScreenSchema = closed({ ...wayFields, vm: Name })
export type OpenScreen = Static<typeof OpenScreenSchema>

/** In a cluster at once. */
export const LASTING_FORWARDS_MAX = 512
/** `[ADDRESS:]PORT`, as an operator names it. */
const ForwardId = Type.String({ minLength: 1, maxLength: 32 })

/** One that is on record with its VM, and the hosts that keep it open as long as they find it in the map. */
const MapForwardSchema = closed({
  forward: ForwardId,
  /** Null: the host's own address for forwards. */
  listen: closed({ host: Type.Union([Type.Null(), Ipv4]), port: Port }),
  ...intoFields,
  /** Each with its own address in the network. */
  at: Type.Array(closed({ host: Name, gateway: Ipv4 })),
})
export type MapForward = Static<typeof MapForwardSchema>
/** In the map. */
export const MapForwards = List(MapForwardSchema, LASTING_FORWARDS_MAX)

/** How a lasting forward fares on a host that has tried to open it. */
const ForwardReportSchema = closed({
  forward: ForwardId,
  /** Where it listens. */
  address: Ipv4,
  /** It is not open; null: it is. */
  why: Type.Union([Type.Null(), Type.String({ maxLength: 1000 })]),
})
export type ForwardReport = Static<typeof ForwardReportSchema>
/** In a beat. */
export const ForwardReports = List(ForwardReportSchema, LASTING_FORWARDS_MAX)

const ListeningSchema = closed({ host: Ipv4, port: Port })

export const forwardFamily = defineFamily('forward', {
  /** To `HOST/forwards`. */
  'forward.open': { request: OpenForwardSchema, reply: ListeningSchema },
  'forward.screen': { request: OpenScreenSchema, reply: ListeningSchema },
  /** One that is not there is closed. */
  'forward.close': { request: closed({ forward: Name }), reply: closed({}) },
})
