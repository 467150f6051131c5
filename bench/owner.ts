// A whole cluster whose volume's owner is killed: what that costs another host that writes to extents it has.

import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import { fill, type Target, writeTimes } from './lib/fio.ts'
import { type Group, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import { median, row } from './lib/rows.ts'

const MIB = 1024 * 1024
const DISK_BYTES = 64 * MIB
const VOLUME = 'csv1'
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
const WAIT_MS = 60_000

export const owner: Group = {
  name: 'owner',
  about: 'writes of a host to extents it has, while the owner of the volume is killed',
  async run({ rounds, report, progress }) {
    if (!has('fio')) return
    await withServers(async (_servers, directory) => {
      await withCluster(join(directory, 'cluster'), async (api, cluster) => {
        progress('owner: filling a disk')
        const disk = await exported(api)
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

/** A cluster of this machine, in the patient profile; it is gone afterwards. */
async function withCluster(directory: string, work: (api: ApiClient, directory: string) => Promise<void>) {
  const program = join(import.meta.dirname, '..', 'packages', 'cli', 'bin', 'stellwerk.js')
  const words = ['up', '--supervise', '--profile', 'production', '--dir', directory]
  const up = spawn(process.execPath, [program, ...words], { stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = new Promise(resolve => up.once('exit', resolve))
  try {
    const api = await until('the cluster serves', async () => {
      const found = await apiOf(directory)
      const { hosts, volumes } = await found.status()
      const up = Object.values(hosts).filter(({ state }) => state === 'up')
      return up.length === 3 && volumes[VOLUME]?.state === 'serving' ? found : null
    })
    await work(api, directory)
  } finally {
    up.kill('SIGINT')
    await gone
  }
}

async function exported(api: ApiClient): Promise<Target> {
  await api.post(pathOf('volumes', VOLUME, 'disks'), { disk: DISK, sizeBytes: DISK_BYTES })
  const path = pathOf('volumes', VOLUME, 'disks', DISK, 'export')
  await api.post(path, { readOnly: false, port: 0, host: WRITER })
  const uri = await until('the disk is exported', async () => ((await api.get(path)) as ExportView).uri)
  const { host, pathname } = new URL(uri)
  return { name: 'disk', socket: host, exportName: pathname.slice(1), offsetBytes: 0 }
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

/** What \`look\` finds, once it finds something. What fails on the way may yet come. */
async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  let last: unknown = null
  for (let waited = 0; waited < WAIT_MS; waited += 100) {
    const found = await look().catch((error: unknown) => {
      last = error
      return null
    })
    if (found !== null) return found
    await sleep(100)
  }
  throw new Error(`not within ${WAIT_MS} ms: ${what}`, { cause: last })
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
