// Between coordinator, agents and guardians: heartbeats, leases, the cluster's map, orders about VMs, attestations.
// Orders are idempotent: each names the incarnation and placement epoch it is for, and may come twice or late.

import { HIGHEST_LEVEL } from '../cpu-levels.ts'
import { MAC_PATTERN } from '../ethernet.ts'
import { IPV4_PATTERN } from '../ipv4.ts'
import { type Static, Type } from '../schema/typebox.js'
import { SettingsSchema } from '../settings.ts'
import { defineFamily } from './family.ts'
import { Bytes, Count, closed, HlcSchema, List, Name, OneOf, Text } from './fields.ts'
import { ForwardReports, MapForwards } from './forward.ts'
import { GuestFactsSchema } from './guest-agent.ts'
import { ScrubProgressSchema } from './volume-scrub.ts'

export const AddressSchema = closed({
  network: Type.Union([
    Type.Literal('cluster'),
    Type.Literal('fabric-0'),
    Type.Literal('fabric-1'),
    Type.Literal('guest'),
    Type.Literal('local'),
  ]),
  host: Type.String({ maxLength: 256 }),
  port: Type.Integer({ minimum: 0, maximum: 65_535 }),
})

// --- the map: what every agent needs to know, pushed whole whenever it changes -------------------------------------------

const MapHost = closed({
  name: Name,
  epoch: Count,
  control: AddressSchema,
  /** Fabrics that an operator has taken from it, for their maintenance. */
  disabled: List(OneOf('fabric-0', 'fabric-1'), 2),
  /** Where its virtual switch is reached; absent: it is not on the guest network. */
  guest: Type.Optional(AddressSchema),
  /** Its epoch is being taken from it, or has been: nothing of that is listened to. Told of hosts on the guest network. */
  fenced: Type.Optional(Type.Literal(true)),
})
/** An export's name as its NBD server knows it; empty: the server's default. */
const ExportName = Type.String({ maxLength: 1024 })

/**
 * A storage that is any NBD server: no control link, no epochs, sessions or generations. A LUN that `exports` does not name
 * is the export of its own name.
 */
export const ExternalSchema = closed({ exports: List(closed({ lun: Name, export: ExportName }), 4_096) })
export type External = Static<typeof ExternalSchema>

const MapStorage = closed({
  name: Name,
  portals: Type.Array(AddressSchema),
  control: Type.Array(AddressSchema),
  external: Type.Optional(ExternalSchema),
})
const MapLeg = closed({
  leg: Name,
  storage: Name,
  lun: Name,
  /** 0 or 1: its place in the volume's bitmaps. */
  index: Count,
  role: Type.Union([Type.Literal('in-sync'), Type.Literal('syncing'), Type.Literal('stale')]),
  /** The last generation in which it was in sync; null: it never was. */
  lastInSync: Type.Union([Type.Null(), Count]),
})
const MapVolume = closed({
  name: Name,
  id: Type.String(),
  sizeBytes: Count,
  legs: Type.Array(MapLeg),
  generation: Count,
  owner: Type.Union([Type.Null(), closed({ host: Name, hostEpoch: Count, epoch: Count })]),
  /** The owner is to lay out the volume before it opens it. */
  format: Type.Boolean(),
  /** How its requests are spread over paths that are as good. */
  pathPolicy: OneOf('least-queue', 'fixed'),
  /**
   * How often it was made to go on with a leg that was behind; absent: never. What a host has open of another count is of metadata that
   * are lost, its own slot perhaps: it drops that, and opens the volume anew when it needs it.
   */
  forced: Type.Optional(Count),
  /** The owner is to take away what hosts have marked there, before it serves: no owner has opened the volume since it was forced. */
  emptySlots: Type.Optional(Type.Literal(true)),
  /** It is being deleted, with all on it: whoever has it open drops it, before its LUNs go. */
  deleted: Type.Optional(Type.Literal(true)),
})
/** Who carries a host's requests to a LUN when it has no path of its own: in this order, whoever it is but itself. */
const MapRoute = closed({ storage: Name, lun: Name, peers: Type.Array(Name) })

export const ClusterMapSchema = closed({
  cluster: Type.String(),
  term: Count,
  version: Count,
  settings: SettingsSchema,
  hosts: Type.Array(MapHost),
  storages: Type.Array(MapStorage),
  volumes: Type.Array(MapVolume),
  routes: Type.Array(MapRoute),
  /** Lasting ones; absent: there are none. */
  forwards: Type.Optional(MapForwards),
})
export type ClusterMap = Static<typeof ClusterMapSchema>
export type ClusterMapVolume = Static<typeof MapVolume>
export type ClusterMapStorage = Static<typeof MapStorage>
export type ClusterMapRoute = Static<typeof MapRoute>

