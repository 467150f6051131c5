// An agent's disk path as a process of its own: a LUN over the agent's HBAs, with a CSV disk on it or as it is, served as
// NBD. The volume's owner lives here too; once all extents are mapped it has nothing to do.

import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import type { BlockDevice } from '@stellwerk/block/device.ts'
import { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import { VolumeOwner } from '@stellwerk/csv/owner/volume-owner.ts'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'
import { BENCH_CLUSTER, BENCH_HOST, config, endWithParent, serverEnvironment } from './config.ts'
import { type BenchLun, HOST_EPOCH, LunPaths, local } from './lun-paths.ts'

export interface DiskServerConfig {
  readonly name: string
  readonly directory: string
  /** Where the disk is served. */
  readonly socket: string
  readonly lun: BenchLun
  /** Null: the LUN as it is. */
  readonly volume: { readonly volumeBytes: number; readonly diskBytes: number } | null
  readonly trace?: TraceLevel
}

const OWNER_EPOCH = 1

const options = config<DiskServerConfig>()
const env = serverEnvironment(options.name, options.directory, options)
const paths = new LunPaths(env, [options.lun], fail)
const device = options.volume === null ? await openPath(null) : await openDisk(options.volume)
await exportDisk(env, { address: local(options.socket), name: 'disk', device })
endWithParent()

function fail(why: string): never {
  process.stderr.write(`${options.name}: refused by the storage: ${why}\n`)
  process.exit(1)
}

function openPath(owner: number | null): Promise<BlockDevice> {
  return paths.open(options.lun, { owner, onRefused: refusal => fail(refusal.message) })
}

async function openDisk({ volumeBytes, diskBytes }: NonNullable<DiskServerConfig['volume']>): Promise<BlockDevice> {
  const legs = [{ id: 'leg-1', device: await openPath(OWNER_EPOCH) }]
  await formatVolume({ legs, volumeId: 'bench', clusterId: BENCH_CLUSTER, volumeBytes })
  const owner = await VolumeOwner.open({
    legs,
    volume: 'csv1',
    ownerEpoch: OWNER_EPOCH,
    env,
    onRanges: ranges => paths.register(options.lun, OWNER_EPOCH, ranges),
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
