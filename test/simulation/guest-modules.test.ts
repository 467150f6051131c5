// Operators' guest modules in the simulated cluster: kept by the coordinator, fetched by whoever is to run them, over links
// and past crashes that cut a transfer short. What runs is the model; that its module came first is what is looked at.

import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { describe, expect, it } from 'vitest'
import { COORDINATOR_HOST, World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume, TIMEOUT } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000
const PATH = 'guests'

function moduleOf(seed: string): Uint8Array {
  const random = new SimRandom(seed)
  return Uint8Array.from({ length: 3 * MIB + 17 }, () => random.int(256))
}

async function cluster(seed: string): Promise<{ world: World; module: Uint8Array; digest: string }> {
  const world = new World({ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB })
  await startWithVolume(world)
  const module = moduleOf(seed)
  return { world, module, digest: digestOf(module) }
}

/** As the API does it. */
function create(world: World, module: Uint8Array, name = 'vm-1', host: string | null = null): { code: string } {
  const result = { code: 'pending' }
  const { coordinator, sim } = world
  const guest = guestOfDigest(digestOf(module))
  sim.enter(sim.host(COORDINATOR_HOST).process('coordinator')!, () => {
    coordinator!.guests
      .hold(module, () =>
        coordinator!.command({
          kind: 'vm-create',
          name,
          spec: { hypervisor: 'model', guest, memoryBytes: 256 * MIB, parameters: {} },
          disks: [{ volume: 'csv1', sizeBytes: 8 * MIB }],
          start: true,
          priority: 0,
          host,
        }),
      )
      .then(
        () => {
          result.code = ''
        },
        (error: { code: string }) => {
          result.code = error.code
        },
      )
  })
  return result
}

const placed = (world: World, name = 'vm-1') => world.coordinator?.state.vms.get(name)?.placement ?? null
const runs = (world: World, name = 'vm-1') => placed(world, name)?.phase === 'running'

/** The names of modules in a process's directory. */
function kept(world: World, host: string, process: string): Promise<string[]> {
  const { sim } = world
  let names: string[] | null = null
  sim.enter(sim.host(host).process(process)!, () => {
    void sim
      .host(host)
      .process(process)!
      .env.files.list(PATH)
      .then(found => {
        names = found
      })
  })
  return sim.runUntil(() => names !== null, 1_000).then(() => names ?? [])
}

const atAgent = (world: World, host: string) => kept(world, host, `${host}/agent`)
const atCoordinator = (world: World) => kept(world, COORDINATOR_HOST, 'coordinator')

