import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { GIB, MIB } from '@stellwerk/runtime/units.ts'
import { beforeAll, describe, expect, test } from 'vitest'
import { lunFile } from '../../simulation/durability.ts'
import { COORDINATOR_HOST, World } from '../../simulation/world.ts'
import { FAULT_KINDS, type Fault, type FaultKind } from '../fault.ts'
import { beginSimFault, findsNothing, simRefuses } from './sim-faults.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const STORAGES = ['san-a', 'san-b']
let world: World
let lun = ''

beforeAll(async () => {
  world = new World({ seed: 'faults', hosts: HOSTS, storages: STORAGES, settings: {}, hostMemoryBytes: GIB })
  world.start()
  const { sim } = world
  const admitted = () => HOSTS.every(host => world.coordinator?.state.hosts.get(host)?.phase === 'admitted')
  expect(await sim.runUntil(admitted, 20_000)).toBe(true)
  world.command({ kind: 'volume-create', name: 'csv1', id: 'v', sizeBytes: 64 * MIB, storages: STORAGES })
  const served = () => world.agent('host-a') !== null && HOSTS.some(host => (world.agent(host)?.owned.length ?? 0) > 0)
  expect(await sim.runUntil(served, 20_000)).toBe(true)
  lun = world.coordinator?.state.volumes.get('csv1')?.legs.find(leg => leg.storage === 'san-a')?.lun ?? ''
})

const alive = (host: string, process: string): boolean => world.sim.host(host).process(process)?.alive === true
const paused = (host: string, process: string): boolean => world.sim.host(host).process(process)?.paused === true
const path = (network: 'cluster' | 'fabric-0' | 'fabric-1', from: string, to: string) =>
  world.sim.network.path({ network, from, to, class: 'control', fromProcess: '', toProcess: '', port: 1 })
const shape = (from: string, to: string) => path('cluster', from, to).rules.map(({ verdict }) => verdict)

/** Of each kind: the rest of the fault, and what shows that it is in force. */
const SHOWN: { readonly [kind in FaultKind]: { readonly with?: Partial<Fault>; readonly broken: () => boolean } } = {
  'agent-kill': { broken: () => !alive('host-a', 'host-a/agent') },
  'host-kill': { broken: () => !world.sim.host('host-a').powered },
  'host-pause': { broken: () => paused('host-a', 'host-a/agent') && paused('host-a', 'host-a/guardian') },
  'host-restart': { broken: () => !alive('host-a', 'host-a/agent') && !alive('host-a', 'host-a/guardian') },
  'coordinator-kill': { broken: () => !world.sim.host(COORDINATOR_HOST).powered },
  'coordinator-pause': { broken: () => paused(COORDINATOR_HOST, 'coordinator') },
  'storage-kill': { broken: () => !alive('san-a', 'san-a') },
  'storage-pause': { broken: () => paused('san-a', 'san-a') },
  'host-isolate': {
    with: { fabrics: false },
    broken: () =>
      path('cluster', 'host-b', 'host-a').state === 'silent' && path('fabric-0', 'host-a', 'san-a').state === 'open',
  },
  partition: {
    with: { peer: 'coordinator', oneWay: true },
    broken: () =>
      path('cluster', 'host-a', COORDINATOR_HOST).state === 'silent' &&
      path('cluster', COORDINATOR_HOST, 'host-a').state === 'open',
  },
  'ports-closed': {
    with: { peer: 'san-a', network: 'fabric-0' },
    broken: () => path('fabric-0', 'host-a', 'san-a').rules.some(({ verdict }) => verdict === 'refuse'),
  },
  loss: { with: { network: 'cluster', chance: 0.2 }, broken: () => isShaped({ loss: 0.2 }) },
  delay: {
    with: { network: 'cluster', delayMs: 30, jitterMs: 4 },
    broken: () => isShaped({ delayMs: 30, jitterMs: 4 }),
  },
  duplicate: { with: { chance: 1 }, broken: () => world.repeated.repeated > 0 },
  'slow-link': {
    with: { network: 'cluster', mibPerSecond: 2 },
    broken: () => isShaped({ bytesPerMs: (2 * MIB) / 1_000 }),
  },
  'cable-pull': {
    with: { fabric: 1 },
    broken: () =>
      path('fabric-1', 'host-a', 'san-b').state === 'silent' && path('fabric-1', 'host-b', 'san-b').state === 'open',
  },
  'fabric-down': {
    with: { fabric: 0 },
    broken: () => HOSTS.every(host => path('fabric-0', host, 'san-a').state === 'silent'),
  },
  'disk-slow': { with: { delayMs: 50 }, broken: () => world.sim.host('san-a').disk.faulty },
  'disk-full': { broken: () => isFull() },
  'io-error': { with: { chance: 0.5 }, broken: () => world.sim.host('san-a').disk.faulty },
  'corrupt-block': { broken: () => true },
  'clock-jump': {
    with: { byMs: 90_000 },
    broken: () => world.sim.host('host-a').wall() - world.sim.host('host-b').wall() > 80_000,
  },
}

