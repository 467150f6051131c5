// What a cluster that was just started is given to do: a volume, and guests that check themselves, spread over the hosts.

import { answers } from '@stellwerk/coordinator/view/hosts.ts'
import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { describeError, errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import type { ApiClient } from '../api-client/client.ts'
import { EMBEDDED, type GuestChoice, type LedgerGuest, ledgerGuest } from '../images/ledger-guest.ts'
import type { LocalCluster } from './local-cluster.ts'

export const VOLUME = 'csv1'
const VOLUME_BYTES = 4 * GIB
export const GUESTS = 3
const DISK_BYTES = 512 * MIB
const SIZES: { readonly [hypervisor in GuestChoice['hypervisor']]: FirstGuest } = {
  wasm: {
    memoryBytes: 32 * MIB,
    diskBytes: DISK_BYTES,
    parameters: { dirtyMiBPerSecond: 2, writesPerSecond: 20, workingSetMiB: 16 },
  },
  // Where software runs its processor each has a small part of one of ours.
  qemu: {
    memoryBytes: 128 * MIB,
    diskBytes: DISK_BYTES,
    parameters: { dirtyMiBPerSecond: 2, writesPerSecond: 10, workingSetMiB: 8 },
  },
}
const HEALTHY_MS = 60_000
/** So long the rest of a cluster waits for a host of it. VMs may have old leases to wait out, and get all of the time. */
export const HOST_MS = 30_000
/** Hosts look for QEMU when they start, and a KVM that hangs is given some seconds. */
const QEMU_MS = 20_000
/** What time does not cure. */
const HOPELESS = new Set(['damaged', 'unreachable'])
const POLL_MS = 50
const LUN_FAILED = 'lun-failed '

/**
 * Every host that was started is up and reaches every storage that was. Gives what is still missing when some are and the
 * others have had their time; rejects with `not-healthy` when none is, or with why its agent can't start. One that has said so
 * is not waited for, unless it is started again.
 */
export function untilHostsUp(cluster: LocalCluster, failed: ReadonlySet<string> = new Set()): Promise<string[]> {
  const wanted = cluster.file.hosts.map(host => host.name).filter(name => !failed.has(name))
  const storages = cluster.file.storages.map(({ name }) => name).filter(name => !failed.has(name))
  return until(cluster, status => {
    const away = wanted.filter(name => !answers(status.hosts[name]?.state))
    const failures = away.map(name => ({ name, error: cluster.agentFailure(name) }))
    const final = cluster.isSupervised ? [] : failures.flatMap(({ error }) => error ?? [])
    const [first] = final
    if (first !== undefined && final.length === wanted.length) throw first
    const missing: string[] = []
    const hopeless: string[] = []
    for (const { name, error } of failures) {
      const state = status.hosts[name]?.state ?? 'unheard'
      const why = error === null ? `is ${state} (see ${name}/agent/log)` : `did not start: ${describeError(error)}`
      const isFinal = error !== null && final.includes(error)
      const lines = isFinal ? hopeless : missing
      lines.push(`${name} ${why}`)
    }
    // A storage that says that it can't serve a LUN is reached; of that its volume tells.
    const paths = Object.values(status.paths).filter(path => path.state === 'up' || path.why.startsWith(LUN_FAILED))
    for (const host of wanted) {
      if (away.includes(host)) continue
      for (const storage of storages) {
        const reaches = paths.some(path => path.host === host && path.storage === storage)
        if (!reaches) missing.push(`${host} does not reach ${storage}`)
      }
    }
    return { missing, hopeless, enoughMs: away.length < wanted.length ? HOST_MS : null }
  })
}

/** Gives the volumes that do not serve, each with why. */
export async function ensureVolume(cluster: LocalCluster): Promise<string[]> {
  const { volumes } = await cluster.api.status()
  if (Object.keys(volumes).length === 0) {
    await cluster.api.post('/v1/volumes', { name: VOLUME, sizeBytes: VOLUME_BYTES })
  }
  const tell = (all: Status['volumes']) =>
    Object.values(all)
      .filter(volume => volume.state !== 'serving')
      .map(({ name, state, whyNot }) => `volume ${name} is ${state}${whyNot === null ? '' : `: ${whyNot}`}`)
  return until(cluster, ({ volumes }) => {
    const lost = Object.entries(volumes).filter(([, { state }]) => HOPELESS.has(state))
    const hopeless = tell(Object.fromEntries(lost))
    const missing = tell(volumes).filter(line => !hopeless.includes(line))
    return { missing, hopeless, enoughMs: HEALTHY_MS }
  })
}

/**
 * Only where there are no VMs at all: what an operator made of them stays. Gives why there are none where real machines can't
 * be made here.
 */
export async function ensureGuests(cluster: LocalCluster, choice: GuestChoice): Promise<string[]> {
  const { vms } = await cluster.api.status()
  if (Object.keys(vms).length > 0) return []
  const hosts = cluster.file.hosts.map(host => host.name)
  const { hypervisor } = choice
  if (hypervisor === 'wasm') {
    await createGuests(cluster.api, hosts, SIZES.wasm, EMBEDDED)
    return []
  }
  const missing = await untilQemuRuns(cluster)
  if (missing.length > 0) return missing
  try {
    await createGuests(cluster.api, hosts, SIZES.qemu, await ledgerGuest(choice, cluster.env.processes))
    return []
  } catch (error) {
    if (!(error instanceof StellwerkError)) throw error
    return [`not all guests are made: ${describeError(error)}`]
  }
}

/** Every host has looked for QEMU and found that it runs machines. Gives the hosts where it does not, each with why. */
export function untilQemuRuns(cluster: LocalCluster): Promise<string[]> {
  return until(cluster, ({ hosts }) => ({
    missing: Object.values(hosts)
      .filter(({ state, whyNoQemu }) => answers(state) && whyNoQemu !== null)
      .map(({ name, whyNoQemu }) => `QEMU on ${name}: ${whyNoQemu}`),
    enoughMs: QEMU_MS,
  }))
}

export interface FirstGuest {
  readonly memoryBytes: number
  readonly diskBytes: number
  readonly parameters: { readonly [name: string]: number }
}

/** Guests that check themselves, on the first volume, one host after the other. */
export async function createGuests(
  api: Pick<ApiClient, 'post'>,
  hosts: readonly string[],
  { memoryBytes, diskBytes, parameters }: FirstGuest,
  ledger: LedgerGuest,
): Promise<void> {
  for (let i = 0; i < GUESTS; i++) {
    await api.post('/v1/vms', {
      name: `ledger-${i + 1}`,
      ...ledger,
      memoryBytes,
      parameters,
      disks: [{ volume: VOLUME, sizeBytes: diskBytes }],
      host: hosts[i % hosts.length] ?? null,
    })
  }
}

/** Every VM that is to run does, but for those whose volume does not serve. Gives those that are late. */
export function untilGuestsRun(cluster: LocalCluster): Promise<string[]> {
  return until(cluster, status => {
    const waiting = Object.values(status.vms)
      .filter(vm => vm.desired === 'running' && vm.state !== 'running')
      .filter(vm => vm.disks.every(({ volume }) => !HOPELESS.has(status.volumes[volume]?.state ?? '')))
    return {
      missing: waiting.map(vm => `${vm.name} is ${vm.state}${vm.whyNot === null ? '' : ` (${vm.whyNot})`}`),
      enoughMs: HEALTHY_MS,
    }
  })
}

/** For those who need all of it: throws what is missing. */
export function demandAll(missing: readonly string[]): void {
  if (missing.length > 0) throw new StellwerkError('not-healthy', missing.join(', '), { hint: 'see the logs' })
}

interface Look {
  /** What is still to come. */
  readonly missing: string[]
  /** What time does not cure: it is missing too, but not waited for. */
  readonly hopeless?: string[]
  /** The rest is of use without it, and goes on after so long; null: it is not. */
  readonly enoughMs: number | null
}

async function until(cluster: LocalCluster, look: (status: Status) => Look): Promise<string[]> {
  const startedAt = cluster.env.clock.now()
  let why: Look = { missing: ['nothing was heard yet'], enoughMs: null }
  while (why.missing.length > 0) {
    if (cluster.failure !== null) throw cluster.failure
    if (cluster.isStopping) throw new StellwerkError('stopping', 'the cluster is being stopped')
    const waitedMs = cluster.env.clock.now() - startedAt
    if (why.enoughMs !== null && waitedMs > why.enoughMs) return all(why)
    if (waitedMs > HEALTHY_MS) {
      throw new StellwerkError('not-healthy', `after ${HEALTHY_MS / 1000} s: ${all(why).join(', ')}`, {
        where: cluster.api.address.host,
        hint: 'see: npx stellwerk status; and the logs in the cluster’s directory',
      })
    }
    try {
      why = look(await cluster.api.status())
    } catch (error) {
      if (cluster.failure !== null) throw cluster.failure
      if (errorCode(error) !== 'coordinator-away') throw error
      why = { missing: ['the coordinator does not answer yet'], enoughMs: null }
    }
    if (why.missing.length > 0) await cluster.sleep(POLL_MS)
  }
  return all(why)
}

function all({ hopeless = [], missing }: Look): string[] {
  return [...hopeless, ...missing]
}
