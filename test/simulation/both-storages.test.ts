// Both storages of a mirror go and come back, in either order, with the coordinator started anew between: the leg that is
// behind never stands in for the one that has it all, unless an operator says so.

import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { lunFile } from '../../packages/cli/src/simulation/durability.ts'
import { HOSTS, JudgedCluster } from './judged-cluster.ts'
import { TIMEOUT } from './support.ts'
import { LAYOUT } from './volume-cluster.ts'

const STORAGES = ['san-a', 'san-b'] as const
const WHILE_MS = 20_000

class Mirror {
  readonly cluster: JudgedCluster

  constructor(cluster: JudgedCluster) {
    this.cluster = cluster
  }

  static async start(seed: string): Promise<Mirror> {
    return new Mirror(await new JudgedCluster(seed, { storages: STORAGES }).start(...STORAGES))
  }

  powerOff(storage: string): void {
    this.cluster.world.sim.host(storage).crash({ unsynced: 'lost' })
  }

  powerOn(storage: string): void {
    this.cluster.world.startStorage(storage)
  }

  async restartCoordinator(): Promise<void> {
    const { world } = this.cluster
    world.sim.host('coord').crash({ unsynced: 'lost' })
    await world.sim.runFor(2_000)
    world.startCoordinator()
    await world.sim.runFor(WHILE_MS)
  }

  /** This one is lost, and the guest goes on without it. */
  async fallBehind(storage: string): Promise<void> {
    this.powerOff(storage)
    expect(await this.cluster.until(() => this.role(storage) === 'stale')).toBe(true)
    await this.cluster.isWell()
  }

  async moveTo(host: string): Promise<void> {
    const { cluster } = this
    cluster.world.command({ kind: 'vm-migrate', name: 'vm-1', to: host, id: `to-${host}` })
    expect(await cluster.until(() => cluster.host === host && cluster.placed?.phase === 'running')).toBe(true)
  }

  role(storage: string): string | undefined {
    return this.cluster.roles.find(each => each.startsWith(storage))?.split(' ')[1]
  }

  async standsStill(): Promise<void> {
    // What was acknowledged may be on its way to the observer.
    await this.cluster.world.sim.runFor(1_000)
    const from = this.cluster.now
    await this.cluster.world.sim.runFor(WHILE_MS)
    expect(this.cluster.entries(from)).toBe(0)
  }

  async isWhole(): Promise<void> {
    await this.cluster.isWell()
    expect(await this.cluster.until(() => STORAGES.every(storage => this.role(storage) === 'in-sync'))).toBe(true)
    await this.cluster.isWell()
  }

  force(storage: string): Promise<string> {
    const { world } = this.cluster
    return new Promise(resolve => {
      world.command({ kind: 'volume-force-leg', name: 'csv1', leg: storage }, result =>
        resolve(result.ok ? 'ok' : result.code),
      )
    })
  }

  async forced(storage: string): Promise<string> {
    let code: string | null = null
    void this.force(storage).then(said => {
      code = said
    })
    expect(await this.cluster.until(() => code !== null)).toBe(true)
    return code!
  }
}

describe('both storages of a mirror (MIR1, VM2)', TIMEOUT, () => {
  it.each([
    ['the leg that is behind', 'san-a', 'san-b'],
    ['the other', 'san-b', 'san-a'],
  ])('one was lost before the other, and %s comes back first', async (_, first, second) => {
    const mirror = await Mirror.start(`both-${first}-first`)
    await mirror.fallBehind('san-a')
    mirror.powerOff('san-b')
    await mirror.cluster.world.sim.runFor(3_000)
    await mirror.restartCoordinator()
    mirror.powerOn(first)
    await mirror.cluster.world.sim.runFor(WHILE_MS)
    await mirror.restartCoordinator()
    // It has not what was acknowledged since.
    expect(mirror.role('san-a')).not.toBe('in-sync')
    if (first === 'san-a') await mirror.standsStill()
    else await mirror.cluster.isWell()
    mirror.powerOn(second)
    await mirror.isWhole()
  })

  it.each(STORAGES)('both lost power at once, and %s comes back first: the guest goes on with it', async first => {
    const mirror = await Mirror.start(`at-once-${first}`)
    for (const storage of STORAGES) mirror.powerOff(storage)
    await mirror.restartCoordinator()
    await mirror.standsStill()
    mirror.powerOn(first)
    await mirror.cluster.isWell()
    await mirror.restartCoordinator()
    mirror.powerOn(STORAGES.find(storage => storage !== first)!)
    await mirror.isWhole()
  })

  it('one byte that the legs do not have alike is seen', async () => {
    const { cluster } = await Mirror.start('unlike')
    await cluster.isWell()
    // Where its guest writes nothing.
    for (let extent = 0; extent < LAYOUT.extentCount; extent += 1) {
      lunFile(cluster.world, 'san-a', 'csv1')!.corrupt(extentAddress(LAYOUT, extent) + 3 * MIB, new Uint8Array([7]))
    }
    expect(await cluster.until(() => cluster.monitors.violations.length > 0)).toBe(true)
    expect(cluster.monitors.violations[0]?.rule).toBe('MIR1')
  })

  it('hosts lost power with them: whoever was behind is still behind after all have come back', async () => {
    const mirror = await Mirror.start('all-dark')
    const { world } = mirror.cluster
    await mirror.fallBehind('san-a')
    for (const name of ['coord', 'san-b', ...HOSTS]) world.sim.host(name).crash({ unsynced: 'lost' })
    await world.sim.runFor(5_000)
    mirror.powerOn('san-a')
    world.startCoordinator()
    for (const host of HOSTS) world.startHost(host)
    await mirror.standsStill()
    mirror.powerOn('san-b')
    await mirror.isWhole()
  })
})

