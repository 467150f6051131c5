// The settings and the nodes of the cluster that a trace is of, as its coordinator's snapshots in it have them.

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
 * Processes that took part, as the last snapshot has the hosts that were ever admitted and the storages; null: no snapshot of
 * this version is there.
 */
export async function nodesIn(
  source: TraceSource,
  options: Pick<TraceReadOptions, 'onDamaged'>,
): Promise<readonly string[] | null> {
  let last: readonly string[] | null = null
  for await (const { body } of source.records({ ...options, filter: { kinds: ['core.snapshot'] } }, ['coordinator'])) {
    const { core, value } = (body ?? {}) as { readonly core?: string; readonly value?: Json }
    if (core === COORDINATOR_CORE && value !== undefined) last = nodesOf(value) ?? last
  }
  return last
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
