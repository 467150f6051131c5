// From the store to a state: what is durable is read back, everything else starts at its most cautious value.

import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { Json, Store, StoreChange } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { VERSIONS_PER_TERM } from './cluster-copy.ts'
import type { MigrationRecord } from './migration-record.ts'
import { CLUSTER_KEY, RECORD_TABLES, REVISION_KEY, type RecordTable } from './output.ts'
import { boundQuarantines } from './quarantine.ts'
import { CLEAN_SLATE, defaultPolicy } from './restart-policy.ts'
import { NO_ROUTES } from './routes.ts'
import type {
  ClusterRecord,
  CoordinatorState,
  HostRecord,
  LegRecord,
  StorageRecord,
  VmRecord,
  VolumeRecord,
} from './state.ts'

const OLDER_KEY = 'older'

/** A storage has refused a run that began with this state: there is a newer one. What this one decides only makes it look newer. */
export function markAsOlder(store: Store, why: string): void {
  store.commit([{ put: OLDER_KEY, value: why }])
}

export function revisionOf(store: Pick<Store, 'get'>): number {
  const revision = store.get(REVISION_KEY)
  return typeof revision === 'number' ? revision : 0
}

/** Null: the state is not known to be an older copy. */
export function whyMarkedAsOlder(store: Store): string | null {
  const why = store.get(OLDER_KEY)
  return typeof why === 'string' ? why : null
}

/**
 * Opens the state and raises the term, durably, before anybody hears of it. Throws `foreign-state` when the directory
 * belongs to another cluster, or to a process that is no coordinator.
 */
export function load(
  store: Store,
  cluster: string,
  settings: Settings,
  storages: readonly StorageRecord[],
  now: number,
  wallMs: number,
  run: string,
): CoordinatorState {
  const known = store.get(CLUSTER_KEY) as unknown as ClusterRecord | undefined
  if (known === undefined && store.entries('').length > 0) {
    throw new StellwerkError('foreign-state', "the state is of another process, not a coordinator's", {
      hint: 'put the file back where it belongs, or move it away',
    })
  }
  if (known !== undefined && known.cluster !== cluster) {
    throw new StellwerkError('foreign-state', `the state is of cluster "${known.cluster}", not "${cluster}"`, {
      hint: "name the directory of this cluster's coordinator",
    })
  }
  // Agents may hold leases of the length that was in force: it is never lowered under them.
  const leaseMs = Math.max(settings.leaseMs, known?.settings.leaseMs ?? 0)
  const record: ClusterRecord = { cluster, settings: { ...settings, leaseMs }, term: (known?.term ?? 0) + 1 }
  const changes: StoreChange[] = [{ put: CLUSTER_KEY, value: record as unknown as Json }]
  const left = leftStorages(store, storages)
  for (const name of left) changes.push({ delete: `storages/${name}` })
  for (const storage of storages) changes.push({ put: `storages/${storage.name}`, value: storage as unknown as Json })
  changes.push(...oweEpochs(store, storages, left))
  store.commit(changes)
  const state: CoordinatorState = {
    cluster: record,
    run,
    announcing: new Map(),
    announced: new Map(),
    unheard: new Set(),
    vouched: false,
    unrevised: false,
    startedAt: now,
    wallAtStart: wallMs,
    storages: new Map(),
    hosts: new Map(),
    vms: new Map(),
    volumes: new Map(),
    migrations: new Map(),
    recoveries: new Map(),
    halted: false,
    decisionSeq: lastDecision(store),
    revision: revisionOf(store),
    revisionAtStart: revisionOf(store),
    orders: 0,
    // Versions of an earlier run are lower, whatever that run had reached.
    mapVersion: record.term * VERSIONS_PER_TERM,
    map: null,
    routes: NO_ROUTES,
    liveHosts: new Map(),
    liveVms: new Map(),
    liveMigrations: new Map(),
    liveVolumes: new Map(),
    unknownBefore: new Set(
      store.entries('volumes/').flatMap(([, value]) => {
        const { name, unsure, generationOwed } = value as unknown as VolumeRecord
        return unsure || generationOwed.length > 0 ? [name] : []
      }),
    ),
    since: new Map(),
    outstanding: new Map(),
    changes: 1,
    copied: new Map(),
    copying: new Map(),
  }
  const defaults = defaultsOf(record.settings)
  for (const table of RECORD_TABLES) {
    const records = state[table] as Map<string, unknown>
    for (const [key, value] of store.entries(`${table}/`)) {
      records.set(key.slice(table.length + 1), { ...defaults[table], ...(value as object) })
    }
  }
  completeRecords(state)
  boundQuarantines(state)
  return state
}

