// A cluster of this machine to measure: three hosts, two storages, the volume that `up` makes.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExportView } from '@stellwerk/coordinator/view/schemas.ts'
import { type ApiClient, pathOf } from 'stellwerk/api-client/client.ts'
import { apiOf } from 'stellwerk/cluster/directory.ts'
import type { Target } from './fio.ts'

export const PROGRAM = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'bin', 'stellwerk.js')
/** The volume that it has from the first. */
export const VOLUME = 'csv1'
const WAIT_MS = 60_000

/** A cluster of this machine, in the patient profile; it is gone afterwards. */
export async function withCluster(directory: string, work: (api: ApiClient, directory: string) => Promise<void>) {
  const words = ['up', '--supervise', '--profile', 'production', '--dir', directory]
  const up = spawn(process.execPath, [PROGRAM, ...words], { stdio: ['ignore', 'ignore', 'inherit'] })
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

/** A new disk, served by the host. */
export async function exported(
  api: ApiClient,
  volume: string,
  disk: string,
  { sizeBytes, host: by }: { readonly sizeBytes: number; readonly host: string },
): Promise<Target> {
  await api.post(pathOf('volumes', volume, 'disks'), { disk, sizeBytes })
  const path = pathOf('volumes', volume, 'disks', disk, 'export')
  await api.post(path, { readOnly: false, port: 0, host: by })
  const uri = await until('the disk is exported', async () => ((await api.get(path)) as ExportView).uri)
  const { host, pathname } = new URL(uri)
  return { name: 'disk', socket: host, exportName: pathname.slice(1), offsetBytes: 0 }
}

/** What `look` finds, once it finds something. What fails on the way may yet come. */
export async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
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
