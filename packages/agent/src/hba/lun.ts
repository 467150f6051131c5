// Opens a LUN over all of the host's HBAs: one multipath device, as the host itself or as a volume's owner.

import {
  type MultipathDevice,
  openMultipath,
  type PathRefusal,
  type PathStatus,
} from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import type { ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import type { LunSessions } from './lun-sessions.ts'
import type { StorageLinks } from './storage-links.ts'

export interface LunAccess {
  readonly env: Environment
  readonly host: string
  readonly hbas: readonly NetworkName[]
  readonly links: StorageLinks
  readonly sessions: LunSessions
  readonly settings: Settings
}

export interface LunOptions {
  readonly storage: ClusterMapStorage
  readonly lun: string
  readonly epoch: number
  readonly generation: number
  /** The ownership epoch, to write as the volume's owner; null: as the host. */
  readonly owner: number | null
  readonly onRefused: (refusal: PathRefusal) => void
  readonly onPath?: (status: PathStatus) => void
  readonly signal: AbortSignal
}

/** Resolves when a first path is connected; the wait has no end but the signal. */
export function openLun(access: LunAccess, options: LunOptions): Promise<MultipathDevice> {
  const { env, host, hbas, links, sessions, settings } = access
  const { storage, lun, epoch, generation, owner } = options
  const as = owner === null ? 'host' : 'owner'
  const paths = []
  for (const hba of hbas) {
    const address = storage.portals.find(portal => portal.network === hba)
    if (address === undefined) continue
    paths.push(
      nbdPath({
        name: `${hba}/${storage.name}`,
        priority: 0,
        network: env.network,
        timers: env.timers,
        address,
        dialTimeoutMs: settings.ioDeadlineMs,
        probe: () => links.probe(hba, storage.name, settings.heartbeatMs * 2),
      }),
    )
  }
  const ownerPart = owner === null ? '' : `&owner=${owner}`
  const first = sessions.next(lun, as)
  return openMultipath({
    paths,
    exportName: session =>
      `${lun}?host=${host}&epoch=${epoch}&session=${sessions.format(session)}&generation=${generation}${ownerPart}`,
    session: first,
    raiseSession: () => sessions.next(lun, as),
    clock: env.clock,
    timers: env.timers,
    config: {
      requestDeadlineMs: settings.ioDeadlineMs,
      probeIntervalMs: settings.heartbeatMs,
      backoffMaxMs: settings.heartbeatMs * 2,
    },
    onRefused: options.onRefused,
    ...(options.onPath === undefined ? {} : { onPath: options.onPath }),
    signal: options.signal,
  })
}