function whole(): boolean {
  return (
    world.coordinator !== null &&
    HOSTS.every(host => world.coordinator?.state.liveHosts.get(host)?.verdict === 'up') &&
    HOSTS.every(host => world.agent(host)?.standing === 'admitted') &&
    STORAGES.every(name => alive(name, name))
  )
}

function isShaped(wanted: object): boolean {
  return shape('host-a', 'host-b').some(verdict => JSON.stringify(verdict) === JSON.stringify(wanted))
}

function isFull(): boolean {
  try {
    world.sim.host('san-a').disk.reserve(4_096, 'any')
    return false
  } catch {
    return true
  }
}

describe('in the simulator a fault is in force until it is healed', () => {
  for (const kind of FAULT_KINDS.filter(each => each !== 'corrupt-block')) {
    test(kind, async () => {
      const { sim } = world
      const { broken, with: more = {} } = SHOWN[kind]
      const fault: Fault = { id: 1, kind, atMs: 0, lastsMs: 1, host: 'host-a', storage: 'san-a', ...more }
      expect(simRefuses(fault, 2)).toBe(null)
      expect(broken()).toBe(false)
      let end = (): void => undefined
      sim.after(0, () => {
        expect(findsNothing(world, fault)).toBe(false)
        end = beginSimFault(world, fault, { random: new SimRandom('f'), lunOn: () => lun, idle: () => expect.fail() })
      })
      expect(await sim.runUntil(broken, 10_000)).toBe(true)
      sim.after(0, () => end())
      if (kind === 'duplicate') {
        await sim.runFor(3_000)
        const { repeated } = world.repeated
        await sim.runFor(3_000)
        expect(world.repeated.repeated).toBe(repeated)
      } else expect(await sim.runUntil(() => !broken(), 10_000)).toBe(true)
      // The next fault needs the whole cluster.
      expect(await sim.runUntil(whole, 30_000)).toBe(true)
    })
  }
})

test('a fault that finds nothing to hit says so: nobody counts it', async () => {
  const { sim } = world
  const fault = (kind: FaultKind): Fault => ({ id: 1, kind, atMs: 0, lastsMs: 1, host: 'host-a', storage: 'san-a' })
  const idle: string[] = []
  const begin = (kind: FaultKind, of: string | null): void => {
    const context = { random: new SimRandom('f'), lunOn: () => of, idle: () => void idle.push(kind) }
    sim.after(0, () => void beginSimFault(world, fault(kind), context))
  }
  begin('io-error', null)
  sim.after(0, () => sim.host(COORDINATOR_HOST).crash())
  begin('corrupt-block', lun)
  await sim.runFor(10)
  expect(idle).toEqual(['io-error', 'corrupt-block'])
  expect(findsNothing(world, fault('coordinator-kill'))).toBe(true)
  sim.after(0, () => sim.host('host-a').crash())
  await sim.runFor(10)
  const onHosts = ['agent-kill', 'host-kill', 'host-pause', 'host-restart'] as const
  expect(onHosts.map(kind => findsNothing(world, fault(kind)))).toEqual(onHosts.map(() => true))
  expect(findsNothing(world, fault('storage-kill'))).toBe(false)
})

test('what it can’t do it refuses, with a reason', () => {
  const refusal = (fault: Partial<Fault> & { kind: FaultKind }, storages = 2) =>
    simRefuses({ id: 1, atMs: 0, lastsMs: 1, host: 'host-a', ...fault }, storages)
  expect(refusal({ kind: 'loss', network: 'guest' })).toMatchObject({ code: 'fault-unsupported' })
  expect(refusal({ kind: 'duplicate', network: 'fabric-0' })?.message).toContain('a stream’s bytes can’t')
  expect(refusal({ kind: 'corrupt-block', storage: 'san-a' }, 1)?.message).toContain('no good copy')
  expect(refusal({ kind: 'corrupt-block', storage: 'san-a' })).toBe(null)
})

test('the volume is there that the disk faults are about', () => {
  expect(lunFile(world, 'san-a', lun)).not.toBe(null)
})
