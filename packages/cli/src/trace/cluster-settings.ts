// The settings and the nodes of the cluster that a trace is of, as its coordinator's snapshots in it have them.

import { BY_GUARDIAN } from '@stellwerk/coordinator/core/membership.ts'
import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import { stateOf } from '@stellwerk/coordinator/snapshot.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import type { TraceSource } from './source.ts'

/** Those that traces are judged and charted by. */
const NAMES = [
  ...(['heartbeatMs', 'suspectBeats', 'leaseMs', 'drift', 'requestMs'] as const),
  ...(['prepareMs', 'precopyMs', 'switchMs', 'downtimeMs'] as const),
] as const
export type KnownSettings = Pick<Settings, (typeof NAMES)[number]>

/**
 * As they last were before `atMs`, or the first that are known after it; null: no snapshot in the trace has them (those of other
 * versions may not, nor one that was too large to be recorded).
 */
export async function settingsAt(
  source: TraceSource,
  atMs: number,
  options: Pick<TraceReadOptions, 'onDamaged'> = { onDamaged: () => undefined },
): Promise<KnownSettings | null> {
  let found: KnownSettings | null = null
  for await (const record of source.records({ ...options, filter: { kinds: ['core.snapshot'] } }, ['coordinator'])) {
    if (found !== null && record.hlc.wallMs > atMs) break
    found = settingsIn(record) ?? found
  }
  return found
}

/**
 * Processes that took part: as the last snapshot has the hosts that were ever admitted and the storages, and whoever came after
 * it; null: no snapshot of this version is there.
 */
export async function nodesIn(
  source: TraceSource,
  options: Pick<TraceReadOptions, 'onDamaged'>,
): Promise<readonly string[] | null> {
  let last: readonly string[] | null = null
  const since = new Set<string>()
  const filter = { kinds: ['core.snapshot', 'host.admitted', 'decision.vm-lost'] }
  for await (const record of source.records({ ...options, filter }, ['coordinator'])) {
    const nodes = nodesBySnapshot(record)
    if (nodes === null) for (const node of nodesBy(record)) since.add(node)
    else {
      last = nodes
      // Who has left the cluster since then is no longer asked for. A guardian is in no snapshot.
      for (const node of since) if (!node.endsWith('/guardian')) since.delete(node)
    }
  }
  return last === null ? null : [...new Set([...last, ...since])]
}

function nodesBySnapshot({ kind, body }: TraceRecord): string[] | null {
  const { core, value } = (body ?? {}) as { readonly core?: string; readonly value?: Json }
  return kind === 'core.snapshot' && core === COORDINATOR_CORE && value !== undefined ? nodesOf(value) : null
}

/** An agent's death that its guardian attests is on the guardian's record; others vouch for hosts, too, and leave none. */
function nodesBy({ kind, host, body }: TraceRecord): string[] {
  if (kind === 'host.admitted') return host === undefined ? [] : [`${host}/agent`]
  if (kind !== 'decision.vm-lost') return []
  const { saw } = (body ?? {}) as { readonly saw?: { readonly host?: string; readonly by?: string | null } }
  return saw?.host !== undefined && saw.by === BY_GUARDIAN ? [`${saw.host}/guardian`] : []
}

function nodesOf(snapshot: Json): string[] | null {
  try {
    const { hosts, storages } = stateOf(snapshot)
    const admitted = [...hosts.values()].filter(({ epoch }) => epoch > 0)
    const own = [...storages.values()].filter(({ external }) => external === undefined)
    return ['coordinator', ...admitted.map(({ name }) => `${name}/agent`), ...own.map(({ name }) => name)]
  } catch (error) {
    if (errorCode(error) === 'other-version') return null
    throw error
  }
}

function settingsIn({ body }: TraceRecord): KnownSettings | null {
  const { core, value } = (body ?? {}) as {
    readonly core?: string
    readonly value?: {
      readonly state?: { readonly cluster?: { readonly settings?: { readonly [name: string]: unknown } } }
    }
  }
  const settings = value?.state?.cluster?.settings
  if (core !== COORDINATOR_CORE || settings === undefined) return null
  return NAMES.every(name => typeof settings[name] === 'number') ? (settings as unknown as KnownSettings) : null
}
