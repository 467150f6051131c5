// What a cluster that was just started is given to do: a volume, and guests that check themselves, spread over the hosts.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import type { LocalCluster } from './local-cluster.ts'

export const VOLUME = 'csv1'
const VOLUME_BYTES = 4 * GIB
const GUESTS = 3
const GUEST_MEMORY_BYTES = 32 * MIB
const GUEST_DISK_BYTES = 512 * MIB
const GUEST_PARAMETERS = { dirtyMiBPerSecond: 2, writesPerSecond: 20, workingSetMiB: 16 }
const HEALTHY_MS = 60_000
const POLL_MS = 50

/** Every host is up and reaches every storage. Rejects with `not-healthy`, naming what is not. */
export function untilHostsUp(cluster: LocalCluster): Promise<void> {
  const wanted = cluster.file.hosts.map(host => host.name)
  return until(cluster, status => {
    const missing = wanted
      .filter(name => status.hosts[name]?.state !== 'up')
      .map(name => `${name} is ${status.hosts[name]?.state ?? 'unheard'}`)
    const paths = Object.values(status.paths).filter(path => path.state === 'up')
    for (const host of wanted) {
      for (const { name: storage } of cluster.file.storages) {
        const reaches = paths.some(path => path.host === host && path.storage === storage)
        if (!reaches) missing.push(`${host} does not reach ${storage}`)
      }
    }
    return missing.length === 0 ? null : missing.join(', ')
  })
}

export async function ensureVolume(cluster: LocalCluster): Promise<void> {
  const { volumes } = await cluster.api.status()
  if (Object.keys(volumes).length === 0) {
    await cluster.api.post('/v1/volumes', { name: VOLUME, sizeBytes: VOLUME_BYTES })
  }
  await until(cluster, status => {
    const away = Object.values(status.volumes).filter(volume => volume.state !== 'serving')
    return away.length === 0 ? null : away.map(volume => `volume ${volume.name} is ${volume.state}`).join(', ')
  })
}

/** Only where there are no VMs at all: what an operator made of them stays. */
export async function ensureGuests(cluster: LocalCluster): Promise<void> {
  const { vms } = await cluster.api.status()
  if (Object.keys(vms).length === 0) {
    const hosts = cluster.file.hosts.map(host => host.name)
    for (let i = 0; i < GUESTS; i++) {
      await cluster.api.post('/v1/vms', {
        name: `ledger-${i + 1}`,
        guest: 'ledger',
        memoryBytes: GUEST_MEMORY_BYTES,
        parameters: GUEST_PARAMETERS,
        disks: [{ volume: VOLUME, sizeBytes: GUEST_DISK_BYTES }],
        host: hosts[i % hosts.length] ?? null,
      })
    }
  }
}

/** Every VM that is to run does. */
export function untilGuestsRun(cluster: LocalCluster): Promise<void> {
  return until(cluster, status => {
    const waiting = Object.values(status.vms).filter(vm => vm.desired === 'running' && vm.state !== 'running')
    return waiting.length === 0
      ? null
      : waiting.map(vm => `${vm.name} is ${vm.state}${vm.whyNot === null ? '' : ` (${vm.whyNot})`}`).join(', ')
  })
}

/** `missing` says what is still to come, or null. */
async function until(cluster: LocalCluster, missing: (status: Status) => string | null): Promise<void> {
  const deadline = cluster.env.clock.now() + HEALTHY_MS
  let why: string | null = 'nothing was heard yet'
  while (why !== null) {
    if (cluster.failure !== null) throw cluster.failure
    if (cluster.isStopping) throw new StellwerkError('stopping', 'the cluster is being stopped')
    if (cluster.env.clock.now() > deadline) {
      throw new StellwerkError('not-healthy', `after ${HEALTHY_MS / 1000} s: ${why}`, {
        where: cluster.api.address.host,
        hint: 'see: npx stellwerk status; and the logs in the cluster’s directory',
      })
    }
    try {
      why = missing(await cluster.api.status())
    } catch (error) {
      if (cluster.failure !== null) throw cluster.failure
      if (errorCode(error) !== 'coordinator-away') throw error
      why = 'the coordinator does not answer yet'
    }
    if (why !== null) await cluster.sleep(POLL_MS)
  }
}
