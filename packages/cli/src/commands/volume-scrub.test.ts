import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import type { ApiClient } from '../api-client/client.ts'
import type { CommandContext, Input } from '../command-line/command.ts'
import { scrubNamed } from './volume-scrub.ts'

const REPORT = {
  scrub: 's2',
  doneBytes: 8,
  totalBytes: 8,
  repaired: 0,
  unresolved: 0,
  skipped: 0,
  findings: [],
  more: 0,
}

/** A cluster whose owner has ended scrub s2, and which hears of it only at the look with number `known`. */
function cluster(known: number) {
  const looks: string[] = []
  const get = async (path: string) => {
    if (path.endsWith('/scrub')) return { ...REPORT, state: 'done' }
    looks.push(path)
    // The coordinator is started again meanwhile.
    if (looks.length === 2) throw new StellwerkError('no-cluster', 'nobody answers', { retryable: true })
    const heard = looks.length >= known
    return { scrub: heard ? { scrub: 's2', state: 'done' } : { scrub: 's2', state: 'running' } }
  }
  const client = { get, post: async () => ({ scrub: 's2' }) } as unknown as ApiClient
  const context = { api: async () => client, terminal: { out: () => undefined } } as unknown as CommandContext
  const input = { flag: () => false, text: () => undefined } as unknown as Input
  return { looks, run: () => scrubNamed(context, input, 'csv1') }
}

describe('volume check --scrub', () => {
  it('returns only when the cluster knows that the scrub has ended, so that a next one is not refused', async () => {
    const { looks, run } = cluster(3)
    expect(await run()).toEqual({ ...REPORT, state: 'done' })
    expect(looks).toHaveLength(3)
  })
})
