// The last rungs of the storage-loss ladder: a host that is well, but has no way to its VM's storage, while others have.

import { storageRung } from '@stellwerk/coordinator/view/storage-ladder.ts'
import { describe, expect, it } from 'vitest'
import { VOLUME_BYTES } from '../../packages/cli/src/simulation/world.ts'
import { HOSTS, JudgedCluster } from './judged-cluster.ts'
import { guestAt, TIMEOUT } from './support.ts'

const FABRICS = ['fabric-0', 'fabric-1'] as const
const ISOLATED_MS = 10_000
/** Rungs on which the guest does nothing. */
const STILL = ['waiting', 'frozen']
const SETTINGS = { settings: { isolatedMs: ISOLATED_MS } }

/** The host's HBAs are dead, and nothing of its that a peer could carry gets through; heartbeats do. */
function strand({ world }: JudgedCluster, host: string): () => void {
  const { network } = world.sim
  const others = HOSTS.filter(name => name !== host)
  const faults = [
    network.cut(host, 'san-a', { network: FABRICS }),
    ...others.map(other => network.clog({ from: host, to: other, bothWays: true, class: 'io' })),
    ...[...others, 'san-a'].map(other => network.clog({ from: host, to: other, bothWays: true, network: FABRICS })),
  ]
  return () => {
    for (const fault of faults) fault.heal()
  }
}

function rung({ world }: JudgedCluster): string | undefined {
  const { state } = world.coordinator!
  return storageRung(state, state.vms.get('vm-1')!, world.sim.now)?.rung
}

describe('a host without a way to its VM’s storage (VM1, VM2, FEN1)', TIMEOUT, () => {
  it('keeps it waiting, and goes on by itself when it has a way again in time', async () => {
    const cluster = await new JudgedCluster('stranded-briefly', SETTINGS).start('san-a')
    const { host, placed, world } = cluster
    const mend = strand(cluster, host)
    // A path that nothing is heard of is given up by its link after ten seconds, if by nothing else before.
    expect(await cluster.until(() => STILL.includes(rung(cluster) ?? ''))).toBe(true)
    await world.sim.runFor(ISOLATED_MS - 2_000)
    const from = cluster.now
    await world.sim.runFor(1_000)
    expect(cluster.entries(from)).toBe(0)
    expect(STILL).toContain(rung(cluster))
    mend()
    await cluster.isWell()
    expect(cluster.placed).toMatchObject({ host, epoch: placed?.epoch })
  })

  it('loses it to a host that has one after isolatedMs: the VM starts there, and nothing it was told is lost', async () => {
    const cluster = await new JudgedCluster('stranded', SETTINGS).start('san-a')
    const { host, placed, world } = cluster
    const at = cluster.now
    const mend = strand(cluster, host)
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    expect(cluster.host).not.toBe(host)
    expect(cluster.now - at).toBeGreaterThan(ISOLATED_MS)
    const recordOf = (kind: string) => cluster.records.find(r => r.kind === kind && r.at > at)
    const why = 'it has had no way to san-a for 10 s, and its VMs can have one elsewhere'
    expect(recordOf('decision.fence')?.body).toMatchObject({ subject: host, why })
    // Its lease is not waited out: it is heard, and says that it runs nothing any more.
    expect(recordOf('vm.started')!.at - recordOf('decision.fence')!.at).toBeLessThan(2_000)
    await cluster.isWell()
    mend()
    expect(await cluster.until(() => world.coordinator?.state.hosts.get(host)?.phase === 'admitted')).toBe(true)
    await world.sim.runFor(5_000)
    await cluster.isWell()
  })

  it('moves live what does have a way, and only then loses the other: nothing of either is lost', async () => {
    const storages = ['san-a', 'san-b']
    const cluster = await new JudgedCluster('stranded-one', { ...SETTINGS, storages }).start('san-a')
    const { host, placed, world, records } = cluster
    world.command({ kind: 'volume-create', name: 'csv2', id: 'v2', sizeBytes: VOLUME_BYTES, storages: ['san-b'] })
    world.command(guestAt(host, 'vm-2', 'csv2'))
    const other = () => world.coordinator!.state.vms.get('vm-2')!.placement
    expect(await cluster.until(() => other()?.phase === 'running')).toBe(true)
    expect(other()?.host).toBe(host)
    const at = cluster.now
    const mend = strand(cluster, host)
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    const first = (kind: string) => records.find(r => r.kind === kind && r.at > at)
    expect(first('decision.strand')?.body).toMatchObject({
      subject: host,
      saw: { waiting: ['vm-1'], others: ['vm-2'] },
    })
    expect(first('decision.migrate')?.body).toMatchObject({ subject: 'vm-2' })
    expect(first('migration.committed')!.at).toBeLessThan(first('decision.fence')!.at)
    const lost = records.filter(r => r.kind === 'decision.vm-lost' && r.at > at)
    expect(lost.map(({ body }) => (body as { subject: string }).subject)).toEqual(['vm-1'])
    expect([cluster.host, other()?.host]).not.toContain(host)
    await cluster.isWell()
    mend()
    await world.sim.runFor(10_000)
    await cluster.isWell()
  })

  it('keeps it when the storage is away from all, however long, and after it has come back', async () => {
    const cluster = await new JudgedCluster('stranded-all', SETTINGS).start('san-a')
    const { host, placed, world } = cluster
    world.sim.host('san-a').process('san-a')?.kill()
    await world.sim.runFor(6 * ISOLATED_MS)
    world.startStorage('san-a')
    await cluster.isWell()
    await world.sim.runFor(2 * ISOLATED_MS)
    expect(cluster.placed).toMatchObject({ host, epoch: placed?.epoch })
    expect(HOSTS.map(name => world.coordinator?.state.hosts.get(name)?.phase)).toEqual(HOSTS.map(() => 'admitted'))
  })
})
