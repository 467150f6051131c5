// One outage as a chart: the host's end as far as others saw it, the fence, the wait, and its VMs' way back; or of one VM alone.

import { leaseWaitMs } from '@stellwerk/protocol/settings.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { CHATTER, type Chart, ChartBuilder, eventText, gather, type Phase, participantsOf } from './chart.ts'
import { endOf, type Failover, type Outage, outagesIn } from './chart-incidents.ts'
import { span } from './chart-text.ts'
import { type KnownSettings, settingsAt } from './cluster-settings.ts'
import type { TraceSource } from './source.ts'

/** Looked at before the first sign, after the end, and how long after it a host that comes back still belongs to it. */
const BEFORE_MS = 2_000
const AFTER_MS = 500
const BACK_WITHIN_MS = 60_000
const LISTED_MAX = 10

/** Said about the host, or to bring its VMs back. */
const ABOUT_HOST = ['guardian.attest', 'storage.fence', 'storage.seen', 'storage.admit']
const ABOUT_VM = ['vm.', 'volume.']
/** How fast it is to be: beyond the lease's end, or from an attested death on. */
const BEYOND_MS = 2_000
/** Once it is suspect: how long storages must not have seen it either, in beats. */
const NO_SIGN_BEATS = 2

export async function outageChart(source: TraceSource, id: string, options: TraceReadOptions): Promise<Chart> {
  const { outage, failovers } = await outageNamed(source, id, options)
  const { host, startMs } = outage
  const vms = failovers.length === 1 ? failovers.map(({ vm }) => vm) : outage.vms
  const settings = await settingsAt(source, startMs)
  const endMs = endOf({ ...outage, failovers })
  const back = outage.backMs !== null && outage.backMs <= (endMs ?? startMs) + BACK_WITHIN_MS ? outage.backMs : null
  const fromMs = Math.min(startMs, outage.heardMs ?? startMs) - BEFORE_MS
  const toMs = Math.max(startMs, outage.fenceMs ?? 0, endMs ?? startMs + BACK_WITHIN_MS, back ?? 0) + AFTER_MS
  const builder = new ChartBuilder(record =>
    record.kind === 'lease.granted' ? `the last lease before: ${host} was heard` : eventText(record, [host]),
  )
  const filter = { levels: ['decision', 'message'] as const, fromMs, toMs }
  await gather(source, { ...options, filter }, builder, (record, byMember) =>
    belongs(record, byMember, outage, new Set(vms)),
  )
  const steps = builder.steps()
  const first = ['coordinator', host, `${host}/guardian`, ...failovers.map(({ to }) => to)]
  return {
    kind: 'outage',
    id,
    title: titleOf(outage, id, failovers),
    outcome: outcomeOf(outage, failovers, endMs),
    startMs: Math.min(startMs, ...steps.map(step => step.atMs)),
    endMs: Math.max(startMs, ...steps.map(step => step.atMs)),
    participants: participantsOf(steps, [...new Set(first)]),
    phases: phasesOf(outage, failovers, settings),
    steps,
    isCut: builder.isCut,
  }
}

/** Throws `unknown-outage`. */
async function outageNamed(source: TraceSource, id: string, options: TraceReadOptions) {
  const outages = await outagesIn(source, options)
  const whole = outages.findLast(outage => outage.id === id)
  if (whole !== undefined) return { outage: whole, failovers: whole.failovers }
  for (const outage of outages.toReversed()) {
    const failovers = outage.failovers.filter(failover => failover.id === id)
    if (failovers.length > 0) return { outage, failovers }
  }
  const known = outages.map(outage => outage.id).slice(-LISTED_MAX)
  throw new StellwerkError('unknown-outage', `there is no outage "${id}" in the trace`, {
    where: '--outage',
    hint: known.length === 0 ? 'it has none' : `see stellwerk trace list --outages; known: ${known.join(', ')}`,
  })
}

