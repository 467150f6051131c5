// The times and limits of a cluster, one table, by profile. Coordinator and agents share it: the agents get it in `welcome`.

import { type Static, Type } from './schema/typebox.js'

const ms = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum })

/** All times in milliseconds. `live` names those that may change while the cluster runs (a lease only upwards). */
export const SettingsSchema = Type.Object(
  {
    /** An agent beats to the coordinator and its peers, and probes its paths, this often. */
    heartbeatMs: ms(50, 10_000),
    /** How long a granted lease, the coordinator's or a storage's, lets a host run machines. */
    leaseMs: ms(500, 120_000),
    /** How much two hosts' clocks may differ in speed, as a fraction. */
    drift: Type.Number({ minimum: 0, maximum: 0.1 }),
    /** Missed beats after which a host is suspect. */
    suspectBeats: Type.Integer({ minimum: 2, maximum: 20 }),
    /** How long a host that storage still sees, but nobody else does, is left alone before it is fenced. */
    isolatedMs: ms(1_000, 3_600_000),
    /** A request on a path with failing probes fails the path after this. */
    ioDeadlineMs: ms(100, 60_000),
    /** A leg that is away, or slower, for so long while another in-sync one serves is given up until it is resynced. */
    legDeadlineMs: ms(200, 600_000),
    /** A leg whose storage answers again for so long is resynced by itself; longer after each try that failed. */
    resyncAfterMs: ms(100, 86_400_000),
    /** What a host, and a volume's owner, copies a second at most while guests are at work. */
    resyncBytesPerSecond: Type.Integer({ minimum: 65_536, maximum: 1_099_511_627_776 }),
    /** What an order or question between processes may take before it is asked again. */
    requestMs: ms(100, 60_000),
    /** A migration's preparation, its pre-copy, and its switch-over may take this long each. */
    prepareMs: ms(500, 600_000),
    precopyMs: ms(1_000, 86_400_000),
    switchMs: ms(500, 600_000),
    /** The pause a migration aims at. */
    downtimeMs: ms(1, 60_000),
    /** Migrations a host takes part in at the same time. */
    migrationsPerHost: Type.Integer({ minimum: 1, maximum: 16 }),
    /** Ended migrations that are remembered; those of which a side has yet to be told come on top. */
    migrationsKept: Type.Integer({ minimum: 0, maximum: 10_000 }),
    /** A guest that is asked to shut down has so long for it, unless told otherwise; then it is killed. */
    stopTimeoutMs: ms(0, 3_600_000),
    /** What VMs get that are defined without a restart policy of their own: see the coordinator's restart-policy.ts. */
    restartsMax: Type.Integer({ minimum: 0, maximum: 100 }),
    restartWindowMs: ms(10, 604_800_000),
    restartBackoffMs: ms(10, 600_000),
    restartBackoffMaxMs: ms(10, 604_800_000),
    /** A host that fails so often within `quarantineWindowMs` gets no VMs for `quarantineMs`. */
    quarantineFailures: Type.Integer({ minimum: 2, maximum: 32 }),
    quarantineWindowMs: ms(1_000, 86_400_000),
    quarantineMs: ms(1_000, 604_800_000),
    /** After its start the coordinator waits so long for hosts it knows to report, before it places the first VMs. */
    startGraceMs: ms(0, 600_000),
  },
  { additionalProperties: false },
)

export type Settings = Static<typeof SettingsSchema>

export type Profile = 'lab' | 'production'

export const PROFILES: { readonly [profile in Profile]: Settings } = {
  lab: {
    heartbeatMs: 500,
    leaseMs: 3_000,
    drift: 0.01,
    suspectBeats: 3,
    isolatedMs: 30_000,
    ioDeadlineMs: 2_000,
    legDeadlineMs: 4_000,
    resyncAfterMs: 1_000,
    resyncBytesPerSecond: 67_108_864,
    requestMs: 2_000,
    prepareMs: 10_000,
    precopyMs: 120_000,
    switchMs: 10_000,
    downtimeMs: 50,
    migrationsPerHost: 2,
    migrationsKept: 200,
    stopTimeoutMs: 5_000,
    restartsMax: 10,
    restartWindowMs: 3_600_000,
    restartBackoffMs: 500,
    restartBackoffMaxMs: 8_000,
    quarantineFailures: 3,
    quarantineWindowMs: 3_600_000,
    quarantineMs: 7_200_000,
    startGraceMs: 3_000,
  },
  production: {
    heartbeatMs: 1_000,
    leaseMs: 15_000,
    drift: 0.01,
    suspectBeats: 3,
    isolatedMs: 300_000,
    ioDeadlineMs: 10_000,
    legDeadlineMs: 15_000,
    resyncAfterMs: 10_000,
    resyncBytesPerSecond: 134_217_728,
    requestMs: 5_000,
    prepareMs: 60_000,
    precopyMs: 3_600_000,
    switchMs: 60_000,
    downtimeMs: 100,
    migrationsPerHost: 2,
    migrationsKept: 200,
    stopTimeoutMs: 60_000,
    restartsMax: 10,
    restartWindowMs: 3_600_000,
    restartBackoffMs: 5_000,
    restartBackoffMaxMs: 80_000,
    quarantineFailures: 3,
    quarantineWindowMs: 3_600_000,
    quarantineMs: 7_200_000,
    startGraceMs: 30_000,
  },
}

/** How long to wait after the last sign of a host before its leases are surely over by its own clock. */
export function leaseWaitMs(settings: Pick<Settings, 'leaseMs' | 'drift'>): number {
  return settings.leaseMs * (1 + 4 * settings.drift)
}