// --- heartbeats ----------------------------------------------------------------------------------------------------------

const CpuSchema = closed({ family: Text, level: Type.Integer({ minimum: 1, maximum: HIGHEST_LEVEL }) })

/**
 * A machine as its host sees it. `starting`, `running`, `frozen`, `outgoing` (being sent, runs), `released` (sent, stands
 * still until told), `incoming` (being received), `stopping`, `draining` (it is killed; what it has in flight is waited for);
 * and the final ones, in which nothing of it is left: `stopped` (as ordered), `halted` (by itself), `crashed` (the guest broke
 * a rule), `failed` (this host could not run it).
 */
export const ReportedMachineSchema = closed({
  vm: Name,
  epoch: Count,
  state: Type.Union([
    Type.Literal('starting'),
    Type.Literal('running'),
    Type.Literal('frozen'),
    Type.Literal('outgoing'),
    Type.Literal('released'),
    Type.Literal('incoming'),
    Type.Literal('stopping'),
    Type.Literal('draining'),
    Type.Literal('stopped'),
    Type.Literal('halted'),
    Type.Literal('crashed'),
    Type.Literal('failed'),
  ]),
  why: Type.Union([Type.Null(), Type.String()]),
  /** What the agent in its guest tells; absent: none answers. */
  guest: Type.Optional(GuestFactsSchema),
})
export type ReportedMachine = Static<typeof ReportedMachineSchema>

/** Nothing of it is left on its host. */
export function isOver(state: ReportedMachine['state']): boolean {
  return state === 'stopped' || state === 'halted' || state === 'crashed' || state === 'failed'
}

/** One of the host's HBAs to one storage, over all LUNs that it has open there; or the redirected path to it. */
export const PathReportSchema = closed({
  storage: Name,
  path: Type.String(),
  /** up, slow, failed, probing, disabled; of the redirected path also standby. */
  state: Type.String(),
  why: Text,
  /** How long it has been in this state. */
  sinceMs: Type.Number(),
  /** The median of what requests took lately; null: there were none. */
  latencyMs: Type.Union([Type.Null(), Type.Number()]),
  /** In flight, finished, and lost with their connection. */
  queue: Count,
  requests: Count,
  errors: Count,
  via: Type.Union([Type.Null(), Name]),
})
export type PathReport = Static<typeof PathReportSchema>

/** How the host gets at a leg of a volume that it has open; one that is not listed is detached. */
export const AccessReportSchema = closed({
  volume: Name,
  storage: Name,
  state: OneOf('direct', 'redirected', 'paused'),
  via: Type.Union([Type.Null(), Name]),
  why: Text,
  sinceMs: Type.Number(),
})
export type AccessReport = Static<typeof AccessReportSchema>

/** A leg that catches up: `copiedBytes` by the owner, of `totalBytes` by all; absent: not known yet. */
const SyncProgressSchema = closed({
  done: Type.Boolean(),
  disks: Count,
  synced: Count,
  copiedBytes: Count,
  sinceMs: Type.Number(),
  totalBytes: Type.Optional(Count),
  /** What keeps it from ending, of what the owner copies. */
  why: Type.Optional(Type.String({ maxLength: 1000 })),
})

/** `damaged`: the volume itself can't be opened, here or elsewhere. `why` it does not serve, as the last attempt found. */
const VolumeState = closed({
  volume: Name,
  ownerEpoch: Count,
  state: Type.String(),
  why: Type.Optional(Type.String({ maxLength: 1000 })),
  /** In which its owner has it open; a leg that is catching up in it: whether it has everything, and how far it is. */
  generation: Count,
  sync: Type.Union([Type.Null(), SyncProgressSchema]),
  /** The last scrub that this owner began. */
  scrub: Type.Union([Type.Null(), ScrubProgressSchema]),
})

export const BeatSchema = closed({
  host: Name,
  incarnation: Count,
  /** 0: the agent has not been told one yet. */
  epoch: Count,
  /** Nothing runs here, and nothing of what `epoch` was used for will be sent. */
  clean: Type.Boolean(),
  mapVersion: Count,
  memoryBytes: Count,
  /** Milliseconds since each peer was last heard. */
  peers: Type.Array(closed({ host: Name, heardAgoMs: Type.Number() })),
  /** Storages one of whose paths answers. */
  storages: Type.Array(Name),
  paths: Type.Array(PathReportSchema),
  access: Type.Array(AccessReportSchema),
  /** Volumes owned here. */
  volumes: Type.Array(VolumeState),
  /** What was copied from here to legs that catch up, in their generation; absent: nothing is. */
  resyncs: Type.Optional(
    Type.Array(
      closed({
        ...{ volume: Name, generation: Count, copiedBytes: Count },
        /** What keeps it from ending. */
        why: Type.Optional(Type.String({ maxLength: 1000 })),
      }),
    ),
  ),
  /** Whether QEMU runs machines here, and if not why; absent: the host is not set up for it, or does not know yet. */
  qemu: Type.Optional(
    closed({
      why: Type.Union([Type.Null(), Type.String({ maxLength: 1024 })]),
      /** The highest processor that it gives its machines. */
      cpu: Type.Optional(CpuSchema),
    }),
  ),
  /** Lasting forwards that are to be open here; absent: none was tried. */
  forwards: Type.Optional(ForwardReports),
  /** A checksum of `machines`; these are sent when it has changed or was asked for. */
  digest: Count,
  machines: Type.Union([Type.Null(), Type.Array(ReportedMachineSchema)]),
  /** Machines that earlier agents have left running, at which placement epoch, and that this one has not taken over; absent: none. */
  survivors: Type.Optional(List(closed({ vm: Name, epoch: Count }), 10_000)),
})
export type Beat = Static<typeof BeatSchema>

