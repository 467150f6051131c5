// What the coordinator knows. Records are durable (each its own key in the store); `live` parts are what this run of the
// process has seen, and are lost with it: after a restart they hold the most cautious value.

import type { Cpu } from '@stellwerk/protocol/cpu-levels.ts'
import type {
  AccessReport,
  Beat,
  ClusterMap,
  External,
  Nic,
  PathReport,
  ReportedMachine,
} from '@stellwerk/protocol/messages/cluster.ts'
import type { ForwardReport } from '@stellwerk/protocol/messages/forward.ts'
import type { ScrubProgress } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { Address, Json } from '@stellwerk/runtime/environment.ts'
import type { LegMarks } from './leg-verification.ts'
import type { MigrationRecord } from './migration-record.ts'
import type { RestartPolicy } from './restart-policy.ts'
import type { Routes } from './routes.ts'

/** Raised at every start of a coordinator, before it speaks to anyone. */
export interface ClusterRecord {
  readonly cluster: string
  readonly term: number
  readonly settings: Settings
}

export interface StorageRecord {
  readonly name: string
  readonly portals: readonly Address[]
  readonly control: readonly Address[]
  /** It is an NBD server that enforces nothing: see external.ts. */
  readonly external?: External
}

/**
 * `admitting`: the storages are being told the epoch; `admitted`: it may run machines; `fencing`: no lease is granted any
 * more, storages are being told; `fenced`: every storage that matters refuses the epoch. Only `admitting` raises it.
 */
export type HostPhase = 'admitting' | 'admitted' | 'fencing' | 'fenced'

export interface FenceRecord {
  readonly why: string
  /**
   * Storages that must acknowledge: those with legs of volumes the host had open. A VM or a volume waits for those with legs
   * of its own; one all of whose legs of these have been given up since counts no more (`neededOf`).
   */
  readonly needed: readonly string[]
  /** The volumes it had open; after a restore none is named: that is not known. */
  readonly volumes: readonly string[]
  /** An external storage acknowledges nothing: it is listed here once nothing of the host can reach it any more. */
  readonly acknowledged: readonly string[]
  /** The host's agent of this incarnation (and so all of its machines, but for `survivors`) was attested dead. */
  readonly attestedIncarnation: number | null
  readonly attestedBy: string | null
  /** VMs whose machines have outlived their agents: of these that says nothing. Absent: none has. */
  readonly survivors?: readonly string[]
  /** By a restore from a copy: what ran on the host is not known, whatever the VMs' records say. */
  readonly restored?: true
  /** The newest agent that had this epoch when the fence began; absent: not known. No later one gets it. */
  readonly newestIncarnation?: number
}

export interface HostRecord {
  readonly name: string
  readonly epoch: number
  readonly phase: HostPhase
  readonly fence: FenceRecord | null
  /** The agent's incarnation that this epoch was given to; absent: the first, or not known. */
  readonly givenTo?: number
  /** The identity of its guardian, since an agent of it was admitted; absent: whoever comes first. */
  readonly guardian?: string
  readonly control: Address
  /** Of its virtual switch; absent: it is not on the guest network. */
  readonly guest?: Address
  readonly memoryBytes: number
  /** Storages that do not know the current epoch yet. */
  readonly admitOwed: readonly string[]
  readonly removed: boolean
  /** The latest failures, oldest first; those that are too old to count go when the next one comes. */
  readonly failures: readonly HostFailure[]
  readonly quarantine: Quarantine | null
  /** It is being taken out of service, or has been; absent: it is in service. See drains.ts. */
  readonly drain?: { readonly sinceMs: number; readonly why: string }
  /** Fabrics that an operator has taken from it: nothing is sent there while there is another way. Sorted. */
  readonly disabledFabrics: readonly Fabric[]
}

export type Fabric = 'fabric-0' | 'fabric-1'

/** Times are the state's own calendar, see quarantine.ts. */
export interface HostFailure {
  readonly atMs: number
  readonly epoch: number
  /** The agent's that failed; a later failure of the same one in the same epoch is the same failure. */
  readonly incarnation: number
  readonly why: string
}

/** No VM is placed on the host or migrated to it until then, unless nobody else can take it. */
export interface Quarantine {
  readonly sinceMs: number
  readonly untilMs: number
  readonly why: string
}

/** A slot of a fenced host that its volume's owner must recover before anything of that volume starts. */
export interface RecoveryRecord {
  readonly volume: string
  readonly host: string
  readonly hostEpoch: number
}

export type PlacementPhase = 'starting' | 'running' | 'stopping'

