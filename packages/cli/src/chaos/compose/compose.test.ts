// What is said of containers and to the engine, and what is refused: in words, without an engine.

import { createEnvironment, type NodeEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { makeScratchDirectory, removeScratchDirectory } from '@stellwerk/runtime/node/scratch-directory.ts'
import { describe, expect, test } from 'vitest'
import { FAULT_KINDS, type Fault, type FaultKind } from '../fault.ts'
import { ComposeBreaker } from './compose-breaker.ts'
import { cablesOf, netemWords, refusedByContainers } from './compose-faults.ts'
import { clusterOf, containerOf, parseAttachments, parseContainers } from './containers.ts'
import { Docker } from './docker.ts'

const SAID = `p_agent_2 agent 2
p_guests_1 guests 1
p-san-b-1 san-b 1
p_coordinator_1 coordinator 1
p_agent_1 agent 1
`
const fault = (kind: FaultKind, what: Partial<Fault> = {}): Fault => ({ id: 1, kind, atMs: 0, lastsMs: 0, ...what })

test('containers are nodes of the cluster, whatever the engine calls them', () => {
  const containers = parseContainers(SAID)
  expect(clusterOf(containers)).toEqual({ hosts: ['agent-1', 'agent-2'], storages: ['san-b'] })
  expect(containerOf(containers, 'san-b').name).toBe('p-san-b-1')
  expect(() => containerOf(containers, 'guests')).toThrow(expect.objectContaining({ code: 'unknown-node' }))
})

test('a cable is put back with the names that it was found by', () => {
  const networks = {
    'p_fabric-0': { Aliases: ['san-b.fabric-0', 'san-b', '0123456789ab'], IPAddress: '172.18.0.4' },
    p_cluster: { Aliases: null, IPAddress: '' },
    bridge: { Aliases: [] },
  }
  expect([...parseAttachments('0123456789abcdef', networks, 'p')]).toEqual([
    ['fabric-0', { network: 'p_fabric-0', aliases: ['san-b.fabric-0', 'san-b'], address: '172.18.0.4' }],
    ['cluster', { network: 'p_cluster', aliases: [], address: '' }],
  ])
})

test('every fault can be done to containers or is refused with the reason', () => {
  const done = FAULT_KINDS.filter(kind => refusedByContainers(fault(kind), false) === null)
  expect(done).toEqual([
    ...['agent-kill', 'host-kill', 'host-pause', 'host-restart', 'coordinator-kill', 'coordinator-pause'],
    ...['storage-kill', 'storage-pause', 'host-isolate', 'cable-pull', 'fabric-down'],
  ])
  const refused = refusedByContainers(fault('clock-jump'), true)
  expect(refused).toMatchObject({ code: 'fault-unsupported', hint: 'run it on local, or on sim' })
  const shaped = ['loss', 'delay', 'slow-link'] as const
  expect(shaped.map(kind => refusedByContainers(fault(kind), true))).toEqual([null, null, null])
  expect(refusedByContainers(fault('delay', { peer: 'san-a' }), true)?.message).toMatch(/both ways/)
})

test('which cables, and what netem is told', () => {
  expect(cablesOf(fault('cable-pull', { fabric: 1 }))).toEqual(['fabric-1'])
  expect(cablesOf(fault('host-isolate', { network: 'cluster' }))).toEqual(['cluster'])
  expect(cablesOf(fault('host-isolate', { fabrics: false }))).toEqual(['cluster'])
  expect(cablesOf(fault('host-isolate'))).toHaveLength(4)
  expect(netemWords(fault('loss', { chance: 0.05 }))).toEqual(['loss', '5.00%'])
  expect(netemWords(fault('delay', { delayMs: 20, jitterMs: 5 }))).toEqual(['delay', '20ms', '5ms'])
  expect(netemWords(fault('slow-link', { mibPerSecond: 2 }))).toEqual(['rate', '16384kbit'])
})

describe('without an engine', () => {
  test.each([
    ['no docker', { PATH: '/nowhere' }, 'there is no docker on this machine'],
    ['nobody who answers', { DOCKER_HOST: 'unix:///nowhere.sock' }, 'no container engine answers'],
  ])('%s is one clear line', async (what, variables, message) => {
    const directory = await makeScratchDirectory('stellwerk-no-docker-')
    const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
    const before = { ...process.env }
    // The system's own places are looked into as well: there, none must be found.
    const processes =
      what === 'no docker'
        ? {
            ...env.processes,
            command: (spec: Parameters<typeof env.processes.command>[0]) =>
              env.processes.command({ ...spec, program: '/nowhere/docker' }),
          }
        : env.processes
    Object.assign(process.env, variables)
    try {
      const found = await Docker.find({ processes, timers: env.timers }).catch((error: unknown) => error)
      const isInstalled = (found as { message: string }).message !== 'there is no docker on this machine'
      expect(found).toMatchObject({
        code: 'no-docker',
        message: isInstalled ? message : 'there is no docker on this machine',
      })
    } finally {
      process.env = before
      await env.close()
      await removeScratchDirectory(directory)
    }
  })
})

describe('with an engine that', () => {
  /** Instead of `docker` this shell script. */
  async function withEngine(script: string, work: (env: NodeEnvironment, directory: string) => Promise<void>) {
    const directory = await makeScratchDirectory('stellwerk-engine-')
    const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
    const command: NodeEnvironment['processes']['command'] = spec =>
      env.processes.command({ ...spec, program: 'sh', args: ['-c', script, 'docker', ...spec.args] })
    try {
      await work({ ...env, processes: { ...env.processes, command } }, directory)
    } finally {
      await env.close()
      await removeScratchDirectory(directory)
    }
  }

  test('hangs, nobody waits for ever', async () => {
    await withEngine('exec sleep 600', async ({ processes, timers }) => {
      const soon = { ...timers, after: (_ms: number, f: () => void) => timers.after(20, f) }
      await expect(Docker.find({ processes, timers: soon })).rejects.toMatchObject({
        code: 'no-docker',
        message: 'no container engine answers',
        cause: { code: 'docker-silent' },
      })
    })
  })

  test('says that what is to be hit is down already, nothing is on record', async () => {
    const script = `case "$1" in
      ps) echo p-agent-1 agent 1; echo p-agent-2 agent 2;;
      kill) echo "Error: cannot kill container: $2: container 12ab is not running" >&2; exit 1;;
    esac`
    await withEngine(script, async env => {
      const { files, clock } = env
      const docker = await Docker.find(env)
      const sleep = async () => undefined
      const breaker = await ComposeBreaker.open({ docker, project: 'p', hasNetem: false, files, clock, sleep })
      await expect(breaker.inject(fault('host-kill', { host: 'agent-1' }))).rejects.toThrow(/is not running/)
      expect(await breaker.journal.read()).toEqual([])
      await breaker.inject(fault('host-pause', { id: 2, host: 'agent-2' }))
      expect((await breaker.journal.read()).map(({ undo }) => undo)).toEqual([
        [{ do: 'unpause', container: 'p-agent-2' }],
      ])
    })
  })
})
