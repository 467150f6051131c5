// The cluster's status as lines for a terminal: first what can be lost, then hosts, VMs, volumes.

import type { ClusterEvent, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { table } from './table.ts'
import { age, bytes } from './units.ts'

/** What somebody besides the coordinator knows: entries that guests acknowledged. */
export interface Extras {
  readonly acknowledged?: ReadonlyMap<string, number>
}

export function statusLines(status: Status, extras: Extras = {}): string[] {
  const lines = [status.canLose.summary]
  for (const { name, warning } of Object.values(status.volumes)) {
    if (warning !== null) lines.push(`warning: volume ${name} is ${warning}`)
  }
  for (const { name, warning, volumes } of Object.values(status.storages)) {
    if (warning !== null && volumes.length > 0) {
      lines.push(`warning: storage ${name} (${volumes.join(', ')}) has ${warning}`)
    }
  }
  if (status.cluster.halted) lines.push('the cluster is being halted: nothing is to run')
  lines.push('', ...hostLines(status))
  if (Object.keys(status.vms).length > 0) lines.push('', ...vmLines(status, extras))
  if (Object.keys(status.volumes).length > 0) lines.push('', ...volumeLines(status))
  const redirected = Object.values(status.hosts).flatMap(host =>
    host.access
      .filter(({ state }) => state === 'redirected' || state === 'paused')
      .map(access => `${host.name}: volume ${access.volume} is ${accessPhrase(access)}`),
  )
  if (redirected.length > 0) lines.push('', ...redirected)
  const failed = Object.entries(status.paths).filter(
    ([, path]) => path.state === 'failed' && path.fabric !== 'redirected',
  )
  if (failed.length > 0) lines.push('', `failed paths: ${failed.map(([name]) => name).join(', ')}`)
  return lines
}

/** `redirected via host-b to san-a for 12.0 s (fabric-0/san-a: connection reset)`. */
export function accessPhrase(access: Omit<Status['hosts'][string]['access'][number], 'volume'>): string {
  const { state, storage, via, why, sinceMs } = access
  const carried = via === null ? '' : ` via ${via}`
  const since = sinceMs === null ? '' : ` for ${age(sinceMs)}`
  const because = state === 'redirected' || state === 'paused' ? ` (${why})` : ''
  return `${state}${carried} to ${storage}${since}${because}`
}

/** `redirected for 12.0 s, csv1 on san-a (via host-b; no path of its own is up)`. */
export function rungPhrase({
  rung,
  sinceMs,
  volume,
  storage,
  why,
}: NonNullable<Status['vms'][string]['storage']>): string {
  const since = sinceMs === null ? '' : ` for ${age(sinceMs)}`
  const where = volume === null ? '' : `, ${volume} on ${storage}`
  return `${rung}${since}${where}${why === '' || rung === 'direct' ? '' : ` (${why})`}`
}

export function hostLines(status: Pick<Status, 'hosts' | 'paths'>): string[] {
  const rows = Object.values(status.hosts).map(host => {
    const paths = Object.values(status.paths).filter(path => path.host === host.name && path.fabric !== 'redirected')
    const up = paths.filter(path => path.state === 'up').length
    return [
      host.name,
      host.state,
      age(host.ageMs),
      String(host.epoch),
      `${bytes(host.memoryPlacedBytes)} of ${bytes(host.memoryBytes)}`,
      `${up} of ${paths.length}`,
      host.vms.join(' ') || '-',
      host.owns.join(' ') || '-',
      [
        ...(host.quarantine === null ? [] : [`quarantined for ${age(host.quarantine.leftMs)} more`]),
        ...host.disabledFabrics.map(fabric => `${fabric} disabled`),
      ].join(', '),
    ]
  })
  return table(['HOST', 'STATE', 'HEARD', 'EPOCH', 'MEMORY', 'PATHS UP', 'VMS', 'OWNS', ''], rows)
}

export function vmLines(status: Pick<Status, 'vms'>, extras: Extras = {}): string[] {
  const { acknowledged } = extras
  const rows = Object.values(status.vms).map(vm => [
    vm.name,
    vm.state,
    vm.desired,
    vm.host ?? '-',
    String(vm.epoch),
    bytes(vm.memoryBytes),
    ...(acknowledged === undefined ? [] : [String(acknowledged.get(vm.name) ?? '-')]),
    remarkOf(vm),
  ])
  const head = ['VM', 'STATE', 'WANTED', 'HOST', 'EPOCH', 'MEMORY']
  return table([...head, ...(acknowledged === undefined ? [] : ['ENTRIES']), ''], rows)
}

function remarkOf(vm: Status['vms'][string]): string {
  const { migration } = vm
  if (migration !== null) {
    const { round, bytesSent } = migration.statistics as { round?: number; bytesSent?: number }
    const sent = bytesSent === undefined ? '' : `, ${bytes(bytesSent)} sent in ${round ?? 0} rounds`
    return `${migration.phase} to ${migration.to}${sent}`
  }
  const said = vm.whyNot ?? (vm.state === vm.desired ? '' : (vm.why ?? ''))
  if (said !== '' || vm.storage === null || vm.storage.rung === 'direct') return said
  return `storage: ${rungPhrase(vm.storage)}`
}

export function volumeLines(status: Pick<Status, 'volumes'>): string[] {
  const rows = Object.values(status.volumes).map(volume => [
    volume.name,
    volume.state,
    bytes(volume.sizeBytes),
    volume.usage === null ? 'unknown' : `${bytes(volume.usage.usedBytes)} (${age(volume.usage.ageMs)} ago)`,
    volume.owner ?? '-',
    String(volume.ownerEpoch),
    volume.legs.map(leg => `${leg.storage} ${legWord(leg)}`).join(', '),
    remarkOfVolume(volume),
  ])
  return table(['VOLUME', 'STATE', 'SIZE', 'USED', 'OWNER', 'EPOCH', 'LEGS', ''], rows)
}

function remarkOfVolume({ whyNot, recovering, scrub }: Status['volumes'][string]): string {
  if (whyNot !== null) return whyNot
  if (recovering.length > 0) return `recovering what ${recovering.join(', ')} left`
  if (scrub === null) return ''
  if (scrub.state === 'running') return `scrubbing, ${scrub.percent ?? 0} %`
  return scrub.unresolved === 0 ? '' : `its scrub left ${scrub.unresolved} places undecided`
}

export function eventLine(event: ClusterEvent): string {
  return `${formatTime(event.wallMs)}  ${event.text}`
}

/** What one wants to know of a leg at a glance. */
function legWord({ role, state, percent, epochs }: Status['volumes'][string]['legs'][number]): string {
  const known = epochs ? '' : ' (no epochs)'
  if (role === 'syncing') return `resyncing ${percent ?? 0} %${known}`
  return `${role === 'in-sync' ? state : role}${known}`
}
