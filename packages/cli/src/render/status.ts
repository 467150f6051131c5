// The cluster's status as lines for a terminal: first what can be lost, then hosts, VMs, volumes.

import type { ClusterEvent, Status } from '@stellwerk/coordinator/view/schemas.ts'
import { formatTime } from '@stellwerk/protocol/trace/format-line.ts'
import { accessPhrase } from './storage-phrases.ts'
import { textOf } from './styled.ts'
import { hostTable, vmTable, volumeTable } from './tables.ts'

export function statusLines(status: Status): string[] {
  const lines = [status.canLose.summary, ...warnings(status)]
  lines.push('', ...hostLines(status))
  if (Object.keys(status.vms).length > 0) lines.push('', ...vmLines(status))
  if (Object.keys(status.volumes).length > 0) lines.push('', ...volumeLines(status))
  const redirected = redirections(status)
  if (redirected.length > 0) lines.push('', ...redirected)
  const failed = Object.entries(status.paths).filter(
    ([, path]) => path.state === 'failed' && path.fabric !== 'redirected',
  )
  if (failed.length > 0) lines.push('', `failed paths: ${failed.map(([name]) => name).join(', ')}`)
  return lines
}

/** What is not well although all runs. */
export function warnings(status: Status): string[] {
  const lines = status.cluster.undecided === null ? [] : [`warning: ${status.cluster.undecided}`]
  for (const { name, warning } of Object.values(status.volumes)) {
    if (warning !== null) lines.push(`warning: volume ${name} is ${warning}`)
  }
  for (const { name, warning, volumes } of Object.values(status.storages)) {
    if (warning !== null && volumes.length > 0) {
      lines.push(`warning: storage ${name} (${volumes.join(', ')}) has ${warning}`)
    }
  }
  if (status.cluster.halted) lines.push('the cluster is being halted: nothing is to run')
  return lines
}

/** Hosts that reach a volume over a peer, or not at all for the moment. */
export function redirections(status: Pick<Status, 'hosts'>): string[] {
  return Object.values(status.hosts).flatMap(host =>
    host.access
      .filter(({ state }) => state === 'redirected' || state === 'paused')
      .map(access => `${host.name}: volume ${access.volume} is ${accessPhrase(access)}`),
  )
}

export function hostLines(status: Pick<Status, 'hosts' | 'paths'>): string[] {
  return hostTable(status).map(textOf)
}

export function vmLines(status: Pick<Status, 'vms'>): string[] {
  return vmTable(status).map(textOf)
}

export function volumeLines(status: Pick<Status, 'volumes'>): string[] {
  return volumeTable(status).map(textOf)
}

export function eventLine(event: ClusterEvent): string {
  return `${formatTime(event.wallMs)}  ${event.text}`
}
