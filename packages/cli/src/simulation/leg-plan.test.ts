// What operators do to legs is drawn apart from all else, and each change can follow the one before it.

import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { expect, test } from 'vitest'
import { drawPlan, type SeedPlan } from './plan.ts'

const SEEDS = Array.from({ length: 200 }, (_, i) => String(i))

function planOf(seed: string, legChanges?: boolean): SeedPlan {
  const tuning = legChanges === undefined ? {} : { legChanges }
  return drawPlan(seed, new SimRandom(`plan/${seed}`), tuning)
}

test('the rest of a plan is the same with and without it', () => {
  for (const seed of SEEDS) {
    const without = planOf(seed, false)
    const plan = planOf(seed, true)
    const { storages, volumes, legs, faults } = plan
    expect(legs.length).toBeGreaterThan(0)
    expect(faults.slice(0, without.faults.length)).toEqual(without.faults)
    expect(storages.slice(0, without.storages.length)).toEqual(without.storages)
    expect({ ...without, storages, volumes, legs, faults }).toEqual(plan)
  }
})

test('some seeds have it, and most have not', () => {
  const count = SEEDS.filter(seed => planOf(seed).legs.length > 0).length
  expect(count).toBeGreaterThan(SEEDS.length * 0.08)
  expect(count).toBeLessThan(SEEDS.length * 0.25)
})

test('one after another the changes of a volume end with two legs on two storages', () => {
  let single = 0
  let spare = 0
  for (const seed of SEEDS) {
    const plan = planOf(seed, true)
    for (const { name, storages } of plan.volumes) {
      const legs = new Set(storages)
      const changes = plan.legs.filter(({ volume }) => volume === name)
      for (const { takes, gives } of changes) {
        expect(takes === null ? legs.size === 1 : legs.delete(takes)).toBe(true)
        expect(legs.has(gives)).toBe(false)
        legs.add(gives)
        if (takes === null) single++
        if (gives === 'san-c') spare++
        expect([...plan.storages, ...plan.external]).toContain(gives)
      }
      if (changes.length > 0) expect(legs.size).toBe(2)
    }
  }
  expect(single).toBeGreaterThan(0)
  expect(spare).toBeGreaterThan(0)
})