export const BeatReplySchema = closed({
  /** `admitted`: the epoch is good; `wait`: none yet; `fenced`: kill everything, then say `clean`. */
  status: Type.Union([Type.Literal('admitted'), Type.Literal('wait'), Type.Literal('fenced')]),
  epoch: Count,
  /** The right to run machines for so long after the beat was sent; 0: none. */
  leaseMs: Count,
  wantMachines: Type.Boolean(),
})
export type BeatReply = Static<typeof BeatReplySchema>

// --- orders about VMs ------------------------------------------------------------------------------------------------------

/** A network card of a VM: in a network, which is one because its cards name it. */
export const NicSchema = closed({
  network: Name,
  mac: Type.String({ pattern: MAC_PATTERN }),
  /** The IPv4 addresses that its guest may use; none: any. */
  addresses: List(Type.String({ pattern: IPV4_PATTERN }), 16),
})
export type Nic = Static<typeof NicSchema>
/** QEMU's machine has slots for a few of each. */
export const MAX_NICS = 8
export const MAX_DISKS = 8

/** `export`: not a guest but a disk that is served to tools, placed, fenced and leased as a guest is. */
export const VmSpecSchema = closed({
  hypervisor: Type.Union([Type.Literal('wasm'), Type.Literal('model'), Type.Literal('qemu'), Type.Literal('export')]),
  guest: Type.String({ minLength: 1, maxLength: 1024 }),
  memoryBytes: Count,
  parameters: Type.Record(Type.String(), Type.Union([Type.Number(), Type.String(), Type.Boolean()])),
  nics: Type.Optional(List(NicSchema, MAX_NICS)),
  /** Of an order: the processor that a QEMU machine sees; absent: x86-64-v1. */
  cpu: Type.Optional(CpuSchema),
})

export const VmOrderSchema = closed({
  vm: Name,
  epoch: Count,
  host: Name,
  hostEpoch: Count,
  incarnation: Count,
  spec: VmSpecSchema,
  disks: Type.Array(closed({ disk: Name, volume: Name })),
  /** Its machine of this placement epoch runs on the host already, left by an agent that has died: it is taken over, not started. */
  adopts: Type.Optional(Count),
})
export type VmOrder = Static<typeof VmOrderSchema>

/** Made once in the life of a guardian's state directory. */
const GuardianId = Type.String({ minLength: 1, maxLength: 64 })
const Target = { vm: Name, epoch: Count, host: Name, incarnation: Count }
const Nothing = closed({})

/** The export that a volume of this id is to have as a leg. `legs`: those it has besides, none of which may be what it carries. */
const CheckExportSchema = closed({
  storage: Name,
  lun: Name,
  sizeBytes: Count,
  volumeId: Type.String(),
  legs: Type.Array(Name, { maxItems: 2 }),
})
export type CheckExport = Static<typeof CheckExportSchema>

const OwnerRelaySchema = closed({ owner: Name, volume: Name, kind: Type.String(), body: Type.Unknown() })
export type OwnerRelay = Static<typeof OwnerRelaySchema>

/** Of a serial port: kept for the terminal that comes after; in one message; and what is typed, in one. */
export const CONSOLE_RECENT_BYTES = 4096
export const CONSOLE_OUTPUT_BYTES = 65_536
export const CONSOLE_KEYS_BYTES = 4096

/** Of a machine from its making to its end, wherever it moves meanwhile: an id that is drawn. */
const Life = Type.String({ minLength: 1, maxLength: 64 })

