// A real machine outlives its agent: the next one takes it over where it is, or its guardian ends it in time; it never runs twice.

import type { Json, TraceRecord } from '@stellwerk/runtime/environment.ts'
import type { SimProcess } from '@stellwerk/runtime/sim/process.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { World } from '../../packages/cli/src/simulation/world.ts'
import { startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b', 'host-c']
const SETTLE_MS = 30_000

interface Bench {
  readonly world: World
  readonly runs: TraceRecord[]
  readonly acks: number[]
  readonly recovered: number[]
  until(what: string, predicate: () => boolean, limitMs?: number): Promise<void>
  /** The program that runs the VM on the host. */
  machine(host: string): SimProcess | null
  agent(host: string): SimProcess
}

/** A cluster whose VM runs on host-a; without `supervise` nobody starts an agent again that has died. */
async function bench(seed: string, supervise = true, parameters: { agent?: string } = {}): Promise<Bench> {
  const world = new World({
    ...{ seed, hosts: HOSTS, storages: ['san-a', 'san-b'], settings: {}, hostMemoryBytes: 4 * GIB, qemu: true },
  })
  const config = world.guardianConfig.bind(world)
  world.guardianConfig = (name, at) => ({ ...config(name, at), supervise })
  const runs: TraceRecord[] = []
  const acks: number[] = []
  const recovered: number[] = []
  world.sim.onRecord(record => {
    if (record.kind === 'vm.run') runs.push(record)
    if (record.kind === 'guest.acknowledged') acks.push((record.body as { entry: number }).entry)
    if (record.kind === 'guest.recovered') recovered.push((record.body as { entry: number }).entry)
  })
  const until = async (what: string, predicate: () => boolean, limitMs = SETTLE_MS): Promise<void> => {
    expect(await world.sim.runUntil(predicate, limitMs), what).toBe(true)
  }
  await startWithVolume(world, ['san-a', 'san-b'])
  world.create({ name: 'vm-1', hypervisor: 'qemu', volume: 'csv1', parameters })
  await until('it runs and writes', () => acks.length > 20)
  const of = (host: string, name: string) =>
    world.sim.host(host).processes.find(each => each.alive && each.name === name)
  return {
    ...{ world, runs, acks, recovered, until },
    machine: host => of(host, 'vm-1/qemu') ?? null,
    agent: host => of(host, `${host}/agent`) as SimProcess,
  }
}

const bodyOf = (record: TraceRecord | undefined) => record?.body as { [name: string]: Json } | undefined

test('VM1 VM2: an agent that comes back takes its machine over, which has lost nothing and was started once', async () => {
  const { agent, acks, machine, recovered, runs, until, world } = await bench('adopted')
  const before = machine('host-a')
  const heard = acks.length
  agent('host-a').kill()
  const killedAt = world.sim.now
  await until('it goes on', () => acks.length > heard + 20)
  expect(world.sim.now - killedAt).toBeLessThan(3_000)
  expect(runs.map(run => [bodyOf(run)?.['how'], run.host])).toEqual([
    ['start', 'host-a'],
    ['adopt', 'host-a'],
  ])
  expect(bodyOf(runs[1])?.['instance']).toBe(bodyOf(runs[0])?.['instance'])
  expect(bodyOf(runs[1])?.['epoch']).toBe(Number(bodyOf(runs[0])?.['epoch']) + 1)
  // The same process, its guest never began anew, and what it says goes on where it was.
  expect([machine('host-a'), recovered.length]).toEqual([before, 1])
  expect(Math.max(...acks)).toBeGreaterThan(acks.length - 100)
})

test('VM1 VM2: also where the agent that died was the owner of its volume', async () => {
  const { agent, acks, machine, recovered, until, world } = await bench('owner')
  world.command({ kind: 'volume-own', name: 'csv1', host: 'host-a' })
  const owner = () => world.coordinator?.state.volumes.get('csv1')?.owner?.host
  const writes = async (): Promise<void> => {
    const heard = acks.length
    await until('it writes on', () => acks.length > heard + 20)
  }
  await until('it is the owner', () => owner() === 'host-a')
  await writes()
  const before = machine('host-a')
  agent('host-a').kill()
  const killedAt = world.sim.now
  await writes()
  expect(world.sim.now - killedAt).toBeLessThan(3_000)
  expect([machine('host-a'), recovered.length]).toEqual([before, 1])
})

test('VM1 FEN1: if no agent comes back, the machine ends before its right to run does, and starts elsewhere within lease + 3 s', async () => {
  const { agent, machine, runs, until, world } = await bench('abandoned', false)
  const { leaseMs } = world.settings
  let givenAt = 0
  world.sim.onRecord(({ kind, host }) => {
    if (host === 'host-a' && (kind === 'lease.granted' || kind === 'storage.probed')) givenAt = world.sim.now
  })
  await until('it has a lease', () => givenAt > 0)
  agent('host-a').kill()
  const killedAt = world.sim.now
  await until('its guardian has ended it', () => machine('host-a') === null)
  expect(world.sim.now - killedAt).toBeGreaterThan(leaseMs - world.settings.heartbeatMs * 2)
  expect(world.sim.now).toBeLessThan(givenAt + leaseMs)
  expect(runs).toHaveLength(1)
  await until('it runs elsewhere', () => runs.length > 1)
  expect(world.sim.now - killedAt).toBeLessThan(leaseMs + 3_000)
  expect([bodyOf(runs[1])?.['how'], runs[1]?.host]).toEqual(['start', expect.not.stringMatching('host-a')])
})

test('VM2: a machine that dies before it is taken over starts anew, and its host is in service again', async () => {
  const { agent, machine, recovered, runs, until, world } = await bench('gone')
  const left = machine('host-a')
  agent('host-a').kill()
  await until('the next agent is there', () => agent('host-a') !== undefined)
  agent('host-a').pause()
  left?.kill()
  await world.sim.runUntil(() => false, 500)
  agent('host-a').resume()
  await until('it runs again', () => recovered.length > 1)
  expect(runs.map(run => bodyOf(run)?.['how'])).toEqual(['start', 'start'])
  await until('the host is admitted', () => world.coordinator?.state.hosts.get('host-a')?.phase === 'admitted')
})

test('VM1: agent after agent dies, and the same machine runs on', async () => {
  const { agent, acks, machine, recovered, runs, until } = await bench('again and again')
  const before = machine('host-a')
  for (let times = 1; times <= 4; times += 1) {
    agent('host-a').kill()
    const heard = acks.length
    await until(`it goes on after death ${times}`, () => acks.length > heard + 20)
  }
  expect([machine('host-a'), recovered.length]).toEqual([before, 1])
  expect(runs.map(run => bodyOf(run)?.['how'])).toEqual(['start', 'adopt', 'adopt', 'adopt', 'adopt'])
})

test('an agent that dies before it has taken its machine over leaves it to the next one', async () => {
  const { agent, acks, machine, recovered, until, world } = await bench('too early')
  const before = machine('host-a')
  agent('host-a').kill()
  for (let times = 0; times < 3; times += 1) {
    await until('the next agent is there', () => agent('host-a') !== undefined)
    await world.sim.runUntil(() => false, 20)
    agent('host-a').kill()
  }
  const heard = acks.length
  await until('it goes on', () => acks.length > heard + 20)
  expect([machine('host-a'), recovered.length]).toEqual([before, 1])
})

test('a VM that is being stopped when its agent dies is not taken over', async () => {
  const { agent, machine, until, world } = await bench('unwanted')
  const state = () => world.coordinator?.state.vms.get('vm-1')
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  await until('it is told to end', () => state()?.placement?.phase === 'stopping')
  agent('host-a').kill()
  await until('it is stopped', () => state()?.placement === null)
  expect(machine('host-a')).toBeNull()
  await until('the host is admitted', () => world.coordinator?.state.hosts.get('host-a')?.phase === 'admitted')
})

test.each([0, 1, 20, 60])(
  'an agent that dies %i ms after it has taken the machine over leaves it to the next one',
  async ms => {
    const { agent, acks, machine, recovered, until, world } = await bench(`soon/${ms}`)
    const before = machine('host-a')
    let isStruck = false
    world.sim.onRecord(({ kind, body }) => {
      if (isStruck || kind !== 'vm.run' || (body as { how?: string }).how !== 'adopt') return
      isStruck = true
      world.sim.after(ms, () => agent('host-a').kill())
    })
    agent('host-a').kill()
    await until('it has died again', () => isStruck)
    const heard = acks.length
    await until('it goes on', () => acks.length > heard + 40)
    expect([machine('host-a'), recovered.length]).toEqual([before, 1])
  },
)

test.each([0, 1, 2, 4, 20])(
  'VM1: it is stopped %i ms into being taken over: it has ended when it counts as stopped',
  async ms => {
    const { agent, machine, until, world } = await bench(`stopped/${ms}`)
    const state = () => world.coordinator?.state.vms.get('vm-1')
    const here = () => world.agent('host-a')?.machines.find(({ vm }) => vm === 'vm-1')
    agent('host-a').kill()
    await until('it is being taken over', () => here()?.state === 'starting')
    await world.sim.runUntil(() => false, ms)
    world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 0 })
    await until('it is stopped', () => state()?.placement === null)
    expect(machine('host-a')).toBeNull()
    await until('the host is admitted', () => world.coordinator?.state.hosts.get('host-a')?.phase === 'admitted')
  },
)

