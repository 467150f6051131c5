// Who could reach which storage, and since when: the ground truth that RIO1 and RIO2 are judged by, from the records of
// whoever sees all cables (the simulator). A host counts as reaching a storage only while storage admits it, too.

import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { ensure, field, id, malformed, stringField } from './monitor.ts'

export interface ReachOptions {
  /** What it may take until a way that is there is used. */
  readonly budgetMs?: number
}

/** Noticing (the path's deadline, three probes), a dead peer or two in front of a good one, a new session. */
export const REACH_BUDGET_MS = 10_000

/** One line of `reach.observed`. */
interface Observed {
  readonly host: string
  readonly storage: string
  /** Over an HBA of its own, without a fault anywhere on the way. */
  readonly direct: boolean
  /** Likewise, over one that no operator has disabled. */
  readonly wanted: boolean
  /** A peer that it is linked to without a fault has such a path. */
  readonly linked: boolean
}

interface Since {
  any: number | null
  wanted: number | null
}

export const REACH_KINDS = ['reach.observed', 'storage.admitted', 'storage.fenced', 'process.dead', 'process.paused']

export class Reach {
  readonly #since = new Map<string, Since>()
  /** `host/storage`: since when it is admitted there. */
  readonly #admitted = new Map<string, number>()

  observe(record: TraceRecord, now: number): void {
    switch (record.kind) {
      case 'reach.observed':
        for (const line of lines(record)) this.#line(line, now)
        return
      case 'storage.admitted': {
        const key = `${id(record, 'host')}/${stringField(record, 'storage')}`
        if (!this.#admitted.has(key)) this.#admitted.set(key, now)
        return
      }
      case 'storage.fenced':
        this.#admitted.delete(`${id(record, 'host')}/${stringField(record, 'storage')}`)
        return
      case 'process.dead':
      case 'process.paused': {
        // Seen or not in between: whatever was reached by it or at it begins anew.
        const process = stringField(record, 'process')
        for (const key of [...this.#since.keys()]) {
          if (key.endsWith(`/${process}`) || key.startsWith(`${process.split('/')[0]}/`)) this.#since.delete(key)
        }
      }
    }
  }

  #line({ host, storage, direct, wanted, linked }: Observed, now: number): void {
    const since = ensure(this.#since, `${host}/${storage}`, () => ({ any: null, wanted: null }))
    if (!direct && !linked) since.any = null
    else since.any ??= now
    if (!wanted) since.wanted = null
    else since.wanted ??= now
  }

  /** Since when the host could reach the storage, itself or over a peer; null: it can not. */
  any(host: string, storage: string): number | null {
    return this.#of(host, storage, 'any')
  }

  /** Since when it could over an HBA of its own that it may use. */
  direct(host: string, storage: string): number | null {
    return this.#of(host, storage, 'wanted')
  }

  #of(host: string, storage: string, what: keyof Since): number | null {
    const key = `${host}/${storage}`
    const reached = this.#since.get(key)?.[what] ?? null
    const admitted = this.#admitted.get(key) ?? null
    return reached === null || admitted === null ? null : Math.max(reached, admitted)
  }
}

/** Whose `path.*` it is: one of a host's two sets to a LUN, its guests' or, where it owns the volume, the owner's. */
export function pathSetOf(record: TraceRecord): string {
  const owner = field(record, 'owner') === true
  return `${id(record, 'host')}/${stringField(record, 'storage')}/${id(record, 'volume')}/${owner}`
}

function lines(record: TraceRecord): readonly Observed[] {
  const value: Json | undefined = field(record, 'paths')
  if (!Array.isArray(value)) throw malformed(record, 'the list `paths`')
  return value as unknown as readonly Observed[]
}
