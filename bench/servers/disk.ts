// An agent's disk path as a process of its own: a LUN over the agent's HBAs, with a CSV disk on it or as it is, served as
// NBD. The volume's owner lives here too; once all extents are mapped it has nothing to do.

import { openLun } from '@stellwerk/agent/hba/lun.ts'
import { LunSessions } from '@stellwerk/agent/hba/lun-sessions.ts'
import { StorageLinks } from '@stellwerk/agent/hba/storage-links.ts'
import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import type { BlockDevice } from '@stellwerk/block/device.ts'
import { openMultipath } from '@stellwerk/block/path/multipath.ts'
import { nbdPath } from '@stellwerk/block/path/nbd-path.ts'
import { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import type { MetadataRanges } from '@stellwerk/csv/format/layout.ts'
import { VolumeOwner } from '@stellwerk/csv/owner/volume-owner.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Address } from '@stellwerk/runtime/environment.ts'
import { BENCH_CLUSTER, BENCH_HOST, benchIdentity, config, endWithParent, serverEnvironment } from './config.ts'

export interface DiskServerConfig {
  readonly name: string
  readonly directory: string
  /** Where the disk is served. */
  readonly socket: string
  readonly lun: { readonly name: string; readonly socket: string }
  /** The embedded subsystem's control link; null: a plain NBD server, which knows no epochs. */
  readonly controlSocket: string | null
  /** Null: the LUN as it is. */
  readonly volume: { readonly volumeBytes: number; readonly diskBytes: number } | null
}

const OWNER_EPOCH = 1
const HOST_EPOCH = 1
const LAYOUT_MS = 5_000
const settings = PROFILES.lab

const options = config<DiskServerConfig>()
const env = serverEnvironment(options.name, options.directory)
const portal = local(options.lun.socket)
const identity = benchIdentity(BENCH_HOST)
const links = new StorageLinks({
  env,
  identity,
  hbas: ['local'],
  epoch: () => HOST_EPOCH,
  onReached: () => undefined,
  luns: () => [],
  onBehind: () => undefined,
  onProbed: () => undefined,
  onRefused: (_epoch, why) => fail(why),
})
const access = {
  env,
  host: BENCH_HOST,
  hbas: ['local'],
  links,
  sessions: new LunSessions({ incarnation: 1 }),
  settings,
  redirects: null,
  luns: null,
} as const

const device = options.volume === null ? await openPath(null) : await openDisk(options.volume)
await exportDisk(env, { address: local(options.socket), name: 'disk', device })
endWithParent()

function local(path: string): Address {
  return { network: 'local', host: path, port: 0 }
}

function fail(why: string): never {
  process.stderr.write(`${options.name}: refused by the storage: ${why}\n`)
  process.exit(1)
}

async function openPath(owner: number | null): Promise<BlockDevice> {
  const signal = new AbortController().signal
  if (options.controlSocket !== null) {
    const storage = { name: 'san', portals: [portal], control: [local(options.controlSocket)] }
    links.follow([storage])
    return openLun(access, {
      storage,
      lun: options.lun.name,
      epoch: HOST_EPOCH,
      generation: 0,
      owner,
      signal,
      onRefused: refusal => fail(refusal.message),
    })
  }
  let session = 1
  return openMultipath({
    paths: [
      nbdPath({
        name: 'local/nbd',
        priority: 0,
        network: env.network,
        timers: env.timers,
        address: portal,
        probe: () => Promise.resolve(),
      }),
    ],
    exportName: () => options.lun.name,
    session,
    raiseSession: () => {
      session += 1
      return session
    },
    clock: env.clock,
    timers: env.timers,
    config: { requestDeadlineMs: settings.ioDeadlineMs, probeIntervalMs: settings.heartbeatMs },
    onRefused: refusal => fail(refusal.message),
    signal,
  })
}

async function openDisk({ volumeBytes, diskBytes }: NonNullable<DiskServerConfig['volume']>): Promise<BlockDevice> {
  const legs = [{ id: 'leg-1', device: await openPath(OWNER_EPOCH) }]
  await formatVolume({ legs, volumeId: 'bench', clusterId: BENCH_CLUSTER, volumeBytes })
  const owner = await VolumeOwner.open({
    legs,
    volume: 'csv1',
    ownerEpoch: OWNER_EPOCH,
    env,
    onRanges: registerRanges,
    onEnd: error => fail(error.message),
  })
  const volume = await HostVolume.open({
    volume: 'csv1',
    host: BENCH_HOST,
    hostEpoch: HOST_EPOCH,
    device: await openPath(null),
    owner: (kind, body) => owner.handle(kind, body),
    env,
  })
  await owner.handle('volume.create-disk', { volume: 'csv1', disk: 'disk-1', name: 'disk-1', sizeBytes: diskBytes })
  return CsvDisk.attach({ volume, disk: 'disk-1', vm: 'bench', epoch: 1 })
}

/** As the agent's owner does: only owner connections may write the metadata, and a slot only its host's. */
async function registerRanges(ranges: MetadataRanges): Promise<void> {
  if (options.controlSocket === null) return
  const body = { lun: options.lun.name, ownerEpoch: OWNER_EPOCH, host: BENCH_HOST, epoch: HOST_EPOCH, ...ranges }
  for (;;) {
    try {
      await links.relay('san', 'storage.layout', body, LAYOUT_MS)
      return
    } catch (error) {
      if ((error as { code?: string }).code !== 'no-path') throw error
    }
    // The control link is still being dialled.
    await new Promise<void>(resolve => env.timers.after(20, resolve))
  }
}
