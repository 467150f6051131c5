import { describe, expect, test } from 'vitest'
import type { Fault } from './fault.ts'
import { parsePlan } from './plan/parse-plan.ts'
import { type Candidate, shrink } from './shrink.ts'

const plan = parsePlan(
  'p',
  'name: p\nsummary: s\nduration: 60s\nworkload: { migrateEvery: 1s }\nrandom: { meanGap: 1s, kinds: { host-kill: 1 } }\n',
)
const schedule: readonly Fault[] = Array.from({ length: 16 }, (_, i) => ({
  ...{ id: i + 1, kind: 'host-kill', atMs: i * 1_000, lastsMs: 8_000, host: 'host-a' },
}))
const has = ({ schedule }: Candidate, ...ids: readonly number[]): boolean =>
  ids.every(id => schedule.some(fault => fault.id === id))

async function shrunk(fails: (candidate: Candidate) => boolean, runsMax?: number) {
  let asked = 0
  const result = await shrink(
    { plan, schedule },
    async candidate => {
      asked += 1
      return fails(candidate)
    },
    runsMax,
  )
  expect(result.runs).toBe(asked)
  return result
}

describe('shrinking', () => {
  test('finds the one fault that does it', async () => {
    const { schedule, plan, isCutShort } = await shrunk(each => has(each, 11))
    expect(schedule.map(({ id }) => id)).toEqual([11])
    expect(plan.migrateEveryMs).toBe(null)
    expect(isCutShort).toBe(false)
  })

  test('finds those that only do it together, wherever they stand', async () => {
    for (const ids of [
      [1, 16],
      [3, 4, 12],
      [2, 7, 8, 15],
    ]) {
      const { schedule } = await shrunk(each => has(each, ...ids), 500)
      expect(schedule.map(({ id }) => id)).toEqual(ids)
    }
  })

  test('keeps all where all are needed', async () => {
    const { schedule: left } = await shrunk(each => each.schedule.length === schedule.length, 500)
    expect(left).toHaveLength(schedule.length)
  })

  test('shortens what may be shorter, no further than it still fails', async () => {
    const { schedule } = await shrunk(each => each.schedule.some(({ id, lastsMs }) => id === 5 && lastsMs >= 3_000))
    expect(schedule).toMatchObject([{ id: 5, lastsMs: 4_000, atMs: 4_000 }])
  })

  test('keeps migrations where it needs them', async () => {
    const { plan } = await shrunk(each => has(each, 2) && each.plan.migrateEveryMs !== null)
    expect(plan.migrateEveryMs).toBe(1_000)
  })

  test('ends with what it has when it has tried enough', async () => {
    const { schedule, isCutShort, runs } = await shrunk(each => has(each, 1, 6, 11, 16), 5)
    expect(runs).toBe(5)
    expect(isCutShort).toBe(true)
    expect(schedule.length).toBeGreaterThanOrEqual(4)
  })
})
