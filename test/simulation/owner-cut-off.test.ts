// A volume's owner that has lost the coordinator, and only that: its peers reach it, and so do orders, through them.

import type { TraceRecord } from '@stellwerk/runtime/environment.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { createVm, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000
/** The death is attested, so nothing is waited out: a fence, the owner's recovery, a start. */
const FAILOVER_MS = 5_000

/** A VM on one host, its volume's owner on another, which is cut off from the coordinator. */
async function ownerCutOff(seed: string) {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB })
  const { sim } = world
  const records: TraceRecord[] = []
  sim.onRecord(record => {
    if (record.level === 'decision') records.push(record)
  })
  const placed = () => world.coordinator?.state.vms.get('vm-1')?.placement ?? null
  const owner = () => world.coordinator?.state.volumes.get('csv1')?.owner ?? null
  await startWithVolume(world)
  world.command(createVm({ name: 'vm-1', volume: 'csv1', parameters: {} }))
  expect(await sim.runUntil(() => placed()?.phase === 'running', SETTLE_MS)).toBe(true)
  const host = placed()?.host ?? ''
  const [cutOff = '', third = ''] = HOSTS.filter(name => name !== host)
  world.command({ kind: 'volume-own', name: 'csv1', host: cutOff })
  await sim.runFor(3_000)
  const cut = sim.network.cut(cutOff, 'coord', { network: 'cluster' })
  await sim.runFor(4_000)
  expect(world.coordinator?.state.liveHosts.get(cutOff)?.verdict).toBe('link-cut')
  return { world, sim, records, placed, owner, host, cutOff, third, cut }
}

describe('a volume whose owner is cut off from the coordinator alone (LIV1)', () => {
  it('does not keep a VM of it from being started again elsewhere, and stays with its owner', TIMEOUT, async () => {
    const { world, sim, placed, owner, host, cutOff, third } = await ownerCutOff('owner-cut-off')
    sim.host(host).process(`${host}/agent`)?.kill()
    const back = () => placed()?.phase === 'running' && placed()?.host === third
    expect(await sim.runUntil(back, FAILOVER_MS)).toBe(true)
    expect(owner()?.host).toBe(cutOff)
    // Disks are made and deleted likewise.
    world.command(createVm({ name: 'vm-2', volume: 'csv1', parameters: {} }))
    const made = () => world.coordinator?.state.vms.get('vm-2')?.placement?.phase === 'running'
    expect(await sim.runUntil(made, FAILOVER_MS)).toBe(true)
    world.command({ kind: 'vm-delete', name: 'vm-2' })
    expect(await sim.runUntil(() => world.coordinator?.state.vms.has('vm-2') === false, FAILOVER_MS)).toBe(true)
  })

  it('is given to another when its agent dies there', TIMEOUT, async () => {
    const { world, sim, placed, owner, host, cutOff, third } = await ownerCutOff('owner-gone')
    sim.host(cutOff).process(`${cutOff}/agent`)?.kill()
    await sim.runFor(2_000)
    sim.host(host).process(`${host}/agent`)?.kill()
    const back = () => placed()?.phase === 'running' && placed()?.host === third
    expect(await sim.runUntil(back, 4 * world.settings.leaseMs + FAILOVER_MS)).toBe(true)
    expect(owner()?.host).not.toBe(cutOff)
  })

  it(
    'does not make a disk anew for an order that was held up, when that comes after the VM was deleted',
    TIMEOUT,
    async () => {
      const { world, sim, cutOff, cut } = await ownerCutOff('order-held-up')
      cut.heal()
      await sim.runFor(5_000)
      // Into the link that is cut, and again through a peer.
      const again = sim.network.cut(cutOff, 'coord', { network: 'cluster' })
      world.command(createVm({ name: 'vm-2', volume: 'csv1', parameters: {} }))
      const made = () => world.coordinator?.state.vms.get('vm-2')?.placement?.phase === 'running'
      expect(await sim.runUntil(made, SETTLE_MS)).toBe(true)
      world.command({ kind: 'vm-delete', name: 'vm-2' })
      expect(await sim.runUntil(() => world.coordinator?.state.vms.has('vm-2') === false, FAILOVER_MS)).toBe(true)
      again.heal()
      await sim.runFor(5_000)
      let disks: unknown = null
      world.askOwner('csv1', 'volume.list-disks', { volume: 'csv1' }, answer => {
        disks = (answer.reply as { disks: { disk: string }[] }).disks.map(({ disk }) => disk)
      })
      expect(await sim.runUntil(() => disks !== null, FAILOVER_MS)).toBe(true)
      expect(disks).toEqual(['vm-1-0'])
    },
  )
})
