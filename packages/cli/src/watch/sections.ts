// The parts of the picture, each as lines of its own: what moves, what is not as it should be, and the tables. Pure.

import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import type { AgentsView } from '../cluster/agents-view.ts'
import { bar, copyPhrase, estimate } from '../render/progress.ts'
import { eventLine, redirections, warnings } from '../render/status.ts'
import { type Line, line, type Span, span, stateSpan } from '../render/styled.ts'
import { styledTable } from '../render/table.ts'
import { age, bytes, latency } from '../render/units.ts'
import type { Known } from './known.ts'

const BAR_MOST = 24
const BAR_LEAST = 8

/** VMs on their way, a bar each: `ledger-1  host-a → host-b  precopy  ████░░ 63 %  …`. */
export function migrationLines(status: Status, columns: number): Line[] {
  const migrations = Object.values(status.vms).flatMap(({ migration }) => (migration === null ? [] : [migration]))
  const rows = migrations.map(migration => {
    const { vm, from, to, phase, phaseMs, progress } = migration
    const since = phaseMs === null ? '' : ` ${age(phaseMs)}`
    return [
      span(vm, 'bold'),
      `${from} → ${to}`,
      span(`${phase}${since}`, phase === 'committed' ? 'good' : 'warn'),
      ...barOf(progress?.percent ?? null, columns),
      progress === null ? '' : copyPhrase(progress),
    ]
  })
  return rows.length === 0 ? [] : styledTable(['MOVING', 'FROM → TO', 'PHASE', '', '', ''], rows, columns)
}

/** Legs that catch up or are to, and scrubs. */
export function legLines(status: Status, columns: number): Line[] {
  const rows = Object.values(status.volumes).flatMap(volume => {
    const legs = volume.legs
      .filter(({ role }) => role !== 'in-sync')
      .map(({ storage, role, percent, resync, why }) => [
        span(volume.name, 'bold'),
        storage,
        role === 'syncing' ? span('resyncing', 'warn') : stateSpan(role),
        ...barOf(percent, columns),
        resync === null ? (why ?? '') : resyncPhrase(resync),
      ])
    const { scrub } = volume
    if (scrub?.state !== 'running') return legs
    const found = `${scrub.repaired} repaired, ${scrub.unresolved} undecided, ${scrub.skipped} not compared`
    return [
      ...legs,
      [span(volume.name, 'bold'), '-', span('scrubbing', 'warn'), ...barOf(scrub.percent, columns), found],
    ]
  })
  return rows.length === 0 ? [] : styledTable(['MIRROR', 'LEG', '', '', '', ''], rows, columns)
}

function resyncPhrase(resync: NonNullable<Status['volumes'][string]['legs'][number]['resync']>): string {
  const { copiedBytes, totalBytes, bytesPerSecond, leftMs } = resync
  const speed = bytesPerSecond === 0 ? '' : ` at ${bytes(bytesPerSecond)}/s`
  const left = estimate(leftMs)
  return `${bytes(copiedBytes)} of ${bytes(totalBytes)}${speed}${left === '' ? '' : `, ${left}`}`
}

function barOf(percent: number | null, columns: number): [Span, string] {
  if (percent === null) return [span(''), '']
  const width = Math.max(BAR_LEAST, Math.min(BAR_MOST, Math.floor(columns / 6)))
  return [span(bar(percent, width), 'good'), `${String(percent).padStart(3)} %`]
}

/** Paths that do not serve as they should, and who does without. */
export function pathLines(status: Status, columns: number): Line[] {
  const troubled = Object.entries(status.paths).filter(([, { state, fabric }]) =>
    fabric === 'redirected' ? state === 'up' : state !== 'up',
  )
  const rows = troubled.map(([name, path]) => [
    name,
    path.fabric === 'redirected' ? span('in use', 'warn') : stateSpan(path.state),
    age(path.sinceMs),
    path.latencyMs === null ? '-' : latency(path.latencyMs),
    String(path.queue),
    path.via === null ? path.why : `via ${path.via}${path.why === '' ? '' : `: ${path.why}`}`,
  ])
  const head = ['PATH', 'STATE', 'FOR', { title: 'LATENCY', drop: 2 }, { title: 'IN FLIGHT', drop: 1 }, '']
  return [
    ...(rows.length === 0 ? [] : styledTable(head, rows, columns)),
    ...redirections(status).map(text => line(span(text, 'warn'))),
  ]
}

export function warningLines(status: Status, complaints: readonly string[] = []): Line[] {
  return [...warnings(status).map(text => line(span(text, 'warn'))), ...complaints.map(text => line(span(text, 'bad')))]
}

/** What the agents say while the coordinator is away. */
export function agentLines({ hosts, vms }: AgentsView, columns: number): { hosts: Line[]; vms: Line[] } {
  const hostRows = Object.values(hosts).map(host => [host.name, stateSpan(host.state), host.vms.join(' ') || '-'])
  const sorted = Object.values(vms).sort((a, b) => (a.name < b.name ? -1 : 1))
  const vmRows = sorted.map(vm => [vm.name, stateSpan(vm.state), vm.host])
  return {
    hosts: styledTable(['HOST', 'STATE', 'VMS'], hostRows, columns),
    vms: vmRows.length === 0 ? [] : styledTable(['VM', 'STATE', 'HOST'], vmRows, columns),
  }
}

/** `3 of 3 hosts up · 11 of 12 VMs running · 12 of 12 paths up`. */
export function countsLine({ cluster, hosts, vms, paths }: Status): string {
  const up = Object.values(hosts).filter(({ state }) => state === 'up').length
  const wanted = Object.values(vms).filter(({ desired }) => desired === 'running')
  const running = wanted.filter(({ state }) => state === 'running' || state === 'migrating').length
  const own = Object.values(paths).filter(({ fabric }) => fabric !== 'redirected')
  const upPaths = own.filter(({ state }) => state === 'up').length
  const counts = [
    `${up} of ${Object.keys(hosts).length} hosts up`,
    `${running} of ${wanted.length} VMs running`,
    `${upPaths} of ${own.length} paths up`,
  ]
  return [cluster.name, ...counts, `term ${cluster.term}, up ${age(cluster.uptimeMs)}`].join(' · ')
}

/** Newest last. */
export function eventLines({ events }: Pick<Known, 'events'>): Line[] {
  return events.map(event => line(span(eventLine(event), event.kind.startsWith('decision.') ? 'bold' : 'plain')))
}
