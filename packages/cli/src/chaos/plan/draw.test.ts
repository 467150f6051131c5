import { describe, expect, test } from 'vitest'
import { FAULT_KINDS, type Fault } from '../fault.ts'
import { drawSchedule } from './draw.ts'
import { FAULT_SHAPES, taken } from './fault-table.ts'
import { parsePlan } from './parse-plan.ts'

const ALL = FAULT_KINDS.map(kind => `    ${kind}: 1`).join('\n')

function plan(limits: string, extra = '') {
  return parsePlan(
    'p',
    `name: p\nsummary: s\nduration: 120s\ncluster: { hosts: 5, storages: 2 }\n${extra}random:\n  meanGap: 500ms\n  kinds:\n${ALL}\nlimits: ${limits}\n`,
  )
}

const SEEDS = Array.from({ length: 40 }, (_, i) => `s${i}`)

/** What is broken at each millisecond at which something begins, counted apart from how limits count it. */
function most(schedule: readonly Fault[], gapMs: number, of: (fault: Fault) => readonly string[]): number {
  return Math.max(
    ...schedule.map(({ atMs }) => {
      const now = schedule.filter(each => each.atMs <= atMs && atMs < each.atMs + each.lastsMs + gapMs)
      return new Set(now.flatMap(of)).size
    }),
  )
}

describe('a drawn schedule', () => {
  test('is the same for the same seed, and another for another', () => {
    const of = plan('{ hosts: 2 }')
    expect(drawSchedule(of, '1')).toEqual(drawSchedule(of, '1'))
    expect(drawSchedule(of, '1')).not.toEqual(drawSchedule(of, '2'))
  })

  test('keeps every limit, with the gap behind each fault', () => {
    const of = plan('{ hosts: 2, storages: 1, fabrics: 1, cables: 3, coordinator: 1, faults: 5, gap: 1500ms }')
    const { storages } = of.cluster
    for (const seed of SEEDS) {
      const schedule = drawSchedule(of, seed)
      expect(schedule.length).toBeGreaterThan(20)
      expect(most(schedule, 1_500, each => taken(each, storages).hosts)).toBeLessThanOrEqual(2)
      expect(most(schedule, 1_500, each => taken(each, storages).storages)).toBeLessThanOrEqual(1)
      expect(most(schedule, 1_500, each => taken(each, storages).fabrics)).toBeLessThanOrEqual(1)
      expect(most(schedule, 1_500, each => taken(each, storages).cables)).toBeLessThanOrEqual(3)
      expect(most(schedule, 1_500, each => taken(each, storages).coordinator)).toBeLessThanOrEqual(1)
      expect(most(schedule, 1_500, each => [String(each.id)])).toBeLessThanOrEqual(5)
    }
  })

  test('cuts nobody off from itself, where the plan names the peer alone', () => {
    const of = parsePlan(
      'p',
      'name: p\nsummary: s\nduration: 60s\nrandom:\n  meanGap: 1s\n  kinds:\n    partition: { weight: 1, peer: host-b }\n',
    )
    const hit = new Set(SEEDS.flatMap(seed => drawSchedule(of, seed)).map(({ host }) => host))
    expect([...hit].sort()).toEqual(['host-a', 'host-c'])
  })

  test('neither kills nor lets sleep what another fault has down: its end would be the end of both', () => {
    const of = plan('{ hosts: 5, storages: 2, fabrics: 2, coordinator: 1, gap: 500ms }')
    const ends = (each: Fault) =>
      /-(kill|pause|restart)$/.test(each.kind) ? [each.host ?? each.storage ?? 'coordinator'] : []
    for (const seed of SEEDS) {
      const schedule = drawSchedule(of, seed)
      for (const thing of [...of.cluster.hosts, ...of.cluster.storages, 'coordinator']) {
        const its = schedule.filter(each => ends(each).includes(thing))
        expect(its.length).toBeGreaterThan(0)
        expect(most(its, 500, each => [String(each.id)])).toBe(1)
      }
    }
  })

  test('breaks more where more is allowed: the limits are what holds it back', () => {
    const wide = plan('{ hosts: 5, storages: 2, fabrics: 2, coordinator: 1 }')
    const peaks = SEEDS.map(seed => most(drawSchedule(wide, seed), 0, each => taken(each, wide.cluster.storages).hosts))
    expect(Math.max(...peaks)).toBeGreaterThan(2)
  })

  test('is in order, numbered, within the time of faults, and has all that its kind needs', () => {
    const of = plan('{ hosts: 3, storages: 2, fabrics: 2 }')
    const met = new Set<string>()
    for (const seed of SEEDS) {
      const schedule = drawSchedule(of, seed)
      for (const [i, fault] of schedule.entries()) {
        const { id, kind, atMs, lastsMs, ...rest } = fault
        met.add(kind)
        expect(id).toBe(i + 1)
        expect(atMs).toBeGreaterThanOrEqual(schedule[i - 1]?.atMs ?? 0)
        expect(Number.isInteger(atMs) && Number.isInteger(lastsMs)).toBe(true)
        expect(lastsMs).toBeGreaterThan(0)
        expect(atMs + lastsMs).toBeLessThanOrEqual(120_000)
        expect(FAULT_SHAPES[kind].parameters).toEqual(expect.arrayContaining(Object.keys(rest)))
        for (const needed of FAULT_SHAPES[kind].parameters.slice(0, 1)) expect(rest[needed], kind).not.toBe(undefined)
        if (kind === 'partition' || kind === 'ports-closed') expect(rest.peer).not.toBe(rest.host)
      }
    }
    expect([...met].sort()).toEqual([...FAULT_KINDS].sort())
  })

  test('puts a fault off, or leaves it out, rather than break a limit; fixed faults stay', () => {
    const fixed = 'faults: [{ at: 0s, kind: host-pause, host: host-a, for: 100s }]\n'
    const of = plan('{ hosts: 1 }', fixed)
    for (const seed of SEEDS) {
      const schedule = drawSchedule(of, seed)
      expect(schedule[0]).toMatchObject({ kind: 'host-pause', host: 'host-a', atMs: 0, lastsMs: 100_000 })
      const others = schedule.filter(each => taken(each, of.cluster.storages).hosts.some(host => host !== 'host-a'))
      for (const { atMs } of others) expect(atMs).toBeGreaterThanOrEqual(100_000)
    }
  })

  test('honours weights', () => {
    const weighted = parsePlan(
      'p',
      'name: p\nsummary: s\nduration: 10min\nrandom: { meanGap: 1s, kinds: { clock-jump: 9, cable-pull: 1 } }\n',
    )
    const schedule = SEEDS.flatMap(seed => drawSchedule(weighted, seed))
    const jumps = schedule.filter(({ kind }) => kind === 'clock-jump').length
    expect(jumps / schedule.length).toBeGreaterThan(0.85)
    expect(jumps / schedule.length).toBeLessThan(0.95)
  })
})
