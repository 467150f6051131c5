// What operators see, as schemas: the HTTP API serves these shapes, its document describes them, and the views are typed by
// them. Fields are added freely and never renamed: scripts rely on them.

import { WhenDivergingSchema } from '@stellwerk/protocol/messages/migration.ts'
import { type Static, type TSchema, Type } from '@stellwerk/protocol/schema/typebox.js'
import { RestartPolicySchema } from '../core/restart-policy.ts'

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Text = Type.String()
const Bytes = Type.Integer({ minimum: 0 })
/** Milliseconds since the fact was last confirmed; null: never, in this run of the coordinator. */
const Age = nullable(Type.Number({ minimum: 0 }))
const Named = <T extends TSchema>(schema: T) => Type.Record(Type.String(), schema)

const AccessSchema = {
  storage: Text,
  /** direct, redirected, paused (requests wait), detached (not open there), unknown (the host is not heard). */
  state: Text,
  /** The host that carries its requests, when it is redirected. */
  via: nullable(Text),
  why: Text,
  sinceMs: nullable(Type.Number({ minimum: 0 })),
}

export const HostViewSchema = Type.Object({
  name: Text,
  /** up, draining, drained, suspect, isolated, link-cut, admitting, fencing, fenced, down, unknown. */
  state: Text,
  ageMs: Age,
  epoch: Type.Integer(),
  phase: Text,
  verdict: Text,
  connected: Type.Boolean(),
  incarnation: nullable(Type.Integer()),
  address: Text,
  memoryBytes: Bytes,
  memoryPlacedBytes: Bytes,
  vms: Type.Array(Text),
  owns: Type.Array(Text),
  storages: Type.Array(Text),
  /** Why QEMU runs no machine there; null: it does. */
  whyNoQemu: nullable(Text),
  /** The highest processor that its QEMU gives machines; null: it has not said. */
  cpu: nullable(Text),
  fence: nullable(
    Type.Object({
      why: Text,
      needed: Type.Array(Text),
      acknowledged: Type.Array(Text),
      attestedBy: nullable(Text),
    }),
  ),
  /** Failures that count towards a quarantine; how often it may fail is a setting. */
  failures: Type.Array(Type.Object({ why: Text, agoMs: Type.Number() })),
  quarantine: nullable(Type.Object({ why: Text, leftMs: Type.Number({ minimum: 0 }) })),
  /** It is being taken out of service: VMs that are left there, and why each could not be moved yet. */
  drain: nullable(Type.Object({ why: Text, left: Type.Array(Type.Object({ vm: Text, why: nullable(Text) })) })),
  /** It is isolated, and why it is not fenced all the same. */
  whyNotFenced: nullable(Text),
  /** Fabrics that an operator has taken from it. */
  disabledFabrics: Type.Array(Text),
  /** The legs of volumes that it has open. */
  access: Type.Array(Type.Object({ volume: Text, ...AccessSchema })),
})
export type HostView = Static<typeof HostViewSchema>

export const MigrationViewSchema = Type.Object({
  id: Text,
  vm: Text,
  from: Text,
  to: Text,
  phase: Text,
  epoch: Type.Integer(),
  reason: nullable(Text),
  requestedWallMs: Type.Number(),
  /** What its operator asked for; absent: as the settings have it. */
  limits: Type.Optional(
    Type.Object({
      downtimeMs: Type.Optional(Type.Integer({ minimum: 1 })),
      whenDiverging: Type.Optional(WhenDivergingSchema),
    }),
  ),
  /** How long it has been in its phase; null: not known in this run of the coordinator. */
  phaseMs: nullable(Type.Number({ minimum: 0 })),
  /** How far the copying is; null: not told yet, or it is over. */
  progress: nullable(
    Type.Object({
      /** From 1. */
      round: Type.Integer({ minimum: 0 }),
      /** Of the guest's memory, what the target has. */
      percent: Type.Integer({ minimum: 0, maximum: 100 }),
      totalBytes: Bytes,
      leftBytes: Bytes,
      /** On the wire, all rounds together. */
      sentBytes: Bytes,
      bytesPerSecond: Bytes,
      /** What the guest changes meanwhile; 0 before the first round has ended. */
      dirtyBytesPerSecond: Bytes,
      /** Until it can be switched, at least in the first round; null: nothing is measured yet, or it gets no nearer. */
      leftMs: nullable(Type.Number({ minimum: 0 })),
      /** The pause to expect if it were switched now. */
      pauseMs: Type.Number({ minimum: 0 }),
    }),
  ),
  /** What source and target measured, and while it runs the last round's counts. */
  statistics: Type.Record(Type.String(), Type.Unknown()),
})
export type MigrationView = Static<typeof MigrationViewSchema>