test('VM2: a machine is not taken over when another has run since, on its disks', async () => {
  const { agent, acks, machine, until, world } = await bench('outdated')
  const state = () => world.coordinator?.state.vms.get('vm-1')
  const stopped = () => until('it is stopped', () => state()?.placement === null)
  agent('host-a').kill()
  await until('it is being taken over', () => world.agent('host-a')?.machines[0]?.state === 'starting')
  world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 0 })
  await stopped()
  world.command({ kind: 'vm-start', name: 'vm-1', host: 'host-b' })
  const heard = acks.length
  await until('it runs elsewhere', () => acks.length > heard + 5)
  world.command({ kind: 'vm-stop', name: 'vm-1', graceMs: 0 })
  await stopped()
  let isStruck = false
  world.sim.onRecord(({ kind }) => {
    if (isStruck || kind !== 'decision.place') return
    isStruck = true
    world.sim.after(0, () => agent('host-a').kill())
  })
  world.command({ kind: 'vm-start', name: 'vm-1', host: 'host-a' })
  await until('it goes on', () => acks.length > heard + 40)
  expect(isStruck).toBe(true)
  expect(new Set(acks).size).toBe(acks.length)
  expect(HOSTS.filter(host => machine(host) !== null)).toHaveLength(1)
})

test.each([
  ...['migration.requested', 'migration.precopy', 'migration.switching', 'machine.released', 'machine.loaded'].flatMap(
    kind => [
      { kind, end: 'source', host: 'host-a' },
      { kind, end: 'target', host: 'host-b' },
    ],
  ),
])('VM1 VM2 MIG2: the agent of the $end dies at $kind of a migration, and one machine runs on', async at => {
  const { agent, acks, recovered, runs, until, world } = await bench(`migration/${at.kind}/${at.end}`)
  const state = () => world.coordinator?.state
  let isStruck = false
  world.sim.onRecord(({ kind }) => {
    if (isStruck || kind !== at.kind) return
    isStruck = true
    world.sim.after(0, () => agent(at.host).kill())
  })
  world.command({ kind: 'vm-migrate', id: 'm-1', name: 'vm-1', to: 'host-b' })
  await until('it has died', () => isStruck)
  const heard = acks.length
  await until('it goes on', () => acks.length > heard + 50)
  await until(
    'it is over',
    () => !['preparing', 'precopy', 'switching', 'committed'].includes(state()?.migrations.get('m-1')?.phase ?? ''),
  )
  const placement = state()?.vms.get('vm-1')?.placement
  expect(placement?.phase).toBe('running')
  expect(runs.at(-1)?.host).toBe(placement?.host)
  // What its agent leaves runs on until a switch was ordered; a target that dies ends nothing before the commit.
  if ((at.end === 'target' && at.kind !== 'machine.loaded') || at.kind === 'migration.requested')
    expect(recovered).toHaveLength(1)
  expect(new Set(acks).size).toBe(acks.length)
})

