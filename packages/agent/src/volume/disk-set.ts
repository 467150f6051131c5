// The disks of one VM on this host, as its actor needs them. Implemented by host-volumes.ts.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'

export interface DiskSet {
  /** In the order of the VM's definition. */
  readonly devices: readonly BlockDevice[]
  /**
   * Storages with a leg of them that is written to at this moment; null where there is no storage lease (no disks, or one
   * without epochs).
   */
  storages(): readonly string[] | null
  /** Why writes wait until somebody makes room (the guest is held still meanwhile); null: they do not. */
  readonly critical: string | null
  onCritical(listener: () => void): void
  /** The guest is being killed: what waits for the owner, or for room, ends at once. */
  abandon(): void
  /** Nothing is in flight or will be sent, and this host's intent bits there are cleared. */
  drain(): Promise<void>
  /** After an abort: requests are sent again. */
  resume(): void
  /** Maps and versions, for the target of a migration. After `drain`. */
  handover(): Json
  /**
   * At the target: takes over from there, once the mirrors serve in the source's generation or a later one. Rejects with
   * `bad-handover` if these are not the disks that were reserved, or not at least at the versions that the owner knew then.
   */
  adopt(handover: Json): Promise<void>
  /** Tells the owner, in the background and until it has taken it, that the coordinator committed the handover. */
  committed(): void
  /** Gives them back to the owner: drained, bits cleared, detached. Resolves when the owner has taken it. */
  detach(): Promise<void>
  /** After an abort: burns the epoch that was reserved for the target, in the background, also when they are dropped since. */
  burn(epoch: number): void
  /** Closes them here without a word: they are fenced, or somebody else's by now. */
  drop(): void
}

export interface DiskOpener {
  /** For a VM that is started here. Waits while the owner or paths are away; rejects when it is refused for good. */
  attach(order: VmOrder): Promise<DiskSet>
  /** For a VM that is being received: reserved at its new placement epoch; readable after `adopt`. */
  reserve(order: VmOrder): Promise<DiskSet>
}
