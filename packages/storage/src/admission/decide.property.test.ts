// Whatever comes in whatever order: what admission promises holds after each step.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareSessions, type HostClaim } from './export-name.ts'
import { judge } from './judge.ts'
import { recoverAdmission } from './recover.ts'
import type { AdmissionState } from './state.ts'
import { Bench, claimOf } from './testing.ts'

const host = fc.constantFrom('a', 'b', 'c')
const small = fc.integer({ min: 1, max: 4 })
const session = fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 0, max: 2 }))

type Step =
  | { readonly kind: 'order'; readonly order: Record<string, unknown> & { kind: string } }
  | { readonly kind: 'connect'; readonly claim: HostClaim | null }
  /** The n-th of the connections in the books ends. */
  | { readonly kind: 'end'; readonly pick: number }

const lun = 'csv1'
const order = fc.oneof(
  fc.record({ kind: fc.constantFrom('fence', 'admit'), host, epoch: small, term: small }),
  fc.record({
    kind: fc.constant('coordinator'),
    term: small,
    run: fc.constantFrom('first', 'older'),
    revision: small,
  }),
  fc.record({ kind: fc.constantFrom('fence', 'admit'), host, epoch: small, term: fc.constant(4) }),
  fc.record({
    kind: fc.constant('generation'),
    lun: fc.constant(lun),
    generation: small,
    id: fc.constant(null),
    legs: fc.constant({}),
    term: fc.constant(4),
  }),
  fc.record({
    kind: fc.constant('layout'),
    lun: fc.constant(lun),
    ownerEpoch: small,
    host: fc.option(host),
    epoch: fc.option(small),
    layout: fc.constant({ metadata: { offset: 0, length: 4096 }, slots: [] }),
  }),
  fc.record({
    kind: fc.constant('expose-lun'),
    lun: fc.constant(lun),
    open: fc.boolean(),
    masked: fc.constant(false),
    hosts: fc.option(fc.uniqueArray(host)),
  }),
)
const claim = fc
  .record({ host, epoch: small, session, generation: fc.integer({ min: 0, max: 4 }), owner: fc.option(small) })
  .map(({ host: name, ...rest }) => claimOf(name, rest))