function belongs(record: TraceRecord, byMember: boolean, outage: Outage, vms: ReadonlySet<string>): boolean {
  const { kind, host, vm, hlc } = record
  const isLost = vm !== undefined && vms.has(vm)
  if (kind === 'lease.granted') return host === outage.host && hlc.wallMs === outage.heardMs
  if (kind === 'message.sent' || kind === 'message.received') return isPart(record, byMember, outage, isLost)
  if (record.level !== 'decision' || hlc.wallMs < Math.min(outage.startMs, outage.heardMs ?? outage.startMs))
    return false
  if (kind.startsWith('decision.')) {
    const { subject, saw } = record.body as { subject?: string; saw?: object }
    if (subject === outage.host || (subject !== undefined && vms.has(subject))) return true
    return (
      /^decision\.(?:owner|generation)/.test(kind) && (byMember || JSON.stringify(saw).includes(`"${outage.host}"`))
    )
  }
  if (isLost) return /^(?:vm|failover|machine)\./.test(kind)
  return host === outage.host && /^(?:host|process|guardian|storage\.(?:fenced|admitted))/.test(kind)
}

function isPart(record: TraceRecord, byMember: boolean, outage: Outage, isLost: boolean): boolean {
  const { kind, re } = record.body as { kind: string; re?: number }
  const is = (prefixes: readonly string[]) => prefixes.some(prefix => kind.startsWith(prefix))
  if (record.hlc.wallMs < Math.min(outage.startMs, outage.heardMs ?? outage.startMs)) return false
  // Answers, and what is received, are known by what they answer to alone.
  if (byMember && (re !== undefined || record.kind === 'message.received')) return true
  if (is(ABOUT_HOST)) return record.host === outage.host
  if (is(ABOUT_VM) && isLost) return true
  return byMember && !is(CHATTER) && (record.vm === undefined || isLost)
}

function titleOf({ host, epoch }: Outage, id: string, failovers: readonly Failover[]): string {
  const [only] = failovers
  if (only !== undefined && only.id === id) return `failover of ${only.vm} from ${host} (epoch ${epoch}) to ${only.to}`
  return `outage ${id} of ${host}`
}

function outcomeOf(outage: Outage, failovers: readonly Failover[], endMs: number | null): string {
  const { sign, why, fenceMs, startMs, vms } = outage
  if (fenceMs === null) return `${sign}; heard again after ${span((endMs ?? startMs) - startMs)}, nothing was fenced`
  const lost = failovers.length > 0 ? failovers.length : vms.length
  if (lost === 0) return `${why}; no VM was there`
  if (endMs === null) return `${why}; not all of its VMs run again in this trace`
  return `${why}; ${failovers.length} of ${vms.length} VMs ran again ${span(endMs - startMs)} after the first sign`
}

function phasesOf(outage: Outage, failovers: readonly Failover[], settings: KnownSettings | null): Phase[] {
  const { startMs, heardMs, fenceMs, fencedMs } = outage
  if (fenceMs === null) {
    return [{ name: 'away', fromMs: startMs, toMs: outage.backMs, budgetMs: null }]
  }
  const attested = failovers.length > 0 && failovers.every(failover => failover.attested)
  const goneMs = attested ? startMs : Math.min(startMs, heardMs ?? startMs)
  const silenceMs = settings === null ? null : settings.heartbeatMs * (settings.suspectBeats + NO_SIGN_BEATS)
  const phases: Phase[] = [
    { name: 'noticing', fromMs: goneMs, toMs: fenceMs, budgetMs: attested ? BEYOND_MS : silenceMs },
    { name: 'fencing', fromMs: fenceMs, toMs: fencedMs, budgetMs: settings?.requestMs ?? null },
  ]
  if (failovers.length === 0) return phases
  const placed = Math.min(...failovers.map(({ placedMs }) => placedMs))
  const waitMs = attested ? 0 : (failovers[0]?.waitMs ?? null)
  if (fencedMs !== null && !attested) {
    phases.push({ name: 'waiting for leases', fromMs: fencedMs, toMs: placed, budgetMs: waitMs })
  }
  const endMs = endOf({ ...outage, failovers: [...failovers] })
  // Where nothing is waited for, the way to the first placement belongs to it: together the phases are the whole.
  const startingMs = attested ? (fencedMs ?? placed) : placed
  phases.push({ name: 'starting', fromMs: startingMs, toMs: endMs, budgetMs: null })
  const wholeMs = attested ? BEYOND_MS : settings === null ? null : leaseWaitMs(settings) + BEYOND_MS
  return [...phases, { name: 'in all', fromMs: goneMs, toMs: endMs, budgetMs: wholeMs, isWhole: true }]
}
