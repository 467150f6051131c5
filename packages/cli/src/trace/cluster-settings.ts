// The cluster's settings, as a coordinator put them on record with its state.

import { COORDINATOR_CORE } from '@stellwerk/coordinator/replay/replay.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { TraceReadOptions } from '@stellwerk/protocol/trace/reader.ts'
import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { TraceSource } from './source.ts'

/** What is damaged is told by who reads the rest. */
export const PASSING_OVER = { onDamaged: () => undefined }

interface Holder {
  readonly cluster?: { readonly settings?: Settings }
}

/** Those last told before `atMs`, or the first that are told at all; null: the trace has no state of a coordinator. */
export async function settingsAt(
  source: TraceSource,
  atMs: number,
  options: Pick<TraceReadOptions, 'onDamaged'> = {},
): Promise<Settings | null> {
  let found: Settings | null = null
  for await (const record of source.records({ ...options, filter: { kinds: ['core.snapshot'] } }, ['coordinator'])) {
    const settings = settingsIn(record)
    if (settings === null) continue
    if (found !== null && record.hlc.wallMs > atMs) break
    found = settings
  }
  return found
}

function settingsIn({ body }: TraceRecord): Settings | null {
  const { core, value } = body as { core: string; value: (Holder & { state?: Holder }) | null }
  if (core !== COORDINATOR_CORE) return null
  // The first format was the state by itself.
  return (value?.state ?? value)?.cluster?.settings ?? null
}