test('the agent in its guest is found again, and lets go the files that it was holding still for the one that died', async () => {
  const { agent, acks, recovered, until, world } = await bench('frozen', true, { agent: 'there' })
  const told = () => world.coordinator?.state.liveHosts.get('host-a')?.machines.get('vm-1')?.guest?.hostName
  await until('its agent answers', () => told() === 'vm-1')
  let answer = { state: 'none', why: null as string | null }
  const asked = world.coordinator?.state.vms.get('vm-1')?.placement
  const { epoch = 0, incarnation = 0 } = asked ?? {}
  const order = { vm: 'vm-1', host: 'host-a', epoch, incarnation, freeze: 'f-1', holdMs: 10_000 }
  const ask = (): void => {
    world.coordinator?.askAgent('host-a', 'vm.freeze-files', order).then(
      said => {
        answer = said as typeof answer
      },
      () => undefined,
    )
  }
  const frozen = (): boolean => {
    ask()
    return answer.state === 'frozen'
  }
  await until('its files are frozen', frozen)
  const heard = acks.length
  await world.sim.runUntil(() => false, 300)
  expect(acks.length).toBe(heard)
  agent('host-a').kill()
  const killedAt = world.sim.now
  await until('it goes on', () => acks.length > heard + 20)
  expect(world.sim.now - killedAt).toBeLessThan(4_000)
  await until('its agent answers again', () => told() === 'vm-1')
  expect(recovered).toHaveLength(1)
})