/** Storages that are configured no more, hold nothing of a volume and need not acknowledge a fence: nobody is to wait for them. */
function leftStorages(store: Store, storages: readonly StorageRecord[]): string[] {
  const configured = new Set(storages.map(({ name }) => name))
  const held = store.entries('volumes/').flatMap(([, value]) => {
    // What it has of former legs stays there: nobody is to wait until it is deleted.
    return (value as unknown as VolumeRecord).legs.map(({ storage }) => storage)
  })
  const awaited = store.entries('hosts/').flatMap(([, value]) => {
    const { fence } = value as unknown as HostRecord
    return fence?.needed.filter(name => !fence.acknowledged.includes(name)) ?? []
  })
  const names = store.entries('storages/').map(([key]) => key.slice('storages/'.length))
  return names.filter(name => !configured.has(name) && !held.includes(name) && !awaited.includes(name))
}

/** A storage that is new here, or was a plain NBD server until now, knows none of the hosts that were admitted without it. */
function oweEpochs(store: Store, storages: readonly StorageRecord[], left: readonly string[]): StoreChange[] {
  const fresh = storages.filter(({ name, external }) => {
    const before = store.get(`storages/${name}`) as unknown as StorageRecord | undefined
    return external === undefined && (before === undefined || before.external !== undefined)
  })
  if (fresh.length === 0 && left.length === 0) return []
  const changes: StoreChange[] = []
  for (const [key, value] of store.entries('hosts/')) {
    const host = value as unknown as HostRecord
    if (host.phase !== 'admitted' && host.phase !== 'admitting') continue
    const owed = new Set([...host.admitOwed, ...fresh.map(({ name }) => name)])
    const admitOwed = [...owed].filter(name => !left.includes(name)).sort()
    changes.push({ put: key, value: { ...host, admitOwed } as unknown as Json })
  }
  return changes
}

/** Fields that records of an earlier state lack. */
function defaultsOf(settings: Settings): { readonly [table in RecordTable]?: object } {
  return {
    migrations: { seq: 0 } satisfies Partial<MigrationRecord>,
    hosts: { failures: [], quarantine: null, disabledFabrics: [] } satisfies Partial<HostRecord>,
    volumes: {
      pathPolicy: 'least-queue',
      generationId: null,
      generationOwed: [],
      unsure: false,
      legsMade: 1,
      retired: [],
    } satisfies Partial<VolumeRecord>,
    vms: { ...CLEAN_SLATE, stopGraceMs: 0, restart: defaultPolicy(settings) } satisfies Partial<VmRecord>,
  }
}

/** Fields that parts of records of an earlier state lack. */
function completeRecords(state: CoordinatorState): void {
  const leg = { index: 0, role: 'in-sync', lastInSync: null, lunOwed: false } satisfies Partial<LegRecord>
  for (const [name, volume] of state.volumes) {
    state.volumes.set(name, { ...volume, legs: volume.legs.map(each => ({ ...leg, ...each })) })
  }
  for (const [name, host] of state.hosts) {
    if (host.fence !== null)
      state.hosts.set(name, { ...host, fence: { ...host.fence, volumes: host.fence.volumes ?? [] } })
  }
}

function lastDecision(store: Store): number {
  const last = store.entries('decisions/').at(-1)
  return last === undefined ? 0 : Number(last[0].slice('decisions/'.length))
}
