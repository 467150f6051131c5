// Scrubs as the coordinator has to do with them: what is refused, and what is kept of what an owner says.

import { describe, expect, it } from 'vitest'
import { volumeView } from '../view/volumes.ts'
import { Bench } from './testing.ts'

const SIZE = 2 ** 30

function bench(storages = ['san-a', 'san-b']): Bench {
  const made = new Bench()
  for (const host of ['host-a', 'host-b']) made.join(host)
  made.round(10)
  made.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: SIZE, storages })
  made.round(30)
  return made
}

const command = (leg: string | null = null, name = 'csv1') => ({ kind: 'volume-scrub', name, leg }) as const
const NONE = { repaired: 0, unresolved: 0, skipped: 0 }
const running = (scrub: string) => ({ scrub, state: 'running', doneBytes: 50, totalBytes: 200, ...NONE }) as const
const ended = (scrub: string, more: object = {}) =>
  ({ scrub, state: 'done', doneBytes: 200, totalBytes: 200, ...NONE, ...more }) as const

function view({ state }: Bench) {
  return volumeView(state, state.volumes.get('csv1')!, null, 0)
}

function told(of: Bench): string[] {
  return of.traces
    .filter(({ kind }) => kind === 'decision.scrub')
    .map(({ body }) => body as { chose: string; why: string })
    .map(({ chose, why }) => `${chose}: ${why}`)
}

describe('a scrub', () => {
  it('may begin on a mirror in sync, naming a leg by its id or its storage', () => {
    const made = bench()
    expect(made.command(command()).body).toEqual({ volume: 'csv1', goodLeg: null })
    expect(made.command(command('san-b')).body).toEqual({ volume: 'csv1', goodLeg: 'leg-1' })
    expect(made.command(command('leg-0')).body).toEqual({ volume: 'csv1', goodLeg: 'leg-0' })
  })

  it('is refused with one clear line, and nothing is changed', () => {
    const made = bench()
    const before = JSON.stringify([...made.state.volumes])
    expect(made.command(command(null, 'nope')).refused).toBe('unknown-volume')
    expect(made.command(command('nope')).refused).toBe('unknown-leg')
    made.scrub = running('scrub-1')
    made.round(3)
    expect(made.command(command()).refused).toBe('scrub-running')
    expect(JSON.stringify([...made.state.volumes])).toBe(before)
    expect(bench(['san-a']).command(command()).refused).toBe('not-mirrored')
  })

  it('is refused of a leg that is stale, or syncing', () => {
    const made = bench()
    const { owner, generation } = made.state.volumes.get('csv1')!
    const hostEpoch = made.state.hosts.get(owner!.host)!.epoch
    const report = { host: owner!.host, hostEpoch, volume: 'csv1', generation, leg: 'leg-1', why: 'gone' }
    made.input({ kind: 'leg-lost', request: 9_000, report })
    expect(made.command(command()).refused).toBe('leg-not-in-sync')
    for (let i = 0; i < 400 && made.state.volumes.get('csv1')?.legs[1]?.role === 'stale'; i += 1) made.round(1)
    expect(made.state.volumes.get('csv1')?.legs[1]?.role).toBe('syncing')
    expect(made.command(command()).refused).toBe('leg-not-in-sync')
  })

  it('is seen while it runs, told when it ends, and what it left undecided stays known', () => {
    const made = bench()
    made.scrub = running('scrub-1')
    made.round(3)
    expect(view(made)).toMatchObject({ scrub: { state: 'running', percent: 25 }, warning: null })
    made.scrub = ended('scrub-1', { repaired: 1, unresolved: 2 })
    made.round(3)
    expect(told(made)).toEqual([
      'a scrub has begun: an operator asked for it',
      'a scrub is done: 1 places repaired, 2 undecided, 0 not compared',
    ])
    // The next owner knows nothing of it.
    made.scrub = null
    made.round(3)
    expect(view(made)).toMatchObject({
      scrub: { state: 'done', unresolved: 2 },
      warning: expect.stringContaining('2 places'),
    })
    made.scrub = ended('scrub-2')
    made.round(3)
    expect(view(made)).toMatchObject({ scrub: { state: 'done', unresolved: 0 }, warning: null })
    expect(told(made)).toHaveLength(3)
  })

  it('that its owner took with it is told as ended early', () => {
    const made = bench()
    made.scrub = running('scrub-1')
    made.round(3)
    made.scrub = null
    made.round(3)
    expect(told(made).at(-1)).toBe('its scrub has ended early: it has another owner: begin it again')
  })

  it('of an earlier run of the coordinator is told no second time', () => {
    const made = bench()
    made.state.liveVolumes.get('csv1')!.scrub = undefined
    made.scrub = ended('scrub-1', { unresolved: 1 })
    made.round(3)
    expect(told(made)).toEqual([])
  })
})