/** One that agrees with the marks but for a part, so that runs do not consist of refusals. */
const likely = fc.tuple(claim, fc.integer({ min: 0, max: 3 }))
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: order.map((given): { make: (state: AdmissionState) => Step } => ({
      make: () => ({ kind: 'order', order: given }),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.constant<{ make: (state: AdmissionState) => Step }>({
      make: () => ({ kind: 'connect', claim: null }),
    }),
  },
  {
    weight: 1,
    arbitrary: claim.map((given): { make: (state: AdmissionState) => Step } => ({
      make: () => ({ kind: 'connect', claim: given }),
    })),
  },
  {
    weight: 8,
    arbitrary: likely.map(([given, bend]): { make: (state: AdmissionState) => Step } => ({
      make: state => ({ kind: 'connect', claim: fit(state, given, bend) }),
    })),
  },
  {
    weight: 4,
    arbitrary: fc
      .nat(20)
      .map((pick): { make: (state: AdmissionState) => Step } => ({ make: () => ({ kind: 'end', pick }) })),
  },
)

function fit(state: AdmissionState, given: HostClaim, bend: number): HostClaim {
  const epoch = bend === 1 ? given.epoch : (state.hosts.get(given.host)?.admitted ?? given.epoch)
  const generation = bend === 2 ? given.generation : (state.luns.get(lun)?.generation ?? given.generation)
  return { ...given, epoch, generation, owner: bend === 3 ? given.owner : null }
}

/** After each step. */
function check(bench: Bench, before: AdmissionState): void {
  const { state } = bench
  expect(state.term).toBeGreaterThanOrEqual(before.term)
  for (const [name, marks] of before.hosts) {
    expect(state.hosts.get(name)?.admitted).toBeGreaterThanOrEqual(marks.admitted)
    expect(state.hosts.get(name)?.fenced).toBeGreaterThanOrEqual(marks.fenced)
  }
  for (const [key, old] of before.sessions) {
    const name = key.split('/')[1]!
    // They count within an epoch.
    if (state.hosts.get(name)?.admitted !== before.hosts.get(name)?.admitted) continue
    expect(compareSessions(state.sessions.get(key)!, old)).toBeGreaterThanOrEqual(0)
  }
  for (const [name, marks] of before.luns) {
    expect(state.luns.get(name)?.generation).toBeGreaterThanOrEqual(marks.generation)
    expect(state.luns.get(name)?.owner).toBeGreaterThanOrEqual(marks.owner)
  }
  const open = [...state.connections.values()].filter(({ phase }) => phase === 'open')
  for (const connection of open) {
    // IO3: who serves agrees with every mark, and whoever it superseded has drained.
    expect(judge(state, connection.lun, connection.claim)).toBe(null)
    const { claim } = connection
    if (claim === null) continue
    for (const other of state.connections.values()) {
      if (other.phase === 'waiting' || other.claim === null) continue
      // A host's owner connections count apart from its own.
      if (other.claim.host === claim.host && (other.claim.owner === null) === (claim.owner === null))
        expect(compareSessions(other.claim.session, claim.session)).toBeGreaterThanOrEqual(0)
      if (claim.owner !== null && other.claim.owner !== null)
        expect(other.claim.owner).toBeGreaterThanOrEqual(claim.owner)
      expect(other.claim.generation).toBe(claim.generation)
    }
  }
  // Every wait has an end: it waits only for what drains.
  for (const { on } of state.waits) {
    expect(on.size).toBeGreaterThan(0)
    for (const id of on) expect(state.connections.get(id)?.phase).toBe('draining')
  }
}

describe('admission', () => {
  it('keeps its promises in any order of inputs', () => {
    let welcomed = 0
    let waited = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
        const bench = new Bench().with('a', 'b')
        const asked = new Set<number>()
        const given: number[] = []
        for (const { make } of steps) {
          const before = bench.state
          const what = make(before)
          if (what.kind === 'order') bench.order(what.order)
          else if (what.kind === 'connect') {
            const { id, effects } = bench.connect(lun, what.claim)
            asked.add(id)
            if (effects.every(effect => effect.kind !== 'welcome' && effect.kind !== 'refuse')) waited += 1
          } else {
            const ids = [...bench.state.connections.keys()]
            const id = ids[what.pick % Math.max(1, ids.length)]
            if (id !== undefined) {
              if (bench.state.connections.get(id)?.phase === 'waiting') given.push(id)
              bench.drained(id)
            }
          }
          check(bench, before)
        }
        // Let everything drain: nobody is left waiting, and everybody was answered once.
        for (const [id, { phase }] of [...bench.state.connections]) if (phase === 'draining') bench.drained(id)
        expect(bench.state.waits).toEqual([])
        for (const effect of bench.effects)
          if (effect.kind === 'welcome' || effect.kind === 'refuse') given.push(effect.connection)
        expect([...given].sort()).toEqual([...asked].sort())
        const tickets = bench.effects.flatMap(effect =>
          effect.kind === 'answer' || effect.kind === 'reject' ? [effect.ticket] : [],
        )
        expect(new Set(tickets).size).toBe(tickets.length)
        welcomed += bench.state.connections.size

        // A start finds what was known.
        const recovered = bench.recovered()
        expect([recovered.term, recovered.run]).toEqual([bench.state.term, bench.state.run])
        for (const part of ['hosts', 'luns', 'sessions'] as const) {
          expect(new Map([...recovered[part]].sort() as never)).toEqual(new Map([...bench.state[part]].sort() as never))
        }
      }),
      { numRuns: 400 },
    )
    // Not by refusing everybody.
    expect(welcomed).toBeGreaterThan(20)
    expect(waited).toBeGreaterThan(20)
  })

  it('refuses to start on marks it cannot read', () => {
    const withEntry = (key: string, value: unknown) => ({
      get: (asked: string) => (asked === key ? (value as never) : undefined),
      entries: (prefix: string) => (key.startsWith(prefix) ? [[key, value as never] as const] : []),
      commit: () => undefined,
    })
    const bad: [string, unknown][] = [
      ['term', 'seven'],
      ['host/a', { admitted: 1 }],
      ['host/a', { admitted: -1, fenced: 0 }],
      ['host/not a name', { admitted: 1, fenced: 0 }],
      ['lun/csv1', { id: 'x' }],
      ['session/csv1/a', [1, 0]],
    ]
    for (const [key, value] of bad) {
      expect(() => recoverAdmission(withEntry(key, value))).toThrowError(
        expect.objectContaining({ code: 'corrupt-state', where: key }),
      )
    }
  })
})
