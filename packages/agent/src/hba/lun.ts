// Opens a LUN over all of the host's HBAs, and over a peer as the path of last resort: one multipath device, as the host
// itself or as a volume's owner.

import { externalPath } from '@stellwerk/block/path/external-path.ts'
import {
  type MultipathDevice,
  type MultipathOptions,
  openMultipath,
  type PathRefusal,
  type PathRoute,
  type PathStatus,
} from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import type { PathTransport } from '@stellwerk/block/path/transport.ts'
import type { ClusterMapStorage } from '@stellwerk/protocol/messages/cluster.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import type { Redirects } from '../redirect/redirects.ts'
import { exportOf } from './external-export.ts'
import type { LunSessions } from './lun-sessions.ts'
import type { OpenLun, OpenLuns } from './open-luns.ts'
import type { StorageLinks } from './storage-links.ts'

export interface LunAccess {
  readonly env: Environment
  readonly host: string
  readonly hbas: readonly NetworkName[]
  readonly links: StorageLinks
  readonly sessions: LunSessions
  readonly settings: Settings
  /** Null: there are no peers to carry anything. */
  readonly redirects: Redirects | null
  /** Null: nobody asks for its paths. */
  readonly luns: OpenLuns | null
}

export interface LunOptions {
  readonly storage: ClusterMapStorage
  readonly lun: string
  readonly epoch: number
  readonly generation: number
  /** The volume's. */
  readonly sizeBytes: number
  /** The ownership epoch, to write as the volume's owner; null: as the host. */
  readonly owner: number | null
  readonly onRefused: (refusal: PathRefusal) => void
  readonly onPath?: (status: PathStatus) => void
  readonly signal: AbortSignal
}

/** The longest reason that goes on record. */
const WHY_MAX = 500

/** Resolves when a first path is connected; the wait has no end but the signal. */
export function openLun(access: LunAccess, options: LunOptions): Promise<MultipathDevice> {
  const { env, host, hbas, links, sessions, settings, redirects } = access
  const { storage, lun, epoch, generation, owner } = options
  const as = owner === null ? 'host' : 'owner'
  let session = sessions.next(lun, as)
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
  if (redirects !== null) paths.push(redirects.path(storage.name, lun))
  const ownerPart = owner === null ? '' : `&owner=${owner}`
  return openMultipath({
    paths: storage.external === undefined ? paths : externalPaths(access, options, () => session),
    exportName: number =>
      storage.external === undefined
        ? `${lun}?host=${host}&epoch=${epoch}&session=${sessions.format(number)}&generation=${generation}${ownerPart}`
        : exportOf(storage, lun),
    session,
    raiseSession: () => {
      session = sessions.next(lun, as)
      return session
    },
    clock: env.clock,
    timers: env.timers,
    config: {
      requestDeadlineMs: settings.ioDeadlineMs,
      probeIntervalMs: settings.heartbeatMs,
      backoffMaxMs: settings.heartbeatMs * 2,
    },
    onRefused: options.onRefused,
    ...(options.onPath === undefined ? {} : { onPath: options.onPath }),
    ...watched(access, options),
    signal: options.signal,
  })
}

/** Over its own HBAs only: a peer may still send what it carries when this host is known to be dead. */
function externalPaths(
  { env, hbas, links, sessions, settings }: LunAccess,
  { storage, lun, owner, sizeBytes }: LunOptions,
  session: () => number,
): PathTransport[] {
  const { network, clock, timers } = env
  const { ioDeadlineMs, heartbeatMs } = settings
  const quiet = sessions.quietOf(storage.name, lun, owner === null ? 'host' : 'owner')
  return storage.portals
    .filter(portal => hbas.includes(portal.network))
    .map(address =>
      externalPath({
        ...{ name: `${address.network}/${storage.name}`, network, clock, timers, address, quiet, session, sizeBytes },
        ...{ dialTimeoutMs: ioDeadlineMs, openTimeoutMs: ioDeadlineMs, quietMs: ioDeadlineMs },
        probe: () => links.probe(address.network, storage.name, heartbeatMs * 2),
      }),
    )
}

/** What operators, the coordinator and the trace hear of the LUN while it is open. */
function watched(
  { env, host, luns, settings }: LunAccess,
  { storage, lun, owner }: LunOptions,
): Pick<MultipathOptions, 'onMade' | 'onEnd' | 'onRoute' | 'onWaiting'> {
  let open: OpenLun | null = null
  const ids = { host, volume: lun }
  const about = { storage: storage.name, owner: owner !== null }
  const tell = (kind: string, via: string | null, why: string): void => {
    env.trace.emit({ level: 'decision', kind, ...ids, body: { ...about, via, why: why.slice(0, WHY_MAX) } })
  }
  return {
    onMade: control => {
      open = luns?.add({ ...about, lun, control }) ?? null
    },
    onEnd: () => {
      if (open !== null) luns?.remove(open)
      tell('path.closed', null, 'the LUN is not open any more')
    },
    onRoute: (route: PathRoute) => {
      if (open !== null) {
        open.route = route
        open.since = env.clock.now()
      }
      luns?.onChange()
      const kind = route.kind === 'none' ? 'path.paused' : `path.${route.kind}`
      tell(kind, route.kind === 'redirected' ? route.via : null, route.why)
    },
    onWaiting: oldestMs => {
      if (oldestMs <= settings.ioDeadlineMs || !env.trace.on('io')) return
      env.trace.emit({ level: 'io', kind: 'path.waiting', ...ids, body: { ...about, oldestMs } })
    },
  }
}
