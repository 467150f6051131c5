import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, test } from 'vitest'
import { describeFault } from './describe-fault.ts'
import type { Fault } from './fault.ts'
import { parsePlan } from './plan/parse-plan.ts'
import { runPlan } from './run.ts'
import type { ChaosCluster, ChaosTarget } from './target.ts'

const plan = parsePlan(
  'p',
  `name: p
summary: s
duration: 10s
converge: 2s
workload: { migrateEvery: 4s, vms: 1 }
faults:
  - { at: 1s, kind: host-kill, host: host-b, for: 2s }
  - { at: 3s, kind: partition, host: host-a, peer: host-c, oneWay: true, for: 1s }
  - { at: 5s, kind: disk-full, storage: san-b, for: 5s }
`,
)

/** Does nothing but write down what it is told; `fails` names what it can't do. */
class Notebook implements ChaosTarget {
  readonly kind = 'local'
  readonly isTimeless = true
  readonly told: string[] = []
  readonly #fails: (what: string) => boolean
  #now = 0

  constructor(fails: (what: string) => boolean = () => false) {
    this.#fails = fails
  }

  #note(what: string): void {
    this.told.push(`${this.#now} ${what}`)
    if (this.#fails(what)) throw new StellwerkError('broken', `it can’t ${what}`)
  }

  refuses(fault: Fault): StellwerkError | null {
    return this.#fails(`refuse ${fault.kind}`) ? new StellwerkError('fault-unsupported', `no ${fault.kind}`) : null
  }

  async setUp(): Promise<ChaosCluster & { readonly vms: readonly string[] }> {
    this.#note('set up')
    return { hosts: ['one', 'two', 'three'], storages: ['disk-1', 'disk-2'], vms: ['vm-1'] }
  }

  now(): number {
    return this.#now
  }

  async until(atMs: number, stop: () => boolean): Promise<void> {
    if (!stop()) this.#now = Math.max(this.#now, atMs)
  }

  async inject(fault: Fault): Promise<void> {
    this.#note(`inject ${describeFault(fault)}`)
  }

  async heal(fault: Fault): Promise<void> {
    this.#note(`heal ${fault.kind}`)
  }

  async migrate(vm: string): Promise<string | null> {
    this.#note(`migrate ${vm}`)
    return null
  }

  async healAll(withinMs: number): Promise<void> {
    this.#note(`heal all within ${withinMs}`)
  }

  async finish(): Promise<readonly string[]> {
    this.#note('finish')
    return []
  }

  async *records(): AsyncGenerator<{ readonly record: TraceRecord; readonly now: number }> {
    // Of a run that was none.
  }

  async close(): Promise<void> {
    this.#note('close')
  }
}

const END = ['10000 heal all within 2000', '12000 finish', '12000 close']

describe('a run', () => {
  test('does what the plan says when it says so, by the names that are really there, and ends in order', async () => {
    const target = new Notebook()
    const { schedule, findings } = await runPlan(target, { plan, seed: '1' })
    expect(target.told).toEqual([
      '0 set up',
      '1000 inject host-kill two for 2s',
      '3000 heal host-kill',
      '3000 inject partition one → three for 1s',
      // At the same moment what is healed comes first.
      '4000 heal partition',
      '4000 migrate vm-1',
      '5000 inject disk-full disk-2 for 5s',
      '8000 migrate vm-1',
      '10000 heal disk-full',
      ...END,
    ])
    expect(schedule.map(({ host, peer, storage }) => [host, peer, storage])).toEqual([
      ['two', undefined, undefined],
      ['one', 'three', undefined],
      [undefined, undefined, 'disk-2'],
    ])
    expect(findings).toEqual([])
  })

  test('is refused before anything is started when the target can’t do one of its faults', async () => {
    const target = new Notebook(what => what === 'refuse disk-full')
    await expect(runPlan(target, { plan, seed: '1' })).rejects.toMatchObject({
      // The line of the plan that asks for it.
      ...{ code: 'fault-unsupported', where: expect.stringMatching(/:\d+:\d+$/) },
    })
    expect(target.told).toEqual(['0 close'])
  })

  test('that can’t go on heals, looks at what is left and closes, and is no pass', async () => {
    const target = new Notebook(what => what.startsWith('inject partition'))
    const { verdict, findings } = await runPlan(target, { plan, seed: '1' })
    expect(target.told.slice(-4)).toEqual([
      '3000 inject partition one → three for 1s',
      '3000 heal all within 2000',
      '3000 finish',
      '3000 close',
    ])
    expect([verdict, findings]).toEqual(['fail', ['it can’t inject partition one → three for 1s']])
  })

  test('closes also what it could not set up', async () => {
    const target = new Notebook(what => what === 'set up')
    await expect(runPlan(target, { plan, seed: '1' })).rejects.toMatchObject({ code: 'broken' })
    expect(target.told).toEqual(['0 set up', '0 close'])
  })

  test('that is interrupted heals what is broken at once', async () => {
    const target = new Notebook()
    let isOver = false
    const result = await runPlan(target, {
      ...{ plan, seed: '1', stop: () => isOver },
      onProgress: (_, line) => {
        if (line.startsWith('#1 host-kill')) isOver = true
      },
    })
    expect(target.told.slice(1)).toEqual([
      ...['1000 inject host-kill two for 2s', '1000 heal all within 2000', '1000 finish', '1000 close'],
    ])
    expect(result).toMatchObject({ interrupted: true, verdict: 'fail' })
  })
})
