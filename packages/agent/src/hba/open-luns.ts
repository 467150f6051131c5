// The LUNs that this host has open, as multipath sets: what operators and the coordinator hear of their paths, and what an
// operator's wishes (a disabled fabric, a policy) reach while they are open.

import type { MultipathControl, PathPolicy, PathRoute, PathStatus } from '@stellwerk/block/path/multipath.ts'
import type { AccessReport, ClusterMap, PathReport } from '@stellwerk/protocol/messages/cluster.ts'
import type { Clock } from '@stellwerk/runtime/environment.ts'

/** The longest reason that is told. */
const WHY_MAX = 500

export interface OpenLun {
  readonly storage: string
  readonly lun: string
  readonly owner: boolean
  readonly control: MultipathControl
  route: PathRoute
  since: number
}

/** An HBA's link to a storage, as its own probes see it. */
export interface LinkState {
  readonly storage: string
  readonly path: string
  readonly state: string
  readonly why: string
  readonly since: number
}

export class OpenLuns {
  readonly #clock: Clock
  readonly #host: string
  /** The way of some LUN has changed: worth telling before the next beat. */
  readonly onChange: () => void
  readonly #open = new Set<OpenLun>()
  #map: ClusterMap | null = null

  constructor(clock: Clock, host: string, onChange: () => void) {
    this.#clock = clock
    this.#host = host
    this.onChange = onChange
  }

  add(lun: Pick<OpenLun, 'storage' | 'lun' | 'owner' | 'control'>): OpenLun {
    const entry: OpenLun = {
      ...lun,
      route: { kind: 'none', why: 'it is being opened' },
      since: this.#clock.now(),
    }
    this.#open.add(entry)
    this.#instruct(entry)
    return entry
  }

  remove(lun: OpenLun): void {
    this.#open.delete(lun)
  }

  follow(map: ClusterMap): void {
    this.#map = map
    for (const entry of this.#open) this.#instruct(entry)
  }

  /** Fabrics that an operator has taken from this host. */
  get disabled(): readonly string[] {
    return this.#map?.hosts.find(({ name }) => name === this.#host)?.disabled ?? []
  }

  #instruct({ storage, lun, control }: OpenLun): void {
    control.disable(this.disabled.map(fabric => `${fabric}/${storage}`))
    control.setPolicy(this.#policyOf(storage, lun))
  }

  #policyOf(storage: string, lun: string): PathPolicy {
    const volume = this.#map?.volumes.find(({ legs }) => legs.some(leg => leg.storage === storage && leg.lun === lun))
    return volume?.pathPolicy ?? 'least-queue'
  }

  /** Per HBA and storage, over all LUNs; and the redirected path to each storage that has a LUN open. */
  paths(links: readonly LinkState[]): PathReport[] {
    const byName = new Map<string, PathStatus[]>()
    const redirected = new Map<string, PathStatus[]>()
    for (const { storage, control } of this.#open) {
      for (const path of control.paths()) {
        const into = path.standby ? redirected : byName
        const key = path.standby ? storage : path.name
        into.set(key, [...(into.get(key) ?? []), path])
      }
    }
    const direct = links.map(link => this.#report(link, byName.get(link.path) ?? []))
    const last = [...redirected].map(([storage, paths]) => {
      const first = worst(paths)
      return this.#report({ storage, path: first.name, state: 'up', why: first.why, since: first.since }, paths)
    })
    return [...direct, ...last]
  }

  #report(link: LinkState, paths: readonly PathStatus[]): PathReport {
    const now = this.#clock.now()
    const shown = link.state === 'up' && paths.length > 0 ? worst(paths) : link
    const disabled = this.disabled.some(fabric => link.path.startsWith(`${fabric}/`))
    const sum = (of: (path: PathStatus) => number): number => paths.reduce((total, path) => total + of(path), 0)
    const measured = paths.flatMap(path => (path.requestMs === null ? [] : [path.requestMs]))
    return {
      storage: link.storage,
      path: link.path,
      state: disabled && shown.state === 'up' ? 'disabled' : shown.state,
      why: shown.why.slice(0, WHY_MAX),
      sinceMs: Math.max(0, now - shown.since),
      latencyMs: measured.length === 0 ? null : Math.max(...measured),
      queue: sum(path => path.queue),
      requests: sum(path => path.requests),
      errors: sum(path => path.errors),
      via: paths.find(path => path.state !== 'standby' && path.via !== null)?.via ?? null,
    }
  }

  /** Per leg that is open here: as the host itself where it is open so, else as its owner. */
  access(): AccessReport[] {
    const reports: AccessReport[] = []
    for (const volume of this.#map?.volumes ?? []) {
      for (const leg of volume.legs) {
        const sets = [...this.#open].filter(({ storage, lun }) => storage === leg.storage && lun === leg.lun)
        const set = sets.find(({ owner }) => !owner) ?? sets[0]
        if (set !== undefined) reports.push(this.#access(volume.name, set))
      }
    }
    return reports
  }

  #access(volume: string, { storage, route, since }: OpenLun): AccessReport {
    return {
      volume,
      storage,
      state: route.kind === 'none' ? 'paused' : route.kind,
      via: route.kind === 'redirected' ? route.via : null,
      why: route.why.slice(0, WHY_MAX),
      sinceMs: Math.max(0, this.#clock.now() - since),
    }
  }
}

const ORDER = ['up', 'standby', 'disabled', 'probing', 'slow', 'failed']

/** What an operator should hear first. */
function worst(paths: readonly PathStatus[]): PathStatus {
  return paths.reduce((a, b) => (ORDER.indexOf(b.state) > ORDER.indexOf(a.state) ? b : a))
}