describe('a guest module of an operator', () => {
  it(
    'is fetched by the host that runs it, by the target of a migration, and is gone with its last VM',
    async () => {
      const { world, module, digest } = await cluster('modules')
      const made = create(world, module, 'vm-1', 'host-a')
      expect(await world.sim.runUntil(() => runs(world), SETTLE_MS)).toBe(true)
      expect(made.code).toBe('')
      expect(placed(world)?.host).toBe('host-a')
      expect([await atCoordinator(world), await atAgent(world, 'host-a'), await atAgent(world, 'host-b')]).toEqual([
        [digest],
        [digest],
        [],
      ])
      world.command({ kind: 'vm-migrate', name: 'vm-1', to: 'host-b', id: 'm1' })
      expect(await world.sim.runUntil(() => placed(world)?.host === 'host-b' && runs(world), SETTLE_MS)).toBe(true)
      expect(await atAgent(world, 'host-b')).toEqual([digest])
      // The name is taken: nothing is changed, and another module that came with it is not kept.
      const refused = create(world, module.subarray(1))
      await world.sim.runFor(500)
      expect([refused.code, await atCoordinator(world)]).toEqual(['duplicate-name', [digest]])
      world.command({ kind: 'vm-delete', name: 'vm-1' })
      expect(await world.sim.runUntil(() => world.coordinator?.state.vms.size === 0, SETTLE_MS)).toBe(true)
      await world.sim.runFor(70_000)
      expect([await atCoordinator(world), await atAgent(world, 'host-a'), await atAgent(world, 'host-b')]).toEqual([
        [],
        [],
        [],
      ])
    },
    TIMEOUT.timeout,
  )

  it(
    'comes whole though links break and the coordinator dies in the middle of its way',
    async () => {
      for (let i = 0; i < 8; i++) {
        const { world, module, digest } = await cluster(`modules-${i}`)
        const random = new SimRandom(`faults-${i}`)
        create(world, module, 'vm-1', 'host-a')
        const starting = () => placed(world) !== null
        expect(await world.sim.runUntil(starting, SETTLE_MS)).toBe(true)
        const host = placed(world)?.host ?? ''
        for (let round = 0; round < 3; round++) {
          await world.sim.runFor(random.int(60))
          if (random.chance(0.5)) {
            world.sim.host(COORDINATOR_HOST).crash({ unsynced: 'lost' })
            await world.sim.runFor(200 + random.int(500))
            world.startCoordinator()
          } else {
            const cut = world.sim.network.cut(host, COORDINATOR_HOST, { network: 'cluster' })
            await world.sim.runFor(200 + random.int(1_500))
            cut.heal()
          }
          await world.sim.runFor(random.int(1_200))
        }
        expect([i, await world.sim.runUntil(() => runs(world), SETTLE_MS)]).toEqual([i, true])
        const at = placed(world)?.host ?? ''
        expect([i, await atAgent(world, at)]).toEqual([i, [digest]])
      }
    },
    TIMEOUT.timeout,
  )

  it(
    'that the coordinator has lost comes back from an agent; if none has it, the VM says so',
    async () => {
      const { world, module, digest } = await cluster('modules-lost')
      create(world, module, 'vm-1', 'host-a')
      expect(await world.sim.runUntil(() => runs(world), SETTLE_MS)).toBe(true)
      const lose = async (host: string, process: string): Promise<void> => {
        const files = world.sim.host(host).process(process)!.env.files
        world.sim.enter(world.sim.host(host).process(process)!, () => void files.remove(`${PATH}/${digest}`))
        await world.sim.runFor(200)
      }
      await lose(COORDINATOR_HOST, 'coordinator')
      world.sim.host(COORDINATOR_HOST).crash({ unsynced: 'lost' })
      world.startCoordinator()
      await world.sim.runFor(3_000)
      expect(await atCoordinator(world)).toEqual([])
      world.command({ kind: 'vm-migrate', name: 'vm-1', to: 'host-b', id: 'm1' })
      expect(await world.sim.runUntil(() => placed(world)?.host === 'host-b' && runs(world), SETTLE_MS)).toBe(true)
      expect(await atCoordinator(world)).toEqual([digest])

      world.command({ kind: 'vm-stop', name: 'vm-1' })
      expect(await world.sim.runUntil(() => placed(world) === null, SETTLE_MS)).toBe(true)
      for (const host of ['host-a', 'host-b']) await lose(host, `${host}/agent`)
      // What was given away a moment ago is still in memory.
      await world.sim.runFor(35_000)
      await lose(COORDINATOR_HOST, 'coordinator')
      world.sim.host(COORDINATOR_HOST).crash({ unsynced: 'lost' })
      world.startCoordinator()
      await world.sim.runFor(3_000)
      world.command({ kind: 'vm-start', name: 'vm-1', host: 'host-c' })
      const said = () => world.coordinator?.state.liveHosts.get('host-c')?.machines.get('vm-1')?.why ?? ''
      expect(
        await world.sim.runUntil(() => /neither the coordinator nor an agent has it/.test(said()), SETTLE_MS),
      ).toBe(true)
      expect(placed(world)?.phase).toBe('starting')
      world.command({ kind: 'vm-stop', name: 'vm-1' })
      expect(await world.sim.runUntil(() => placed(world) === null, SETTLE_MS)).toBe(true)
    },
    TIMEOUT.timeout,
  )
})
