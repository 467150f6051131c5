// Hosts, VMs and volumes as tables: a row each, what is to be said of it last. Columns that tell least are left out first where
// there is no room.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { estimate, migrationPhrase } from './progress.ts'
import { rungPhrase } from './storage-phrases.ts'
import { type Line, stateSpan } from './styled.ts'
import { styledTable } from './table.ts'
import { age, bytes } from './units.ts'

/** What somebody besides the coordinator knows: entries that guests acknowledged, and what they complain of. */
export interface Extras {
  readonly acknowledged?: ReadonlyMap<string, number>
  readonly complaints?: readonly string[]
  /** How far migrations are stands elsewhere. */
  readonly moves?: 'apart'
}

export function hostTable(status: Pick<Status, 'hosts' | 'paths'>, columns?: number): Line[] {
  const paths = Object.values(status.paths).filter(({ fabric }) => fabric !== 'redirected')
  const rows = Object.values(status.hosts).map(host => {
    const own = paths.filter(path => path.host === host.name)
    const up = own.filter(path => path.state === 'up').length
    return [
      host.name,
      stateSpan(host.state),
      age(host.ageMs),
      String(host.epoch),
      `${bytes(host.memoryPlacedBytes)} of ${bytes(host.memoryBytes)}`,
      `${up} of ${own.length}`,
      host.vms.join(' ') || '-',
      host.owns.join(' ') || '-',
      remarkOfHost(host),
    ]
  })
  const head = ['HOST', 'STATE', drop('HEARD', 2), drop('EPOCH', 5), drop('MEMORY', 4), 'PATHS UP', drop('VMS', 1)]
  return styledTable([...head, drop('OWNS', 3), ''], rows, columns)
}

function remarkOfHost(host: Status['hosts'][string]): string {
  return [
    ...(host.quarantine === null ? [] : [`quarantined for ${age(host.quarantine.leftMs)} more`]),
    ...host.disabledFabrics.map(fabric => `${fabric} disabled`),
  ].join(', ')
}

export function vmTable(status: Pick<Status, 'vms'>, extras: Extras = {}, columns?: number): Line[] {
  const { acknowledged, moves } = extras
  const rows = Object.values(status.vms).map(vm => [
    vm.name,
    stateSpan(vm.state),
    vm.desired,
    vm.host ?? '-',
    String(vm.epoch),
    bytes(vm.memoryBytes),
    ...(acknowledged === undefined ? [] : [String(acknowledged.get(vm.name) ?? '-')]),
    moves === 'apart' && vm.migration !== null ? `moves to ${vm.migration.to}` : remarkOfVm(vm),
  ])
  const head = ['VM', 'STATE', drop('WANTED', 1), 'HOST', drop('EPOCH', 3), drop('MEMORY', 2)]
  return styledTable([...head, ...(acknowledged === undefined ? [] : ['ENTRIES']), ''], rows, columns)
}

function remarkOfVm(vm: Status['vms'][string]): string {
  if (vm.migration !== null) return migrationPhrase(vm.migration)
  const said = vm.whyNot ?? (vm.state === vm.desired ? '' : (vm.why ?? ''))
  if (said !== '' || vm.storage === null || vm.storage.rung === 'direct') return said
  return `storage: ${rungPhrase(vm.storage)}`
}

export function volumeTable(status: Pick<Status, 'volumes'>, columns?: number): Line[] {
  const rows = Object.values(status.volumes).map(volume => [
    volume.name,
    stateSpan(volume.state),
    bytes(volume.sizeBytes),
    volume.usage === null ? 'unknown' : `${bytes(volume.usage.usedBytes)} (${age(volume.usage.ageMs)} ago)`,
    volume.owner ?? '-',
    String(volume.ownerEpoch),
    volume.legs.map(leg => `${leg.storage} ${legWord(leg)}`).join(', '),
    remarkOfVolume(volume),
  ])
  const head = ['VOLUME', 'STATE', drop('SIZE', 3), drop('USED', 2), 'OWNER', drop('EPOCH', 4), drop('LEGS', 1), '']
  return styledTable(head, rows, columns)
}

function remarkOfVolume({ whyNot, recovering, scrub }: Status['volumes'][string]): string {
  if (whyNot !== null) return whyNot
  if (recovering.length > 0) return `recovering what ${recovering.join(', ')} left`
  if (scrub === null) return ''
  if (scrub.state === 'running') return `scrubbing, ${scrub.percent ?? 0} %`
  return scrub.unresolved === 0 ? '' : `its scrub left ${scrub.unresolved} places undecided`
}

/** What one wants to know of a leg at a glance. */
function legWord({ role, state, percent, resync, epochs }: Status['volumes'][string]['legs'][number]): string {
  const known = epochs ? '' : ' (no epochs)'
  if (role !== 'syncing') return `${role === 'in-sync' ? state : role}${known}`
  const left = estimate(resync?.leftMs ?? null)
  return `resyncing ${percent ?? 0} %${left === '' ? '' : `, ${left}`}${known}`
}

function drop(title: string, rank: number): { readonly title: string; readonly drop: number } {
  return { title, drop: rank }
}