export const clusterFamily = defineFamily('cluster', {
  /** An agent's first word in a session. */
  'cluster.join': {
    request: closed({
      host: Name,
      incarnation: Count,
      guardian: GuardianId,
      control: AddressSchema,
      guest: Type.Optional(AddressSchema),
      memoryBytes: Count,
    }),
    reply: closed({ term: Count, settings: SettingsSchema }),
  },
  'cluster.beat': { request: BeatSchema, reply: BeatReplySchema },
  'cluster.map': { request: ClusterMapSchema, reply: Nothing },
  /** Between agents: I am here. Carries nothing, answers nothing. */
  'cluster.peer-beat': { request: closed({ host: Name, incarnation: Count, epoch: Count }) },
  /** Answered when the machine is being started, not when it runs: that is in the next beat. */
  'vm.start': { request: VmOrderSchema, reply: Nothing },
  /** The guest is asked to shut down and has so long for it, then it is killed; 0: at once. The shortest order counts. */
  'vm.stop': { request: closed({ ...Target, graceMs: Count }), reply: Nothing },
  /** The final state was seen: the agent need not report it any more. */
  'vm.forget': { request: closed(Target), reply: Nothing },
  'vm.input': { request: closed({ ...Target, line: Type.String({ maxLength: 4096 }) }), reply: Nothing },
  /** Its guest begins anew, where it is. Answered when that is so; no sender repeats it. */
  'vm.reset': { request: closed(Target), reply: Nothing },
  /**
   * To an agent, from someone outside: tell me every line that the guests here say from now on; with `vm`: what the serial port of that
   * one sends, byte for byte. `port`: how that stands, if it is here; `recent`: the end of what it has sent, up to `at`.
   */
  'console.follow': {
    request: closed({ vm: Type.Optional(Name) }),
    reply: closed({
      host: Name,
      machines: Type.Array(ReportedMachineSchema),
      port: Type.Optional(closed({ life: Life, at: Count, recent: Bytes(CONSOLE_RECENT_BYTES) })),
    }),
  },
  /**
   * What a serial port has sent: the bytes from `at` on, counted since its `life` began. Answered when they stand on the terminal; only
   * then come the next ones, and if that takes too long, some are left out.
   */
  'console.output': {
    request: closed({ vm: Name, host: Name, life: Life, at: Count, bytes: Bytes(CONSOLE_OUTPUT_BYTES) }),
    reply: Nothing,
  },
  /**
   * To the agent of the VM's host, from someone outside: typed on the terminal at its serial port. Refused with `unknown-vm`,
   * `not-running`, `migrating`, `standing-still` and `console-busy` where nothing of it was typed: it may be sent again, or elsewhere.
   * `life`: the one that it was typed for; where the guest has begun another it is refused with `other-life`, and is not to be sent again.
   */
  'console.keys': {
    request: closed({ vm: Name, life: Type.Optional(Life), bytes: Bytes(CONSOLE_KEYS_BYTES) }),
    reply: closed({ life: Life }),
  },
  /** A line that a guest has said, as it leaves the host. `said`: stamped before the host looked whether its guest may run, so that a host that slept does not call old words new. */
  'console.line': {
    request: closed({ vm: Name, epoch: Count, host: Name, line: Type.String({ maxLength: 4096 }), said: HlcSchema }),
  },
  /** The beginning of a line that stands there for a while, as a question does: the line follows whole when it has an end. */
  'console.prompt': { request: closed({ vm: Name, host: Name, text: Type.String({ maxLength: 4096 }) }) },
  /** A leg is lost to this host while another in-sync one serves it: guests' writes wait for a generation without it. */
  'volume.leg-lost': {
    request: closed({
      host: Name,
      hostEpoch: Count,
      volume: Name,
      generation: Count,
      leg: Name,
      why: Type.String({ maxLength: 1000 }),
    }),
    reply: Nothing,
  },
  /**
   * From a guardian, after it reaped its agent and what that had run: nothing of that incarnation is left, and nothing of an earlier
   * one, but the machines of these VMs. Said again when one of them has ended.
   */
  'guardian.attest': {
    request: closed({
      host: Name,
      guardian: GuardianId,
      incarnation: Count,
      survivors: Type.Optional(List(Name, 10_000)),
    }),
    reply: Nothing,
  },
  /** To an agent that has a path to it: pass this on to a storage's control link and give me the answer. */
  'storage.relay': {
    request: closed({ storage: Name, kind: Type.String(), body: Type.Unknown() }),
    reply: closed({ body: Type.Unknown() }),
  },
  /** To an agent that reaches an external storage: whether the export can be a leg. Refused with what it lacks. */
  'storage.check-export': { request: CheckExportSchema, reply: closed({ sizeBytes: Count }) },
  /** To an agent that hears the owner's, which the coordinator does not reach: likewise, to the owner of a volume. */
  'owner.relay': {
    request: OwnerRelaySchema,
    reply: closed({ body: Type.Unknown() }),
  },
})

export type VolumeLegLost = Static<(typeof clusterFamily)['messages']['volume.leg-lost']['request']>
