// Faults that take time to do and to heal, on a clock that goes on to the next moment for which somebody waits.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import type { Fault } from './fault.ts'
import { parsePlan } from './plan/parse-plan.ts'
import { runPlan } from './run.ts'
import type { ChaosCluster, ChaosTarget } from './target.ts'

/** Everything on it takes as long as it is told, all at the same time; what is told is written down, in whole seconds. */
class Machines implements ChaosTarget {
  readonly kind = 'local'
  readonly told: string[] = []
  readonly #takes: (what: string) => number
  readonly #waiting = new Set<{ readonly atMs: number; readonly stop: () => boolean; readonly wake: () => void }>()
  #now = 0
  #isTurning = false

  /** Seconds; negative: it fails after so many. */
  constructor(takes: (what: string) => number) {
    this.#takes = takes
  }

  async #do(what: string): Promise<void> {
    this.told.push(`${this.now() / 1_000} ${what}`)
    const seconds = this.#takes(what)
    await this.until(this.now() + Math.abs(seconds) * 1_000, () => false)
    if (seconds < 0) throw new StellwerkError('broken', `can’t ${what}`)
  }

  refuses(): null {
    return null
  }

  async setUp(): Promise<ChaosCluster & { readonly vms: readonly string[] }> {
    return { hosts: ['host-a', 'host-b', 'host-c'], storages: ['san-a', 'san-b'], vms: ['vm-1'] }
  }

  now(): number {
    return this.#now
  }

  async until(atMs: number, stop: () => boolean): Promise<void> {
    if (stop() || atMs <= this.#now) return
    await new Promise<void>(wake => {
      this.#waiting.add({ atMs, stop, wake })
      if (!this.#isTurning) this.#turn()
    })
  }

  /** When nothing can go on at this moment, whoever has had enough is let go, or else whoever waits for the next one. */
  #turn(): void {
    this.#isTurning = this.#waiting.size > 0
    if (!this.#isTurning) return
    setImmediate(() => {
      const all = [...this.#waiting].sort((a, b) => a.atMs - b.atMs)
      const next = all.find(({ stop }) => stop()) ?? all[0]
      if (next !== undefined) {
        if (!next.stop()) this.#now = Math.max(this.#now, next.atMs)
        this.#waiting.delete(next)
        next.wake()
      }
      this.#turn()
    })
  }

  inject(fault: Fault): Promise<void> {
    return this.#do(`inject ${fault.id}`)
  }

  heal(fault: Fault): Promise<void> {
    return this.#do(`heal ${fault.id}`)
  }

  async migrate(): Promise<null> {
    return null
  }

  healAll(): Promise<void> {
    return this.#do('heal all')
  }

  async finish(): Promise<readonly string[]> {
    return []
  }

  async *records(): AsyncGenerator<never> {
    // What happened is judged elsewhere.
  }

  async close(): Promise<void> {
    // Nothing was opened.
  }
}

const planOf = (limits: string, ...faults: string[]) =>
  parsePlan(
    'p',
    ['name: p', 'summary: s', 'duration: 40s', 'converge: 1s', `limits: ${limits}`, 'faults:']
      .concat(faults.map(fault => `  - ${fault}`))
      .join('\n'),
  )

const A = '{ at: 2s, kind: host-kill, host: host-a, for: 4s }'
const B = '{ at: 10s, kind: storage-kill, storage: san-a, for: 4s }'
const NEXT = '{ at: 10s, kind: host-kill, host: host-b, for: 4s }'

test('a heal that takes long holds up no other fault; all are healed before the end', async () => {
  const target = new Machines(what => (what === 'heal 1' ? 50 : 0))
  await runPlan(target, { plan: planOf('{ hosts: 1 }', A, B), seed: '1' })
  expect(target.told).toEqual(['2 inject 1', '6 heal 1', '10 inject 2', '14 heal 2', '56 heal all'])
})

test('a fault that takes long to do lasts as the plan says from its beginning, and is healed after it is done', async () => {
  const target = new Machines(what => (what === 'inject 1' ? 20 : 0))
  await runPlan(target, { plan: planOf('{ hosts: 1 }', A), seed: '1' })
  expect(target.told).toEqual(['2 inject 1', '22 heal 1', '40 heal all'])
})

test('what would break more at once than the limits allow waits for the heal that is late, and lasts as long as planned', async () => {
  const target = new Machines(what => (what === 'heal 1' ? 14 : 0))
  const lines: string[] = []
  const plan = planOf('{ hosts: 1, gap: 3s }', A, NEXT)
  await runPlan(target, { plan, seed: '1', onProgress: (_, line) => lines.push(line) })
  // Healed at 20; with the gap, 23.
  expect(target.told).toEqual(['2 inject 1', '6 heal 1', '23 inject 2', '27 heal 2', '40 heal all'])
  expect(lines.filter(line => line.includes('waits'))).toEqual([
    expect.stringMatching(/^#2 host-kill waits for what is still being healed: hosts: 2 at once/),
  ])
})

test('one that fails ends the run at once, but not before what is under way has ended', async () => {
  const target = new Machines(what => (what === 'heal 1' ? 12 : what === 'inject 2' ? -2 : 0))
  const { findings } = await runPlan(target, { plan: planOf('{ hosts: 1 }', A, B, B.replace('10s', '20s')), seed: '1' })
  expect(findings).toEqual(['can’t inject 2'])
  expect(target.told).toEqual(['2 inject 1', '6 heal 1', '10 inject 2', '18 heal all'])
})
