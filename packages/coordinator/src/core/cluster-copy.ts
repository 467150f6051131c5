// A copy of what a lost coordinator would need, kept on every volume: VM definitions, epochs, the term. Written by the
// volume's owner whenever it has changed; read by `stellwerk cluster restore`.

import type { Json, StoreChange } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { shouldAsk } from './asking.ts'
import { volumeLive } from './legs.ts'
import { decisionKey, REVISION_KEY, type StepOutput } from './output.ts'
import { isServing } from './ownership.ts'
import type {
  ClusterRecord,
  CoordinatorState,
  DecisionRecord,
  HostRecord,
  StorageRecord,
  VmRecord,
  VolumeRecord,
} from './state.ts'

export interface ClusterCopy {
  readonly format: 1
  readonly version: number
  readonly cluster: ClusterRecord
  /** Absent in copies of an earlier version. */
  readonly decisionSeq?: number
  readonly revision?: number
  readonly storages: readonly StorageRecord[]
  readonly hosts: readonly HostRecord[]
  readonly vms: readonly VmRecord[]
  readonly volumes: readonly VolumeRecord[]
}

/** It does not fit where the volume keeps it, or not even into a message to its owner. */
const TOO_LARGE: ReadonlySet<string> = new Set(['cluster-copy-too-large', 'frame-too-large'])
/** A change is copied at most this often. */
const COPY_MS = 1_000

/**
 * Versions rise over restarts: the term counts in thousands of millions, the decisions and changes of a run below that. A copy of an
 * older version never replaces a newer one.
 */
export const VERSIONS_PER_TERM = 1_000_000_000

export function copyOf(state: CoordinatorState): ClusterCopy {
  return {
    format: 1,
    version: state.cluster.term * VERSIONS_PER_TERM + state.changes,
    cluster: state.cluster,
    decisionSeq: state.decisionSeq,
    revision: state.revision,
    storages: [...state.storages.values()],
    hosts: [...state.hosts.values()],
    vms: [...state.vms.values()],
    volumes: [...state.volumes.values()],
  }
}

/** Has the copy on each volume brought up to date by its owner. */
export function spreadCopy(state: CoordinatorState, now: number, out: StepOutput): void {
  for (const volume of state.volumes.values()) {
    if (volume.owner === null || !isServing(state, volume.name)) continue
    if (state.copied.get(volume.name) === state.changes) continue
    const key = `copy/${volume.name}`
    if (state.copying.has(volume.name) || !shouldAsk(state, key, now, COPY_MS)) continue
    const value = copyOf(state)
    state.copying.set(volume.name, state.changes)
    const body = { volume: volume.name, version: value.version, value: value as unknown as Json }
    out.effect({
      kind: 'owner',
      key,
      host: volume.owner.host,
      volume: volume.name,
      message: 'volume.put-cluster-copy',
      body,
    })
  }
}

export function copyTaken(state: CoordinatorState, volume: string, now: number): void {
  const changes = state.copying.get(volume)
  state.copying.delete(volume)
  if (changes !== undefined) state.copied.set(volume, changes)
  if (state.volumes.has(volume)) volumeLive(state, volume).copyRefused = null
  state.outstanding.set(`copy/${volume}`, { retryAt: now + COPY_MS })
}

/** It has become too large for the volume: that is told, and until it fits again nothing is added to the cluster. */
export function copyRefused(state: CoordinatorState, volume: string, code: string, message: string): void {
  state.copying.delete(volume)
  if (TOO_LARGE.has(code) && state.volumes.has(volume)) volumeLive(state, volume).copyRefused = message
}

/** Of the volumes that are served, the first on which the copy is old, and what its owner said; null: it fits everywhere. */
export function whyNotCopied(state: CoordinatorState): { readonly volume: string; readonly why: string } | null {
  for (const volume of state.volumes.keys()) {
    const why = state.liveVolumes.get(volume)?.copyRefused
    if (why != null && isServing(state, volume)) return { volume, why }
  }
  return null
}

/** Terms and placement epochs of a restored coordinator begin this far above the copy's, which may be old. */
const RESTORE_JUMP = 1_000
/** More than a volume is given legs in the time in which a copy of it is not renewed. */
const LEGS_JUMP = 1_000
/** And decisions, of which there are more; new VMs begin at their number. */
const RESTORE_JUMP_DECISIONS = 1_000_000
/** And the revision: above what any state reaches by counting, and above that of a restore before, also when the clock was set back. */
const REVISIONS_PER_MS = 1_000
const RESTORE_JUMP_REVISION = 1_000_000

