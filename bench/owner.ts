// A whole cluster whose volume's owner is killed: what that costs another host that writes to extents it has.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { exported, until, VOLUME, withCluster } from './lib/cluster.ts'
import { fill, writeTimes } from './lib/fio.ts'
import { type Group, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import { median, row } from './lib/rows.ts'

const MIB = 1024 * 1024
const DISK_BYTES = 64 * MIB
const DISK = 'load'
const OWNER = 'host-b'
const WRITER = 'host-a'
/** Far from what the machine can do with all processes of a cluster on it. */
const IOPS = 500
/** Long enough that one write in a thousand is more than a few. */
const TIMES = { runtimeS: 6, rampS: 1 }
const KILLED_AFTER_MS = 3_000
/** An owner that is killed may cost so much more than the mean of quiet times. */
const ALLOWED_MS = 50

export const owner: Group = {
  name: 'owner',
  about: 'writes of a host to extents it has, while the owner of the volume is killed',
  async run({ rounds, report, progress }) {
    if (!has('fio')) return
    await withServers(async (_servers, directory) => {
      await withCluster(join(directory, 'cluster'), async (api, cluster) => {
        progress('owner: filling a disk')
        const disk = await exported(api, VOLUME, DISK, { sizeBytes: DISK_BYTES, host: WRITER })
        await fill(disk, DISK_BYTES)
        const quiet: number[] = []
        const killed: number[] = []
        for (let round = 1; round <= rounds; round += 1) {
          await owns(api)
          progress(`owner: quiet, round ${round}`)
          quiet.push((await writeTimes(disk, IOPS, DISK_BYTES, TIMES)).mean)
          progress(`owner: killed, round ${round}`)
          const measured = writeTimes(disk, IOPS, DISK_BYTES, TIMES)
          await sleep(KILLED_AFTER_MS)
          process.kill(pidOf(cluster, `${OWNER}/agent`), 'SIGKILL')
          killed.push((await measured).p999)
        }
        const allowed = median(quiet) + ALLOWED_MS
        report(row("owner killed, another host's writes, p99.9", median(killed), 'ms', allowed, 'quiet mean + 50 ms'))
      })
    })
  },
}

async function owns(api: ApiClient): Promise<void> {
  await until(`${OWNER} owns ${VOLUME}`, async () => {
    const { hosts, volumes } = await api.status()
    const volume = volumes[VOLUME]
    if (volume?.state !== 'serving' || hosts[OWNER]?.state !== 'up') return null
    if (volume.owner === OWNER) return true
    await api.post(pathOf('volumes', VOLUME, 'own'), { host: OWNER })
    return null
  })
}

function pidOf(directory: string, name: string): number {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(f => f.endsWith('children.json'))
  const children = files.flatMap(
    file => JSON.parse(readFileSync(join(directory, file), 'utf8')) as { name: string; pid: number }[],
  )
  const child = children.find(each => each.name === name)
  if (child === undefined) throw new Error(`no process ${name} of the cluster is recorded in ${directory}`)
  return child.pid
}