export interface Placement {
  readonly host: string
  readonly hostEpoch: number
  /** The agent's incarnation that was told to run it: no other may. */
  readonly incarnation: number
  /** The placement epoch: higher than that of every earlier placement of this VM. */
  readonly epoch: number
  readonly phase: PlacementPhase
  /** Of a QEMU machine: the processor it sees, for as long as it lives. */
  readonly cpu?: Cpu
  /** The machine of this placement epoch, which runs on the host already, left by an agent that has died, is taken over there. */
  readonly adopts?: number
  /** What it was placed for; a restart after a host's loss is traced when it is done. */
  readonly why: string
}

export interface DiskRecord {
  readonly disk: string
  readonly volume: string
  readonly sizeBytes: number
  readonly created: boolean
  /** It is made as a clone of this snapshot. */
  readonly snapshot?: string
}

export interface LostInstance {
  readonly host: string
  readonly hostEpoch: number
  /** Its placement epoch; absent in records of earlier coordinators. */
  readonly epoch?: number
  readonly attested: boolean
  readonly legs: readonly string[]
}

export interface VmSpec {
  /** `export`: a disk served to tools (exports.ts); all that holds for a VM's instances holds for it. */
  readonly hypervisor: 'wasm' | 'model' | 'qemu' | 'export'
  readonly guest: string
  readonly memoryBytes: number
  readonly parameters: { readonly [key: string]: Json }
  readonly nics?: readonly Nic[]
}

/** A lasting forward: a port of hosts that leads to a TCP port of the guest. See lasting-forwards.ts. */
export interface ForwardRecord {
  /** Null: the address that each host has for forwards. */
  readonly address: string | null
  readonly port: number
  /** Of the card that it leads to. */
  readonly network: string
  readonly guest: string
  readonly guestPort: number
  /** How many bits of the guest's address are the network's. */
  readonly bits: number
  /** Which hosts listen: the one that has the VM, every one, or one for good. */
  readonly on: 'vm' | 'all' | { readonly host: string }
}

export interface VmRecord {
  readonly name: string
  readonly spec: VmSpec
  readonly disks: readonly DiskRecord[]
  readonly desired: 'running' | 'stopped' | 'deleted'
  readonly priority: number
  /** The highest placement epoch ever given out, burnt ones included. */
  readonly epoch: number
  readonly placement: Placement | null
  readonly migration: string | null
  /** The instance that was lost with its host, surely dead, and not yet started again. */
  readonly lost: LostInstance | null
  /** One that was lost and is not to be restarted: only for what may still be held in its name. Until the VM is placed again. */
  readonly formerlyLost?: LostInstance | null
  /** The host to prefer at the next start, or null. */
  readonly preferredHost: string | null
  /** In a row: it has not run for long since. */
  readonly failures: number
  readonly restart: RestartPolicy
  /** When its machine crashed, and when it was started on another host after a loss, within the policy's window. */
  readonly crashes: readonly number[]
  readonly relocations: readonly number[]
  /** How long its guest may take to shut down, as the last stop asked for. */
  readonly stopGraceMs: number
  /** Why it is not started any more until an operator starts it; null: it is. */
  readonly gaveUp: string | null
  /** By port, address; absent: it never had any. */
  readonly forwards?: readonly ForwardRecord[]
}

/** A volume's mirror has at most so many. */
export const MAX_LEGS = 2

export interface LegRecord {
  readonly leg: string
  readonly storage: string
  readonly lun: string
  /** 0 or 1: its place in the volume's bitmaps. */
  readonly index: number
  readonly role: 'in-sync' | 'syncing' | 'stale'
  /** The last generation in which it was in sync; null: never, it lacks everything. */
  readonly lastInSync: number | null
  /** Its storage has not made the LUN yet. */
  readonly lunOwed: boolean
}

export interface OwnerRecord {
  readonly host: string
  readonly hostEpoch: number
  readonly epoch: number
}

/** It was an owner, and may still write where no storage refuses it. */
export interface LeavingOwner extends OwnerRecord {
  /** The map that takes the volume from it; a beat of that map or a later one tells when it has ended. */
  readonly mapVersion: number
  /** Who is to have it next, if an operator said so. */
  readonly to: string | null
}

