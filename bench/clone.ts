// A whole cluster with a disk of 10 GiB all of whose extents are allocated: how long the clone of a snapshot of it takes.

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { exported, PROGRAM, until, withCluster } from './lib/cluster.ts'
import { touch } from './lib/fio.ts'
import { type Group, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import { median, row } from './lib/rows.ts'

const run = promisify(execFile)
const GIB = 1024 ** 3
const EXTENT_BYTES = 4 * 1024 * 1024
const DISK_BYTES = 10 * GIB
const VOLUME_BYTES = 12 * GIB
const VOLUME = 'large'
const DISK = 'full'
const SNAPSHOT = 'golden'
const HOST = 'host-a'
const LIMIT_MS = 1_000

export const clone: Group = {
  name: 'clone',
  about: 'the clone of a disk of 10 GiB, all of it allocated',
  async run({ rounds, report, progress }) {
    if (!has('fio')) return
    await withServers(async (_servers, directory) => {
      await withCluster(join(directory, 'cluster'), async (api, cluster) => {
        progress('clone: allocating a disk')
        await allocated(api)
        await api.post(pathOf('volumes', VOLUME, 'disks', DISK, 'snapshots'), { name: SNAPSHOT })
        const asked: number[] = []
        const typed: number[] = []
        for (let round = 1; round <= rounds; round += 1) {
          progress(`clone: round ${round}`)
          asked.push(
            await timed(() =>
              api.post(pathOf('volumes', VOLUME, 'disks', SNAPSHOT, 'clones'), { name: `asked-${round}` }),
            ),
          )
          const words = ['disk', 'clone', VOLUME, SNAPSHOT, `typed-${round}`, '--dir', cluster]
          typed.push(await timed(() => run(process.execPath, [PROGRAM, ...words])))
        }
        report(row('clone of a full disk of 10 GiB, by the API', median(asked), 'ms', LIMIT_MS, 'limit'))
        report(row('clone of a full disk of 10 GiB, the whole command', median(typed), 'ms', LIMIT_MS, 'limit'))
      })
    })
  },
}

/** A block of each extent is written: none of them is left to be allocated, and a clone's work does not depend on what they hold. */
async function allocated(api: ApiClient): Promise<void> {
  await api.post(pathOf('volumes'), { name: VOLUME, sizeBytes: VOLUME_BYTES })
  await until('the volume is served', async () => (await api.status()).volumes[VOLUME]?.state === 'serving' || null)
  await touch(await exported(api, VOLUME, DISK, { sizeBytes: DISK_BYTES, host: HOST }), DISK_BYTES, EXTENT_BYTES)
  const [disk] = (await api.get(pathOf('volumes', VOLUME, 'disks'))) as DiskInfo[]
  if (disk?.allocatedBytes !== DISK_BYTES) throw new Error(`of the disk ${disk?.allocatedBytes} bytes are allocated`)
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}
