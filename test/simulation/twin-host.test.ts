// A second machine under a host's name: it gets nowhere, and what its guardian says of its own agent is believed of nobody's.

import { type GuardianConfig, startGuardian } from '@stellwerk/agent/guardian/guardian.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import type { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { expect, test } from 'vitest'
import { World } from '../../packages/cli/src/simulation/world.ts'
import { guestAt, startWithVolume } from './support.ts'

const HOSTS = ['host-a', 'host-b']
const SETTLE_MS = 20_000

test.each(['coordinator', 'san-a'])(
  'a machine called %s, as something else of the cluster is, is refused',
  async name => {
    const world = new World({
      seed: 'named',
      hosts: HOSTS,
      storages: ['san-a'],
      settings: {},
      hostMemoryBytes: 4 * GIB,
    })
    const refusals: StellwerkError[] = []
    world.sim.program('named', async (env, config) => {
      await startGuardian(env, config as unknown as GuardianConfig, error => refusals.push(error))
    })
    await startWithVolume(world)
    const config = world.guardianConfig(name, 'other') as unknown as Json
    world.sim.host('other').spawn('named', `${name}/guardian`, config)
    expect(await world.sim.runUntil(() => refusals.length > 0, SETTLE_MS)).toBe(true)
    expect(refusals[0]).toMatchObject({ code: 'bad-host-name', hint: expect.stringContaining('another name') })
    expect([...(world.coordinator?.state.hosts.keys() ?? [])].sort()).toEqual(HOSTS)
  },
)

test('a second machine of the same name is refused, and the first one goes on undisturbed', async () => {
  const world = new World({ seed: 'twin', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  const refusals: StellwerkError[] = []
  world.sim.program('twin', async (env, config) => {
    await startGuardian(env, config as unknown as GuardianConfig, error => refusals.push(error))
  })
  const fenced: string[] = []
  world.sim.onRecord(record => {
    if (record.kind === 'storage.fenced') fenced.push(record.host ?? '')
  })
  const state = () => world.coordinator?.state
  const placed = () => state()?.vms.get('vm-1')?.placement ?? null
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world)
  world.command(guestAt('host-a'))
  await until(() => placed()?.phase === 'running')
  const before = { placement: placed(), control: state()?.hosts.get('host-a')?.control }

  const twin = world.sim.host('twin')
  const spawn = () => twin.spawn('twin', 'host-a/guardian', world.guardianConfig('host-a', 'twin') as unknown as Json)
  spawn()
  await until(() => refusals.length > 0)
  expect(refusals[0]).toMatchObject({
    code: 'foreign-guardian',
    message: expect.stringContaining('host remove host-a'),
  })
  // Its agent dies, and its guardian would attest that; so would the next one, of the last one's agent.
  twin.process('host-a/agent')?.kill()
  await world.sim.runFor(2_000)
  twin.crash()
  twin.powerOn()
  spawn()
  await world.sim.runFor(3_000)
  expect(fenced).toEqual([])
  expect({ placement: placed(), control: state()?.hosts.get('host-a')?.control }).toEqual(before)
  expect(state()?.liveHosts.get('host-a')?.session).not.toBeNull()

  // The host's own guardian, restarted, is still who it was, and its word counts.
  world.sim.host('host-a').process('host-a/agent')?.kill()
  await until(() => placed()?.host === 'host-b' && placed()?.phase === 'running')
  expect(fenced).toContain('host-a')
  await until(() => state()?.hosts.get('host-a')?.phase === 'admitted')
})

test('a machine that an operator let take the place of another runs its VMs, however many agents that one had started', async () => {
  const world = new World({ seed: 'heir', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  world.sim.program('heir', async (env, config) => {
    await startGuardian(env, config as unknown as GuardianConfig)
  })
  const state = () => world.coordinator?.state
  const live = () => state()?.liveHosts.get('host-a')
  const placed = () => state()?.vms.get('vm-1')?.placement ?? null
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world)
  for (const incarnation of [2, 3]) {
    world.sim.host('host-a').process('host-a/agent')?.kill()
    await until(() => live()?.session?.incarnation === incarnation)
  }
  world.command(guestAt('host-a'))
  await until(() => placed()?.host === 'host-a' && placed()?.phase === 'running')
  world.command({ kind: 'vm-stop', name: 'vm-1' })
  await until(() => placed() === null)

  world.sim.host('host-a').crash()
  await until(() => live()?.session === null)
  world.command({ kind: 'host-remove', name: 'host-a' })
  world.command({ kind: 'host-readmit', name: 'host-a' })
  world.sim.host('heir').spawn('heir', 'host-a/guardian', world.guardianConfig('host-a', 'heir') as unknown as Json)
  await until(() => live()?.session?.incarnation === 1 && state()?.hosts.get('host-a')?.phase === 'admitted')
  await world.sim.runFor(3_000)
  world.command({ kind: 'vm-start', name: 'vm-1', host: 'host-a' })
  await until(() => placed()?.host === 'host-a' && placed()?.phase === 'running')
})

test('a host that lost power and is back says on record that its last agent is dead, before anything of it starts elsewhere', async () => {
  const world = new World({ seed: 'back', hosts: HOSTS, storages: ['san-a'], settings: {}, hostMemoryBytes: 4 * GIB })
  const told: string[] = []
  world.sim.onRecord(({ kind, process, body }) => {
    const said = body as { process?: string; incarnation?: number; attested?: boolean }
    if (kind === 'process.dead' && process === 'host-a/guardian') told.push(`${said.process} ${said.incarnation} dead`)
    if (kind === 'failover.start') told.push(`failover, attested: ${said.attested}`)
  })
  const placed = () => world.coordinator?.state.vms.get('vm-1')?.placement ?? null
  const until = async (what: () => boolean) => expect(await world.sim.runUntil(what, SETTLE_MS)).toBe(true)
  await startWithVolume(world)
  world.command(guestAt('host-a'))
  await until(() => placed()?.phase === 'running')
  world.sim.host('host-a').crash()
  await world.sim.runFor(300)
  world.startHost('host-a')
  await until(() => told.some(line => line.startsWith('failover')))
  expect(told).toEqual(['host-a/guardian 1 dead', 'host-a/agent 1 dead', 'failover, attested: true'])
})