export interface VolumeRecord {
  readonly name: string
  readonly id: string
  readonly sizeBytes: number
  readonly legs: readonly LegRecord[]
  readonly generation: number
  /** Tells two generations of one number apart; null: generation 0, a single leg's own. */
  readonly generationId: string | null
  /** Storages that have not been raised to the generation yet. */
  readonly generationOwed: readonly string[]
  /** Restored from a copy: what its legs are only their storages know. */
  readonly unsure: boolean
  /** Legs ever made: the number of the next one. */
  readonly legsMade: number
  /**
   * How often an operator has made it go on with a leg that was behind, and whether an owner has opened it since; absent: never.
   * Before that owner nothing is attached.
   */
  readonly forced?: { readonly times: number; readonly opened: boolean }
  /** LUNs of former legs that are to be deleted. */
  readonly retired: readonly { readonly storage: string; readonly lun: string; readonly id?: string }[]
  readonly owner: OwnerRecord | null
  /** Of a volume with an external leg, between two owners. */
  readonly leaving?: LeavingOwner | null
  /** The highest ownership epoch ever given out. */
  readonly ownerEpoch: number
  /** `deleting`: it has no legs any more; its LUNs are among the retired until they are gone, and then so is it. */
  readonly phase: 'creating' | 'formatting' | 'ready' | 'deleting'
  /** How hosts spread its requests over paths that are as good. */
  readonly pathPolicy: 'least-queue' | 'fixed'
  /** What the last scrub that ended came to, in places; absent: there was none. */
  readonly lastScrub?: {
    readonly scrub: string
    readonly state: 'done' | 'failed'
    readonly wallMs: number
    readonly repaired: number
    readonly unresolved: number
    readonly skipped: number
  }
}

export interface DecisionRecord {
  readonly seq: number
  readonly wallMs: number
  readonly kind: string
  readonly subject: string
  /** What the decider saw. */
  readonly saw: Json
  readonly chose: string
  /** What else was thought of, and why not. */
  readonly rejected: readonly { readonly option: string; readonly why: string }[]
  readonly why: string
}

// --- what only this run of the process knows ---------------------------------------------------------------------------

export interface ReportedVolume {
  readonly ownerEpoch: number
  readonly state: string
  readonly why?: string | undefined
  readonly generation: number
  readonly sync: Beat['volumes'][number]['sync']
  readonly scrub: ScrubProgress | null
}

export interface VolumeLive {
  /** When every storage had been raised to the present generation; null: not in this run, or not yet. */
  toldAt: number | null
  /**
   * Storages of the legs that counted in generations before the present one: what a host that has not heard of it runs by. An empty
   * list stands for one that is not known.
   */
  countedBefore: readonly (readonly string[])[]
  /** Storage without epochs → since when the leg there counts no more, as its hosts are told. */
  readonly leavingSince: Map<string, number>
  /** When all storages had been raised above every generation before those; null: when this run began. */
  olderToldAt: number | null
  /** Since when nothing speaks against a resync. */
  goodSince: number | null
  /** In a row. */
  resyncFailures: number
  /** An operator does not want to wait. */
  resyncNow: boolean
  /** Leg → since when hosts report that they have lost it, in this generation, and when they did last. */
  readonly lostSince: Map<string, { readonly since: number; readonly lastAt: number }>
  /** Of a volume that is unsure: what storages told of its legs. */
  readonly marks: Map<string, LegMarks>
  /** Whether the stale leg's LUN is where it was, as its storage says; null: it has not said. */
  lun: 'there' | 'missing' | { readonly failed: string } | null
  /** Why a leg is not resynced, or made; for people. */
  why: string | null
  /** The version of the map that told of its deletion in this run; absent: it is not being deleted. */
  deletedIn?: number
  /** Why the cluster's copy on it is not brought up to date; absent: it is. */
  copyRefused?: string | null
  /** The last scrub that its owner spoke of, and whether it ran; undefined: it has not been heard yet in this run. */
  scrub: { readonly id: string; readonly running: boolean } | null | undefined
}

export interface HostLive {
  /** The agent's control session, by the incarnation it said hello with; null while there is none. */
  session: { incarnation: number } | null
  /** What its hello says is on record: not before this run was taken. */
  greeted: boolean
  /** The highest that its QEMU gives; null: it has not said. */
  cpu: Cpu | null
  /** The newest incarnation ever heard of in this run, and when its hello came. */
  incarnation: number | null
  lastBeatAt: number | null
  /** When the last lease was granted; before this run: its start. */
  lastGrantAt: number
  /** The latest sign of the host on each storage, by our clock; before a fence was answered: unknown. */
  seenAt: Map<string, number>
  /** The agent said that it runs nothing and knows its epoch to be fenced; and that nothing of earlier agents is left. */
  clean: boolean
  /** The first of these alone. */
  ended: boolean
  /** VMs whose machines earlier agents have left there, with the placement epochs of these. */
  survivors: ReadonlyMap<string, number>
  suspectSince: number | null
  verdict: 'up' | 'suspect' | 'link-cut' | 'isolated' | 'gone' | 'unknown'
  /** What storages answered to `seen` since the host became suspect: storage → age in ms when asked, and when. */
  seen: Map<string, { seenAgoMs: number | null; at: number }>
  /** Peers' views: host → ms since it last heard each other host. */
  peers: ReadonlyMap<string, number>
  peersAt: number
  machines: ReadonlyMap<string, ReportedMachine>
  machinesKnown: boolean
  volumes: ReadonlyMap<string, ReportedVolume>
  paths: readonly PathReport[]
  access: readonly AccessReport[]
  /** Volume → what it has copied to the leg that is catching up, in which generation. */
  resyncs: ReadonlyMap<string, { readonly generation: number; readonly copiedBytes: number; readonly why?: string }>
  reachableStorages: readonly string[]
  /** Why QEMU runs no machine there; null: it does. */
  whyNoQemu: string | null
  /** How lasting forwards fare there; absent: it has tried none. */
  forwards?: readonly ForwardReport[]
  /** VM → why it could not be moved away when that was tried last, while the host is drained. */
  readonly whyNotMoved: Map<string, string>
  /** Since when its beats have said that no HBA of its reaches a storage. */
  readonly unreachedSince: Map<string, number>
  /** Of the map that its agent has taken; 0: none in this session. */
  mapVersion: number
  /** Of the map that it had when it sent its last beat. */
  beatMapVersion: number
  /** Since when nothing of it can be sent to an external storage any more. */
  silentSince: number | null
  /** Since when its fence is waited for. */
  fencingSince: number | null
  /** Its present silence was counted as a failure. */
  silenceCounted: boolean
  /** Why it is not fenced though it is isolated; null: it is not, or it is. */
  whyNotFenced: string | null
  /**
   * Since when some of its VMs wait for storage that others reach, who could take one of them. What becomes of the host: that time is
   * counted; it is kept, for the sake of what could not be moved; it is left, and what does not wait is moved away.
   */
  stranded: { readonly since: number; readonly fromSeq: number; readonly host: 'counted' | 'kept' | 'left' } | null
}

