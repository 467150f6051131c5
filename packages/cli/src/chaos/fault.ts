// What a chaos plan can break, in words that hold for every target: the simulator, processes on this machine, containers.
// How a fault is made is the target's; what it must not do to the cluster is the plan's (`limits`).

export const FAULT_KINDS = [
  /** The agent alone: its guardian attests the death. */
  'agent-kill',
  /** Guardian and agent, as power loss: nothing attests. Healed: started again. */
  'host-kill',
  /** SIGSTOP of a host's processes, then SIGCONT. */
  'host-pause',
  /** A host's processes end in order and start again. */
  'host-restart',
  'coordinator-kill',
  'coordinator-pause',
  'storage-kill',
  'storage-pause',
  /** Nothing passes between the host and its peers, the coordinator and (unless `fabrics: false`) storage. */
  'host-isolate',
  /** Between `host` and `peer` (a host, a storage, the coordinator) nothing passes on `network`; `oneWay`: from host to peer. */
  'partition',
  /** Between `host` and `peer` every dial on `network` is refused, as where nobody listens, and what was connected is reset. */
  'ports-closed',
  /** Packets, or their equivalent at the target's seam, are lost with `chance`. */
  'loss',
  /** `delayMs` (and up to `jitterMs` more) on `network` at the host. */
  'delay',
  /** Messages come twice with `chance`. */
  'duplicate',
  /** At most `mibPerSecond` on `network` at the host. */
  'slow-link',
  /** One HBA's cable: `host` loses `fabric`. */
  'cable-pull',
  /** A whole fabric. */
  'fabric-down',
  /** Each request of a storage's disk takes `delayMs`. */
  'disk-slow',
  'disk-full',
  /** Reads or writes of a storage's disk fail with EIO with `chance`. */
  'io-error',
  /** Bytes of a mirrored LUN change under the storage. */
  'corrupt-block',
  /** A host's wall clock jumps by `byMs`. */
  'clock-jump',
] as const

export type FaultKind = (typeof FAULT_KINDS)[number]

export type NetworkOf = 'cluster' | 'fabric-0' | 'fabric-1' | 'guest'

/** One fault of a run, with everything drawn: whom, when, how long and how much. */
export interface Fault {
  /** Unique in the run, from 1, in the order of `atMs`. */
  readonly id: number
  readonly kind: FaultKind
  /** From the moment at which the workload runs. */
  readonly atMs: number
  /** Healed after this. */
  readonly lastsMs: number
  readonly host?: string
  readonly peer?: string
  readonly storage?: string
  readonly fabric?: 0 | 1
  readonly network?: NetworkOf
  readonly oneWay?: boolean
  /** Of `host-isolate`: false leaves the host its storage. */
  readonly fabrics?: boolean
  /** 0 to 1. */
  readonly chance?: number
  readonly delayMs?: number
  readonly jitterMs?: number
  readonly mibPerSecond?: number
  readonly byMs?: number
}
