// What a cluster in containers is given to do at its first start: a volume on both storages, and self-checking guests. What an
// operator made of it since stays.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import type { ApiClient } from '../api-client/client.ts'
import { createGuests, type FirstGuest, GUESTS, VOLUME } from '../cluster/first-use.ts'
import type { LedgerGuest } from '../images/ledger-guest.ts'

const VOLUME_BYTES = 2 * GIB
const DISK_BYTES = 256 * MIB
const PARAMETERS = { dirtyMiBPerSecond: 1, writesPerSecond: 10, workingSetMiB: 4 }
const SIZES: { readonly [hypervisor in LedgerGuest['hypervisor']]: FirstGuest } = {
  wasm: { memoryBytes: 16 * MIB, diskBytes: DISK_BYTES, parameters: PARAMETERS },
  // Two hosts of three have room for all of them.
  qemu: { memoryBytes: 96 * MIB, diskBytes: DISK_BYTES, parameters: PARAMETERS },
}
const POLL_MS = 500

export interface FirstUse {
  readonly api: Pick<ApiClient, 'status' | 'post'>
  readonly guest: LedgerGuest
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
  readonly timeoutMs: number
  readonly log: (message: string) => void
}

/** Resolves when every VM that is to run does. Rejects with `not-healthy`, which says what is missing. */
export async function firstUse({ api, guest, now, sleep, timeoutMs, log }: FirstUse): Promise<void> {
  const until = now() + timeoutMs
  let missing = 'the coordinator does not answer'
  while (now() < until) {
    try {
      const next = await advance(api, guest, await api.status())
      if (next === null) return
      if (next !== missing) log(next)
      missing = next
    } catch (error) {
      missing = errorMessage(error)
    }
    await sleep(POLL_MS)
  }
  throw new StellwerkError('not-healthy', `after ${timeoutMs / 1000} s: ${missing}`, { hint: 'see: stellwerk status' })
}

/** The next step, if it can be made; what is waited for; null: nothing is missing. */
async function advance(api: FirstUse['api'], guest: LedgerGuest, status: Status): Promise<string | null> {
  const hosts = Object.values(status.hosts).filter(host => host.state === 'up')
  const volumes = Object.values(status.volumes)
  const storages = Object.keys(status.storages)
  if (volumes.length === 0) {
    const reaching = hosts.filter(host => storages.every(storage => host.storages.includes(storage)))
    if (reaching.length < GUESTS) return `${reaching.length} of ${GUESTS} hosts are up and reach the storages`
    await api.post('/v1/volumes', { name: VOLUME, sizeBytes: VOLUME_BYTES, storages })
    return `volume ${VOLUME} is being made on ${storages.join(' and ')}`
  }
  const closed = volumes.find(volume => volume.state !== 'serving')
  if (closed !== undefined) return `volume ${closed.name} is ${closed.state}`
  const vms = Object.values(status.vms)
  if (vms.length === 0) {
    const without = guest.hypervisor === 'qemu' ? hosts.find(host => host.whyNoQemu !== null) : undefined
    if (without !== undefined) return `QEMU on ${without.name}: ${without.whyNoQemu}`
    const names = hosts.map(host => host.name)
    await createGuests(api, names, SIZES[guest.hypervisor], guest)
    return `${GUESTS} guests are being started`
  }
  const late = vms.find(vm => vm.desired === 'running' && vm.state !== 'running')
  return late === undefined ? null : `${late.name} is ${late.state}${late.whyNot === null ? '' : `: ${late.whyNot}`}`
}
