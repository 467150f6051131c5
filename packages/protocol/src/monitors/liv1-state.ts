// What must be true of a healed cluster besides its VMs' progress, said of one `cluster.inspected` record: the part of
// LIV1 that looks at a state instead of at events. It names what is wrong, and judges no times.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { field, malformed } from './monitor.ts'

/** What the inspection lists; every entry is of things that are up, or of what the coordinator has on record. */
interface Inspected {
  readonly hosts: { readonly host: string; readonly epoch: number; readonly stands: string; readonly agent: string }
  readonly volumes: {
    readonly volume: string
    readonly owner: string | null
    readonly acts: string
    /** What each leg is; not told: one leg, which is all there is. */
    readonly legs?: { readonly [leg: string]: string }
  }
  readonly vms: {
    readonly vm: string
    readonly desired: string
    readonly host: string | null
    readonly epoch: number
    readonly phase: string
  }
  readonly machines: { readonly host: string; readonly vm: string; readonly epoch: number; readonly state: string }
  readonly migrations: { readonly migration: string; readonly vm: string; readonly phase: string }
  readonly disks: {
    readonly volume: string
    readonly disk: string
    /** The VM that it belongs to; null: to none that is known. */
    readonly vm: string | null
    readonly holder: { readonly host: string; readonly epoch: number } | null
    readonly reserved: { readonly host: string; readonly epoch: number } | null
  }
  readonly paths: { readonly host: string; readonly path: string; readonly state: string }
}

type Listed<K extends keyof Inspected> = readonly Inspected[K][]

/** All that is wrong, in words; empty: the cluster has healed. */
export function unhealed(record: TraceRecord): string[] {
  const vms = list(record, 'vms')
  return [
    ...list(record, 'hosts')
      .filter(({ stands }) => stands !== 'up')
      .map(({ host, stands }) => `host ${host} is ${stands}`),
    ...list(record, 'hosts')
      .filter(({ agent }) => agent !== 'admitted')
      .map(({ host, agent }) => `the agent of ${host} is ${agent}`),
    ...list(record, 'volumes')
      .filter(({ acts }) => acts !== 'yes')
      .map(({ volume, owner, acts }) => `volume ${volume}: its owner (${owner ?? 'none'}) ${acts}`),
    ...list(record, 'volumes').flatMap(({ volume, legs = {} }) =>
      Object.entries(legs)
        .filter(([, role]) => role !== 'in-sync')
        .map(([leg, role]) => `volume ${volume}: ${leg} is ${role}`),
    ),
    ...vms.flatMap(notAsDesired),
    ...list(record, 'machines')
      .filter(machine => !belongs(machine, vms))
      .map(({ host, vm, epoch, state }) => `host ${host} still has VM ${vm} at placement epoch ${epoch}, ${state}`),
    ...vms
      .filter(
        vm =>
          vm.host !== null && !list(record, 'machines').some(machine => machine.vm === vm.vm && belongs(machine, vms)),
      )
      .map(({ vm, host, epoch }) => `VM ${vm} does not run on ${host} at placement epoch ${epoch}`),
    ...list(record, 'migrations').map(
      ({ migration, vm, phase }) => `migration ${migration} of ${vm} is still ${phase}`,
    ),
    ...list(record, 'disks').flatMap(disk => wronglyAttached(disk, vms)),
    ...list(record, 'paths')
      .filter(({ state }) => state !== 'up')
      .map(({ host, path, state }) => `path ${path} of ${host} is ${state}`),
  ]
}

function notAsDesired({ vm, desired, host, phase }: Inspected['vms']): string[] {
  switch (desired) {
    case 'running':
      return host !== null && phase === 'running'
        ? []
        : [`VM ${vm} should run and is ${host === null ? 'nowhere' : phase}`]
    case 'stopped':
      return host === null ? [] : [`VM ${vm} should stand still and is ${phase} on ${host}`]
    default:
      return [`VM ${vm} is ${desired} and still on record`]
  }
}

function belongs({ host, vm, epoch, state }: Inspected['machines'], vms: Listed<'vms'>): boolean {
  return state === 'running' && vms.some(each => each.vm === vm && each.host === host && each.epoch === epoch)
}

function wronglyAttached({ volume, disk, vm, holder, reserved }: Inspected['disks'], vms: Listed<'vms'>): string[] {
  const where = `disk ${disk} on ${volume}`
  const of = vms.find(each => each.vm === vm)
  if (of === undefined) return [`${where} belongs to no VM`]
  const wrong: string[] = []
  if (holder?.host !== (of.host ?? undefined) || (holder !== null && holder.epoch !== of.epoch)) {
    const at = holder === null ? 'nowhere' : `to ${holder.host} at epoch ${holder.epoch}`
    const runs = of.host === null ? 'nowhere' : `on ${of.host} at epoch ${of.epoch}`
    wrong.push(`${where} is attached ${at}, its VM ${of.vm} runs ${runs}`)
  }
  if (reserved !== null) wrong.push(`${where} is still reserved for ${reserved.host} at epoch ${reserved.epoch}`)
  return wrong
}

function list<K extends keyof Inspected>(record: TraceRecord, key: K): Listed<K> {
  const value = field(record, key)
  if (!Array.isArray(value)) throw malformed(record, `the list \`${key}\``)
  return value as unknown as Listed<K>
}