export const ForwardViewSchema = Type.Object({
  /** What it is called: [ADDRESS:]PORT. */
  forward: Text,
  network: Text,
  /** ADDRESS:PORT there, and how many bits of the address are the network's. */
  guest: Text,
  bits: Type.Integer(),
  /** Which hosts listen: vm (the one that has it), all, or `host NAME`. */
  on: Text,
  /** None while the VM is on no host. */
  hosts: Type.Array(
    Type.Object({
      host: Text,
      /** open, opening, closed (it is tried again), unknown (the host is not heard). */
      state: Text,
      /** ADDRESS:PORT on the host; null: it has not said. */
      address: nullable(Text),
      why: nullable(Text),
    }),
  ),
})
export type ForwardView = Static<typeof ForwardViewSchema>

export const VmViewSchema = Type.Object({
  name: Text,
  /** The actual state: running, frozen, starting, stopping, migrating, stopped, waiting, lost, failed, unknown, deleting, … */
  state: Text,
  desired: Text,
  ageMs: Age,
  host: nullable(Text),
  epoch: Type.Integer(),
  /** Why the actual state is what it is, as its host tells. */
  why: nullable(Text),
  /** Why it does not run though it should. */
  whyNot: nullable(Text),
  hypervisor: Text,
  guest: Text,
  memoryBytes: Bytes,
  /** The processor that its QEMU machine sees, for as long as that lives; null: it has no such machine. */
  cpu: nullable(Text),
  parameters: Type.Record(Type.String(), Type.Unknown()),
  nics: Type.Array(Type.Object({ network: Text, mac: Text, addresses: Type.Array(Text) })),
  /** Lasting ones. */
  forwards: Type.Array(ForwardViewSchema),
  /** QEMU's agent in its guest, and what that tells: the guest's own word. Null: no real machine of it is anywhere. */
  guestAgent: nullable(
    Type.Object({
      /** there, absent (none answers), unknown (the host is not heard). */
      state: Text,
      version: nullable(Text),
      hostName: nullable(Text),
      os: nullable(Text),
      interfaces: Type.Array(Type.Object({ name: Text, mac: nullable(Text), addresses: Type.Array(Text) })),
    }),
  ),
  priority: Type.Integer(),
  preferredHost: nullable(Text),
  failures: Type.Integer(),
  restart: RestartPolicySchema,
  /** Crashes of its own, and starts on another host after a loss, within the policy's window. */
  crashes: Type.Integer(),
  relocations: Type.Integer(),
  disks: Type.Array(Type.Object({ disk: Text, volume: Text, sizeBytes: Bytes, created: Type.Boolean() })),
  migration: nullable(MigrationViewSchema),
  /**
   * Its rung of the storage-loss ladder, the worst of its volumes' legs; null: it has no disks, does not run, or its host is
   * not heard. direct, other-hba, redirected, other-leg, waiting (for a path), frozen, moving, restarting.
   */
  storage: nullable(
    Type.Object({
      rung: Text,
      /** How long it has been on this rung; null: longer than this run of the coordinator knows. */
      sinceMs: nullable(Type.Number({ minimum: 0 })),
      volume: nullable(Text),
      storage: nullable(Text),
      why: Text,
    }),
  ),
})
export type VmView = Static<typeof VmViewSchema>

export const ExportViewSchema = Type.Object({
  export: Text,
  /** What is exported: VOLUME/DISK. */
  source: Text,
  volume: Text,
  disk: Text,
  /** What NBD clients ask for. */
  name: Text,
  readOnly: Type.Boolean(),
  host: nullable(Text),
  /** As a VM's. */
  state: Text,
  why: nullable(Text),
  /** On its host; null: it is not served yet, or its host does not answer. */
  uri: nullable(Text),
  connections: nullable(Type.Integer()),
})
export type ExportView = Static<typeof ExportViewSchema>

export const UsageSchema = Type.Object({
  usedBytes: Bytes,
  freeBytes: Bytes,
  /** What its disks would take if they shared nothing. */
  mappedBytes: Bytes,
  extentBytes: Bytes,
  disks: Type.Integer(),
  ageMs: Age,
})
export type Usage = Static<typeof UsageSchema>

