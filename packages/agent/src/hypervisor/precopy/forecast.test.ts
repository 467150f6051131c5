// The convergence forecast, on rounds as they come from guests of known behaviour.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { MigrationPolicy } from '../hypervisor.ts'
import { FIXED_PAUSE_MS, type Forecast, forecastRound, INITIAL_FORECAST, THROTTLE_STEPS } from './forecast.ts'
import { PAGE_BYTES } from './state-checksum.ts'

const policy: MigrationPolicy = { downtimeMs: 100, maxRounds: 10, whenDiverging: 'abort' }

/** Pre-copy of a guest that dirties pages at a steady rate over a working set, sent at a steady bandwidth. */
function simulate(
  guest: { rate: number; workingSet: number; bandwidth: number; pages: number },
  by = policy,
): Forecast[] {
  const forecasts: Forecast[] = []
  let state = INITIAL_FORECAST
  let throttle = 0
  let toSend = guest.pages
  for (let round = 1; ; round++) {
    const sentBytes = toSend * PAGE_BYTES
    const sendMs = sentBytes / guest.bandwidth
    const dirtyPages = Math.min(guest.workingSet, Math.floor(guest.rate * (1 - throttle) * sendMs))
    const next = forecastRound(state, by, { round, dirtyPages, sinceLastScanMs: sendMs, sentBytes, sendMs, scanMs: 5 })
    forecasts.push(next)
    if (next.verdict !== 'again') return forecasts
    state = next.state
    throttle = next.throttle
    toSend = dirtyPages
  }
}

test('a guest that dirties slowly converges after few rounds, unthrottled', () => {
  const forecasts = simulate({ rate: 4, workingSet: 16_384, bandwidth: 300_000, pages: 16_384 })
  expect(forecasts.at(-1)?.verdict).toBe('converged')
  expect(forecasts.length).toBeLessThanOrEqual(3)
  expect(forecasts.every(forecast => forecast.throttle === 0)).toBe(true)
  expect(forecasts.at(-1)?.forecastMs).toBeLessThanOrEqual(policy.downtimeMs)
})

test('a guest that dirties somewhat faster than the link carries is throttled until it converges', () => {
  const forecasts = simulate({ rate: 100, workingSet: 16_000, bandwidth: 300_000, pages: 16_384 })
  expect(forecasts.at(-1)?.verdict).toBe('converged')
  expect(forecasts.at(-1)?.throttle).toBeGreaterThan(0)
})

test('a guest that no throttle slows enough is given up, or paused, as the policy says', () => {
  const hopeless = { rate: 10_000, workingSet: 16_000, bandwidth: 30_000, pages: 16_384 }
  expect(simulate(hopeless).at(-1)?.verdict).toBe('diverging')
  const paused = simulate(hopeless, { ...policy, whenDiverging: 'pause' }).at(-1)
  expect(paused?.verdict).toBe('converged')
  expect(paused?.forecastMs).toBeGreaterThan(policy.downtimeMs)
  expect(paused?.throttle).toBe(THROTTLE_STEPS.at(-1))
})

test('where time stands still while bytes are sent, the pause is the fixed part', () => {
  const facts = { round: 1, dirtyPages: 40, sinceLastScanMs: 0, sentBytes: 1e6, sendMs: 0, scanMs: 0 }
  const forecast = forecastRound(INITIAL_FORECAST, policy, facts)
  expect(forecast).toMatchObject({ verdict: 'converged', forecastMs: FIXED_PAUSE_MS, bytesPerSecond: 0 })
})

test('every guest ends within a bounded number of rounds', () => {
  fc.assert(
    fc.property(
      fc.record({
        rate: fc.integer({ min: 0, max: 100_000 }),
        workingSet: fc.integer({ min: 1, max: 65_536 }),
        bandwidth: fc.integer({ min: 1, max: 1_000_000 }),
        pages: fc.integer({ min: 1, max: 65_536 }),
      }),
      fc.integer({ min: 1, max: 40 }),
      (guest, maxRounds) => {
        const forecasts = simulate(guest, { ...policy, maxRounds })
        expect(forecasts.length).toBeLessThanOrEqual(maxRounds * 2 + THROTTLE_STEPS.length)
        const last = forecasts.at(-1)
        expect(last?.verdict === 'converged').toBe((last?.forecastMs ?? Infinity) <= policy.downtimeMs)
      },
    ),
  )
})