/**
 * A coordinator's state from a copy, which may be older than what is out there: all epochs begin far above it. Nothing that
 * the copy says of hosts is believed, nor where it says that VMs were: every host is fenced, and waited out unless it
 * reports, before anything starts anywhere. Throws `bad-copy`.
 */
export function restoreFrom(value: Json, wallMs: number): StoreChange[] {
  const copy = value as unknown as Partial<ClusterCopy> | null
  if (copy === null || typeof copy !== 'object' || copy.format !== 1 || copy.cluster === undefined) {
    throw new StellwerkError('bad-copy', 'what the volume carries is no copy of a cluster', {
      hint: 'name a volume of the lost cluster; a volume that was never owned carries none',
    })
  }
  const put = (key: string, record: object): StoreChange => ({ put: key, value: record as unknown as Json })
  const storages = (copy.storages ?? []).map(storage => storage.name)
  const changes: StoreChange[] = [put('cluster', { ...copy.cluster, term: copy.cluster.term + RESTORE_JUMP })]
  changes.push(restoreDecision(copy, wallMs))
  const revision = Math.max((copy.revision ?? 0) + RESTORE_JUMP_REVISION, Math.ceil(wallMs) * REVISIONS_PER_MS)
  changes.push({ put: REVISION_KEY, value: revision })
  for (const storage of copy.storages ?? []) changes.push(put(`storages/${storage.name}`, storage))
  for (const host of copy.hosts ?? []) {
    const fence = {
      why: 'the coordinator was restored from a copy',
      needed: storages,
      // Every storage's word is wanted, whatever the copy says of legs.
      volumes: [],
      acknowledged: [],
      attestedIncarnation: null,
      attestedBy: null,
      restored: true as const,
    }
    changes.push(
      put(`hosts/${host.name}`, {
        ...host,
        epoch: host.epoch + RESTORE_JUMP,
        phase: 'fencing',
        fence,
      } satisfies HostRecord),
    )
  }
  for (const vm of copy.vms ?? []) {
    const placement = vm.placement && { ...vm.placement, hostEpoch: vm.placement.hostEpoch + RESTORE_JUMP }
    const restored: VmRecord = { ...vm, epoch: vm.epoch + RESTORE_JUMP, placement, migration: null }
    changes.push(put(`vms/${vm.name}`, restored))
  }
  for (const volume of copy.volumes ?? []) {
    if (volume.phase === 'deleting') {
      changes.push(put(`volumes/${volume.name}`, volume))
      continue
    }
    const restored: VolumeRecord = {
      ...volume,
      owner: null,
      ownerEpoch: volume.ownerEpoch + RESTORE_JUMP,
      generationOwed: [],
      unsure: true,
      // Others may have been made since the copy was written: a new one must have a name of its own.
      legsMade: volume.legsMade + LEGS_JUMP,
    }
    changes.push(put(`volumes/${volume.name}`, restored))
    for (const host of copy.hosts ?? []) {
      const hostEpoch = host.epoch + RESTORE_JUMP
      const recovery = { volume: volume.name, host: host.name, hostEpoch }
      changes.push(put(`recoveries/${volume.name}/${host.name}/${hostEpoch}`, recovery))
    }
  }
  return changes
}

/** Decisions are counted on from here: new VMs and exports begin at the last one's number, above every placement epoch. */
function restoreDecision({ decisionSeq = 0, vms = [], cluster }: Partial<ClusterCopy>, wallMs: number): StoreChange {
  const seq = vms.reduce((highest, { epoch }) => Math.max(highest, epoch), decisionSeq) + RESTORE_JUMP_DECISIONS
  const record: DecisionRecord = {
    seq,
    wallMs,
    kind: 'restore',
    subject: cluster?.cluster ?? '',
    saw: { term: cluster?.term ?? 0, decisions: decisionSeq, vms: vms.length },
    chose: 'begin all epochs far above those of the copy, and fence every host',
    rejected: [],
    why: 'the state was made from the copy on a volume, which may be old',
  }
  return { put: decisionKey(seq), value: record as unknown as Json }
}
