// A volume is made: its record first; its LUNs, its first generation and its layout follow (see legs.ts).

import { accept, badName, type CommandResult, refuse } from './command-result.ts'
import { whoHasExport } from './external.ts'
import { hostLive, usableHosts } from './hosts.ts'
import type { StepOutput } from './output.ts'
import { type CoordinatorState, MAX_LEGS, type VolumeRecord } from './state.ts'

/** The smallest volume that holds the metadata and some extents. */
const MIN_VOLUME_BYTES = 64 * 1024 * 1024
/** The largest LUN that an embedded storage makes. */
const MAX_VOLUME_BYTES = 64 * 2 ** 40
/** After its start the coordinator does not take silence about a storage for its absence for so many lease times. */
const SETTLING_LEASES = 4

export interface VolumeCreate {
  readonly name: string
  readonly id: string
  readonly sizeBytes: number
  readonly storages: readonly string[]
}

/** Null when it can be made, as far as is known here. */
export function whyNoVolume(state: CoordinatorState, command: VolumeCreate, now: number): CommandResult | null {
  const bad = badName('volume', command.name)
  if (bad !== null) return bad
  if (state.volumes.has(command.name))
    return refuse('duplicate-name', `there is already a volume "${command.name}"`, 'choose another name')
  const { length } = command.storages
  if (length < 1 || length > MAX_LEGS || new Set(command.storages).size < length) {
    return refuse(
      'bad-legs',
      `a volume on ${command.storages.join(', ') || 'no storage'} cannot be made`,
      'name one storage subsystem, or two different ones for a mirror',
    )
  }
  for (const storage of command.storages) {
    if (!state.storages.has(storage)) {
      const known = [...state.storages.keys()].sort().join(', ')
      return refuse('unknown-storage', `there is no storage subsystem "${storage}"`, `known: ${known}`)
    }
  }
  for (const storage of command.storages) {
    const whyNot = whyExportTaken(state, storage, command.name)
    if (whyNot !== null) return whyNot
  }
  const hosts = usableHosts(state)
  const dead = command.storages.find(
    storage => !hosts.some(host => hostLive(state, host.name).reachableStorages.includes(storage)),
  )
  // Hosts that have just come may not have reported their paths yet.
  const isSettled = now - state.startedAt > state.cluster.settings.leaseMs * SETTLING_LEASES
  if (isSettled && hosts.length > 0 && dead !== undefined) {
    return refuse('storage-unreachable', `no host reaches storage "${dead}"`, 'see: stellwerk path list')
  }
  const isInRange = command.sizeBytes >= MIN_VOLUME_BYTES && command.sizeBytes <= MAX_VOLUME_BYTES
  if (!isInRange || command.sizeBytes % (4 * 1024 * 1024) !== 0) {
    return refuse(
      'bad-size',
      `${command.sizeBytes} bytes is no size for a volume`,
      'use a multiple of 4 MiB, from 64 MiB to 64 TiB',
    )
  }
  return null
}

/** Two volumes with one export would write over each other. */
export function whyExportTaken(state: CoordinatorState, storage: string, lun: string): CommandResult | null {
  const other = whoHasExport(state, storage, lun)
  if (other === null) return null
  const message = `what storage "${storage}" has for LUN "${lun}" is volume "${other}"'s`
  return refuse('export-in-use', message, "name another export for it in the storage's `exports`")
}

export function createVolume(
  state: CoordinatorState,
  command: VolumeCreate,
  now: number,
  out: StepOutput,
): CommandResult {
  const whyNot = whyNoVolume(state, command, now)
  if (whyNot !== null) return whyNot
  out.put('volumes', command.name, {
    name: command.name,
    id: command.id,
    sizeBytes: command.sizeBytes,
    legs: command.storages.map((storage, index) => ({
      leg: `leg-${index}`,
      storage,
      lun: command.name,
      index,
      role: 'in-sync',
      lastInSync: null,
      lunOwed: true,
    })),
    generation: 0,
    generationId: null,
    generationOwed: [],
    unsure: false,
    legsMade: command.storages.length,
    retired: [],
    owner: null,
    ownerEpoch: 0,
    phase: 'creating',
    pathPolicy: 'least-queue',
  } satisfies VolumeRecord)
  return accept({ volume: command.name })
}
