// A volume is deleted, and one of the same name is made, while hosts that had the first open are cut off or asleep: what they may
// still send changes nothing in the second.

import { describe, expect, it } from 'vitest'
import { lunFile } from '../../packages/cli/src/simulation/durability.ts'
import { createVm, VOLUME_BYTES } from '../../packages/cli/src/simulation/world.ts'
import { JudgedCluster } from './judged-cluster.ts'
import { TIMEOUT } from './support.ts'

const STORAGES = ['san-a', 'san-b']

/** Its VM is gone; the host that ran it has the volume open still. */
async function withoutVm(seed: string): Promise<JudgedCluster & { readonly had: string }> {
  const cluster = await new JudgedCluster(seed, { storages: STORAGES }).start(...STORAGES)
  const had = cluster.host
  cluster.world.command({ kind: 'vm-delete', name: 'vm-1' })
  expect(await cluster.until(() => cluster.world.coordinator?.state.vms.size === 0)).toBe(true)
  return Object.assign(cluster, { had })
}

async function madeAgain(cluster: JudgedCluster): Promise<void> {
  const { world } = cluster
  world.command({ kind: 'volume-create', name: 'csv1', id: 'v2', sizeBytes: VOLUME_BYTES, storages: STORAGES })
  world.command(createVm({ name: 'vm-2', volume: 'csv1', parameters: { writesPerSecond: 50, scratchPerSecond: 20 } }))
  await cluster.isWell()
}

describe('a volume that is deleted', TIMEOUT, () => {
  it('waits for a host that is cut off and may have it open', async () => {
    const cluster = await withoutVm('deleted-cut')
    const { world, had } = cluster
    const { sim } = world
    const cut = sim.network.isolate(had, { network: 'cluster' })
    await sim.runFor(3_000)
    world.command({ kind: 'volume-delete', name: 'csv1', force: false })
    await sim.runFor(20_000)
    expect(world.coordinator?.state.volumes.get('csv1')).toMatchObject({ phase: 'deleting' })
    for (const storage of STORAGES) expect(lunFile(world, storage, 'csv1')).not.toBe(null)
    cut.heal()
    expect(await cluster.until(() => world.coordinator?.state.volumes.size === 0)).toBe(true)
    for (const storage of STORAGES) expect(lunFile(world, storage, 'csv1')).toBe(null)
    await madeAgain(cluster)
  })

  it('is gone while a host that had it open sleeps, which is fenced for it and wakes up to its successor', async () => {
    const cluster = await withoutVm('deleted-asleep')
    const { world, had } = cluster
    world.sim.host(had).pause()
    world.command({ kind: 'volume-delete', name: 'csv1', force: false })
    expect(await cluster.until(() => world.coordinator?.state.volumes.size === 0)).toBe(true)
    await madeAgain(cluster)
    world.sim.host(had).resume()
    expect(await cluster.until(() => world.coordinator?.state.hosts.get(had)?.phase === 'admitted')).toBe(true)
    await cluster.isWell()
  })

  it('goes, with a VM that cannot end, when its storages are lost', async () => {
    const cluster = await new JudgedCluster('deleted-lost', { storages: [...STORAGES, 'san-c'] }).start(...STORAGES)
    const { world, host } = cluster
    for (const storage of STORAGES) world.sim.host(storage).crash({ unsynced: 'lost' })
    world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 0 })
    await world.sim.runFor(10_000)
    expect(cluster.placed).toMatchObject({ host, phase: 'stopping' })
    world.command({ kind: 'volume-delete', name: 'csv1', force: true })
    const machines = () => world.agent(host)?.machines ?? []
    expect(await cluster.until(() => machines().length === 0)).toBe(true)
    expect(world.coordinator?.state.vms.size).toBe(0)
    for (const storage of STORAGES) world.startStorage(storage)
    expect(await cluster.until(() => world.coordinator?.state.volumes.size === 0)).toBe(true)
    await madeAgain(cluster)
  })
})
