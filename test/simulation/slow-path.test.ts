// A path that answers, but slowly, in a whole simulated cluster: guests are spared it while there is a better one, and lose
// nothing to it where there is none.

import { pathViews } from '@stellwerk/coordinator/view/hosts.ts'
import { describe, expect, it } from 'vitest'
import { TIMEOUT } from './support.ts'
import { Cluster } from './volume-cluster.ts'

const FABRICS = ['fabric-0', 'fabric-1'] as const
const SLOW = { delayMs: 100, jitterMs: 20 } as const
/** Less than a slow path’s rest. */
const WHILE_MS = 8_000

class SlowPaths {
  readonly cluster: Cluster
  #acknowledged = 0
  readonly #refusals: string[] = []

  constructor(cluster: Cluster) {
    this.cluster = cluster
    cluster.world.sim.onRecord(record => {
      if (record.kind === 'guest.acknowledged' && record.vm === 'vm-1') this.#acknowledged += 1
      if (['vm.halt', 'vm.frozen', 'path.redirected'].includes(record.kind)) this.#refusals.push(record.kind)
    })
  }

  get host(): string {
    return this.cluster.state.vms.get('vm-1')!.placement!.host
  }

  slow(fabrics: readonly (typeof FABRICS)[number][]) {
    return this.cluster.world.sim.network.slow(
      { from: this.host, to: 'san-a', bothWays: true, network: fabrics, class: 'stream' },
      SLOW,
    )
  }

  path(fabric: string) {
    return pathViews(this.cluster.state, this.cluster.world.sim.now)[`${this.host}/${fabric}/san-a`]!
  }

  get states(): string[] {
    return FABRICS.map(fabric => this.path(fabric).state)
  }

  /** Entries that the guest was told are durable, in the next seconds. */
  async acknowledged(): Promise<number> {
    const before = this.#acknowledged
    await this.cluster.world.sim.runFor(WHILE_MS)
    return this.#acknowledged - before
  }

  /** Since this was asked last. */
  takeRefusals(): string[] {
    return this.#refusals.splice(0)
  }
}

async function slowPaths(seed: string): Promise<SlowPaths> {
  return new SlowPaths(await new Cluster(seed, ['san-a']).start())
}

describe('a slow path', TIMEOUT, () => {
  it('is demoted while its sibling answers ten times as fast, says why, and is trusted again after its rest', async () => {
    const paths = await slowPaths('slow-path')
    const { world } = paths.cluster
    const quiet = await paths.acknowledged()
    expect(quiet).toBeGreaterThan(100)
    expect(paths.states).toEqual(['up', 'up'])
    paths.takeRefusals()
    const slow = paths.slow(['fabric-0'])
    await paths.cluster.until(() => paths.states[0] === 'slow')
    expect(paths.path('fabric-0').why).toMatch(/^requests take \d{3} ms, on its siblings \d+\.\d$/)
    // Nothing of the guest's is left on it.
    expect(await paths.acknowledged()).toBeGreaterThan(0.9 * quiet)
    expect(paths.states).toEqual(['slow', 'up'])
    slow.heal()
    await paths.cluster.until(() => paths.states[0] === 'up', 60_000)
    await world.sim.runFor(WHILE_MS)
    expect(paths.states).toEqual(['up', 'up'])
    expect(paths.takeRefusals()).toEqual([])
  })

  it('that is slow again as soon as it is trusted rests twice as long', async () => {
    const paths = await slowPaths('slow-again')
    const { sim } = paths.cluster.world
    paths.slow(['fabric-1'])
    const rests: number[] = []
    for (let i = 0; i < 2; i += 1) {
      await paths.cluster.until(() => paths.states[1] === 'slow', 60_000)
      const since = sim.now
      await paths.cluster.until(() => paths.states[1] !== 'slow', 60_000)
      rests.push(sim.now - since)
    }
    const [first = 0, second = 0] = rests
    expect(second / first).toBeGreaterThan(1.7)
    expect(second / first).toBeLessThan(2.3)
  })

  it('is used where all are as slow: nothing times out, is frozen or redirected', async () => {
    const paths = await slowPaths('all-slow')
    paths.takeRefusals()
    const slow = paths.slow(FABRICS)
    const entries = await paths.acknowledged()
    // At some 0.2 s a write.
    expect(entries).toBeGreaterThan(10)
    expect(paths.states).not.toContain('failed')
    expect(paths.states).toContain('up')
    slow.heal()
    expect(await paths.acknowledged()).toBeGreaterThan(100)
    expect(paths.takeRefusals()).toEqual([])
  })
})