export const VolumeViewSchema = Type.Object({
  name: Text,
  /** creating, formatting, serving, opening, without-owner, damaged, unreachable. */
  state: Text,
  /** Why it does not serve, where that is known. */
  whyNot: nullable(Text),
  ageMs: Age,
  id: Text,
  sizeBytes: Bytes,
  owner: nullable(Text),
  ownerEpoch: Type.Integer(),
  ownerReports: nullable(Text),
  generation: Type.Integer(),
  legs: Type.Array(
    Type.Object({
      leg: Text,
      storage: Text,
      lun: Text,
      /** in-sync, syncing, stale. */
      role: Text,
      /** Whether its storage is reached: up, unreachable, unknown. */
      state: Text,
      /** Why a stale leg is not being resynced. */
      why: nullable(Text),
      /** Of a leg that is being resynced. */
      percent: nullable(Type.Number()),
      /** How far that is in bytes; null: it is not being resynced, or how much there is to copy is not known yet. */
      resync: nullable(
        Type.Object({
          copiedBytes: Bytes,
          totalBytes: Bytes,
          /** Since it began. */
          bytesPerSecond: Bytes,
          /** Null: nothing is measured yet. */
          leftMs: nullable(Type.Number({ minimum: 0 })),
        }),
      ),
      /** False: its storage is an NBD server that knows none, see `storages`. */
      epochs: Type.Boolean(),
    }),
  ),
  /** Storages that have not taken the generation yet. */
  generationOwed: Type.Array(Text),
  /** Hosts whose slot is still to be recovered: nothing of this volume starts before. */
  recovering: Type.Array(Text),
  usage: nullable(UsageSchema),
  /** How hosts spread requests over paths that are as good: least-queue or fixed. */
  pathPolicy: Text,
  /** Per host and leg. */
  access: Type.Array(Type.Object({ host: Text, ...AccessSchema })),
  /** The scrub that runs, else what came of the last one, in places: repaired, undecided, not compared. */
  scrub: nullable(
    Type.Object({
      scrub: Text,
      /** running, done, failed. */
      state: Text,
      percent: nullable(Type.Number()),
      /** When it ended. */
      wallMs: nullable(Type.Number()),
      repaired: Type.Integer(),
      unresolved: Type.Integer(),
      skipped: Type.Integer(),
    }),
  ),
  /** How full it is, where that is worth a warning, and what a scrub could not decide. */
  warning: nullable(Text),
})
export type VolumeView = Static<typeof VolumeViewSchema>

export const PathViewSchema = Type.Object({
  host: Text,
  fabric: Text,
  storage: Text,
  /** up, slow, probing, failed, disabled, unknown; of the redirected path (`fabric` is `redirected`) also standby. */
  state: Text,
  ageMs: Age,
  why: Text,
  /** How long it has been in this state, when its host said so. */
  sinceMs: Type.Number({ minimum: 0 }),
  /** The median of what requests took lately. */
  latencyMs: nullable(Type.Number({ minimum: 0 })),
  /** In flight. */
  queue: Type.Integer({ minimum: 0 }),
  /** Finished, and lost with their connection, since the LUNs were opened. */
  requests: Type.Integer({ minimum: 0 }),
  errors: Type.Integer({ minimum: 0 }),
  /** The host that carries what is sent on it. */
  via: nullable(Text),
  /** False: its storage knows none. */
  epochs: Type.Boolean(),
})
export type PathView = Static<typeof PathViewSchema>

const LoseSchema = Type.Object({ ok: Type.Boolean(), why: Type.Array(Text) })

export const CanLoseSchema = Type.Object({
  /** `can lose: 1 host yes · 1 storage NO (csv1: one leg)` */
  summary: Text,
  host: LoseSchema,
  storage: LoseSchema,
})
export type CanLose = Static<typeof CanLoseSchema>

export const StorageViewSchema = Type.Object({
  name: Text,
  /** embedded, or external: any NBD server. */
  kind: Text,
  /** It refuses what a fenced host, a former owner or an older generation still writes. */
  epochs: Type.Boolean(),
  /** What follows where it does not. */
  warning: nullable(Text),
  /** The volumes that have a leg there. */
  volumes: Type.Array(Text),
})
export type StorageView = Static<typeof StorageViewSchema>

export const StatusSchema = Type.Object({
  cluster: Type.Object({
    name: Text,
    term: Type.Integer(),
    uptimeMs: Type.Number(),
    halted: Type.Boolean(),
    /** Why it decides nothing, and changes nothing, for the moment; null: it does. */
    undecided: nullable(Text),
    settings: Type.Record(Type.String(), Type.Number()),
  }),
  canLose: CanLoseSchema,
  hosts: Named(HostViewSchema),
  vms: Named(VmViewSchema),
  volumes: Named(VolumeViewSchema),
  storages: Named(StorageViewSchema),
  paths: Named(PathViewSchema),
})
export type Status = Static<typeof StatusSchema>

export const DecisionSchema = Type.Object({
  seq: Type.Integer(),
  wallMs: Type.Number(),
  kind: Text,
  subject: Text,
  saw: Type.Unknown(),
  chose: Text,
  rejected: Type.Array(Type.Object({ option: Text, why: Text })),
  why: Text,
})

export const WhySchema = Type.Object({
  what: Text,
  name: Text,
  /** Sentences: how it stands now, and what keeps it from being otherwise. */
  now: Type.Array(Text),
  /** Newest last. */
  decisions: Type.Array(DecisionSchema),
})
export type Why = Static<typeof WhySchema>

export const EventSchema = Type.Object({
  /** Counts from 1 at each start of the coordinator. */
  seq: Type.Integer(),
  wallMs: Type.Number(),
  kind: Text,
  subject: nullable(Text),
  text: Text,
})
export type ClusterEvent = Static<typeof EventSchema>