/** An order or question on its way: not asked again before `retryAt`. */
export interface Outstanding {
  readonly retryAt: number
}

export interface MigrationLive {
  phaseSince: number
  prepared: boolean
  sourceDone: boolean
  targetDone: boolean
  /** How far it is, as the source told last; for people. */
  progress?: CopyProgress
}

/** As `migration.progress` tells it. */
export interface CopyProgress {
  readonly round: number
  readonly pagesSent: number
  readonly bytesSent: number
  readonly dirtyPages: number
  readonly forecastMs: number
  readonly totalBytes: number
  readonly leftBytes: number
  readonly bytesPerSecond: number
  readonly dirtyBytesPerSecond: number
}

export interface VmLive {
  /** Not to be started before this. */
  backoffUntil: number
  /** Since when this placement runs without a failure; null: it does not. */
  runningSince: number | null
  whyNot: string | null
  /** What the owner said last when a disk of it was to be made; absent: nothing, or it is made. */
  diskRefused?: string | null
  /** Where it ended last, and whether by a crash of its own: it is started there again, or rather elsewhere. */
  endedAt: { readonly host: string; readonly crashed: boolean; readonly why: string | null } | null
}

export interface CoordinatorState {
  cluster: ClusterRecord
  /** A random id of this run. */
  readonly run: string
  /** By storage: the revision that it is being told of, and has taken. */
  readonly announcing: Map<string, number>
  readonly announced: Map<string, number>
  /** Storages that have let the question time out. */
  readonly unheard: Set<string>
  /** A storage has answered this run that it knows of no newer state. */
  vouched: boolean
  /** What is durable has changed since, and the revision not, because this run may be an older copy's. */
  unrevised: boolean
  readonly startedAt: number
  /** The wall clock's time at `startedAt`: from there the state's calendar counts on by the monotonic clock. */
  readonly wallAtStart: number
  readonly storages: Map<string, StorageRecord>
  readonly hosts: Map<string, HostRecord>
  readonly vms: Map<string, VmRecord>
  readonly volumes: Map<string, VolumeRecord>
  readonly migrations: Map<string, MigrationRecord>
  readonly recoveries: Map<string, RecoveryRecord>
  /** An operator ends the cluster's work in order: nothing is to run until the next start of the coordinator. */
  halted: boolean
  decisionSeq: number
  /** How often what is durable has changed, over all runs; and when this one began. */
  revision: number
  readonly revisionAtStart: number
  /** Orders about disks that this run has sent. */
  orders: number
  mapVersion: number
  map: ClusterMap | null
  /** See routes.ts. */
  routes: Routes
  readonly liveHosts: Map<string, HostLive>
  readonly liveVms: Map<string, VmLive>
  readonly liveMigrations: Map<string, MigrationLive>
  readonly liveVolumes: Map<string, VolumeLive>
  /** Volumes of which it is not known when their storages had been raised to the generation in which this run found them. */
  readonly unknownBefore: ReadonlySet<string>
  /** See since.ts. */
  readonly since: Map<string, { readonly what: string; readonly at: number }>
  readonly outstanding: Map<string, Outstanding>
  /** Durable changes in this run of what the copies on the volumes hold. */
  changes: number
  /** Per volume: up to which change its copy is, and is being, written. */
  readonly copied: Map<string, number>
  readonly copying: Map<string, number>
}