/** The VM moves after the leg has fallen behind; then that is all that is left, and an operator has the volume go on with it. */
async function forcedWhereItMoved(seed: string): Promise<{ mirror: Mirror; from: string; there: string }> {
  const mirror = await Mirror.start(seed)
  const { cluster } = mirror
  const from = cluster.host
  await mirror.fallBehind('san-a')
  await mirror.moveTo(HOSTS.find(name => name !== from)!)
  await cluster.isWell()
  const there = cluster.host
  mirror.powerOff('san-b')
  mirror.powerOn('san-a')
  await mirror.standsStill()
  cluster.world.command({ kind: 'vm-stop', name: 'vm-1' })
  // Its guest has ended; what that had in flight waits for the leg that is lost.
  await cluster.world.sim.runFor(WHILE_MS)
  expect(await mirror.forced('san-a')).toBe('ok')
  expect(await cluster.until(() => cluster.placed === null)).toBe(true)
  const at = cluster.now
  cluster.world.command({ kind: 'vm-start', name: 'vm-1', host: there })
  expect(await cluster.until(() => cluster.entries(at) > 20)).toBe(true)
  return { mirror, from, there }
}

/** What a host that was at work on it before makes equal when it opens the volume again, while the VM runs elsewhere. */
async function copiedUnderAnother(seed: string): Promise<string[]> {
  const { mirror, from } = await forcedWhereItMoved(seed)
  const { cluster } = mirror
  mirror.powerOn('san-b')
  expect(await cluster.until(() => mirror.role('san-b') === 'in-sync')).toBe(true)
  const copies: string[] = []
  const at = cluster.now
  cluster.world.sim.onRecord(record => {
    const isDone = cluster.records.some(({ kind, at: when }) => kind === 'migration.committed' && when > at)
    if (record.kind === 'mirror.copy' && record.host === from && !isDone) copies.push(JSON.stringify(record.body))
  })
  await mirror.moveTo(from)
  const fromThen = cluster.now
  expect(await cluster.until(() => cluster.entries(fromThen) > 20)).toBe(true)
  return copies
}

describe('a leg that is behind, when all else is lost', TIMEOUT, () => {
  afterEach(() => canaries.clear())

  it('is opened anew by a host that had the volume open only after it had fallen behind', async () => {
    const { mirror, there } = await forcedWhereItMoved('forced-unknown')
    const { cluster } = mirror
    expect(cluster.host).toBe(there)
    expect(cluster.records.filter(r => r.kind === 'decision.vm-failed')).toEqual([])
  })

  it('keeps nothing of what a host had marked there when it fell behind: that copies nothing under another’s writes', async () => {
    expect(await copiedUnderAnother('forced-marks')).toEqual([])
  })

  it('and does with forced-marks-kept', async () => {
    canaries.add('forced-marks-kept')
    expect((await copiedUnderAnother('forced-marks')).length).toBeGreaterThan(0)
  })

  it('is gone on with on an operator’s word alone, with what it has; the other is copied in full when it comes back', async () => {
    const mirror = await Mirror.start('forced')
    const { cluster } = mirror
    await mirror.fallBehind('san-a')
    mirror.powerOff('san-b')
    mirror.powerOn('san-a')
    await mirror.standsStill()
    expect(await mirror.forced('san-b')).toBe('in-sync')
    expect(await mirror.forced('san-a')).toBe('volume-in-use')
    cluster.world.command({ kind: 'vm-stop', name: 'vm-1' })
    // Its guest has ended; what that had in flight waits for the leg that is lost.
    await cluster.world.sim.runFor(WHILE_MS)
    expect(cluster.placed?.phase).toBe('stopping')
    expect(await mirror.forced('san-a')).toBe('ok')
    expect([mirror.role('san-a'), mirror.role('san-b')]).toEqual(['in-sync', 'stale'])
    expect(await cluster.until(() => cluster.placed === null)).toBe(true)
    const from = cluster.now
    cluster.world.command({ kind: 'vm-start', name: 'vm-1', host: null })
    expect(await cluster.until(() => cluster.entries(from) > 20)).toBe(true)
    // What only the other leg had is what the operator gave up, and nothing else is amiss.
    expect(new Set(cluster.monitors.violations.map(({ rule }) => rule))).toEqual(new Set(['VM2', 'IO1']))
    mirror.powerOn('san-b')
    const copied = () => mirror.role('san-b') === 'in-sync'
    expect(await cluster.until(copied)).toBe(true)
    const fromThen = cluster.now
    expect(await cluster.until(() => cluster.entries(fromThen) > 20)).toBe(true)
  })
})
