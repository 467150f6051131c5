// A cluster in containers, by the older docker-compose: up on nothing, healthy, VMs moved, a container killed, cables pulled by
// taking containers from networks, one stopped in order, all stopped and started again. Guests' ledgers are read throughout.

import { afterAll, beforeAll, describe, expect } from 'vitest'
import { ContainerCluster, cannotRun, LONG, noteOnPeers, PATIENT } from './container-cluster.ts'

/** As many as a cluster of three is scaled to. */
const AGENTS = 6
/** The exit status of a container that was killed: 128 and the signal's number. */
const KILLED = 137

describe.skipIf(cannotRun)(`a cluster in containers (${noteOnPeers})`, () => {
  const cluster = new ContainerCluster('swk', 'wasm')
  const { engine } = cluster
  const legs = () => cluster.status()?.volumes['csv1']?.legs.map(leg => leg.role)

  beforeAll(() => cluster.up(), LONG)

  afterAll(() => cluster.down(), LONG)

  cluster.story('comes up from nothing, with a mirrored volume and guests', async () => {
    await cluster.healthy()
    const seen = cluster.status()
    cluster.followGuests()
    expect(Object.keys(seen?.hosts ?? {}).sort()).toEqual(['agent-1', 'agent-2', 'agent-3'])
    expect(seen?.volumes['csv1']).toMatchObject({ state: 'serving' })
    await expect.poll(() => engine.compose('ps'), PATIENT).not.toMatch(/unhealthy|starting/)
  })

  cluster.story('a VM moves live, and a killed container’s VMs start elsewhere', async () => {
    const moved = cluster.stellwerk('vm', 'migrate', 'ledger-1', '--wait', '--json')
    expect(JSON.parse(moved.output)).toMatchObject({ phase: 'done' })
    const lost = cluster.hostOf('ledger-2')
    engine.run('docker', 'kill', cluster.containerOf(lost))
    await expect
      .poll(() => [cluster.vm('ledger-2')?.state, cluster.vm('ledger-2')?.host === lost], PATIENT)
      .toEqual(['running', false])
    engine.run('docker', 'start', cluster.containerOf(lost))
    await expect.poll(() => cluster.status()?.hosts[lost]?.state, PATIENT).toBe('up')
    cluster.guestsAreIntact('ledger-2')
  })

  cluster.story(
    'a pulled cable is another path, two are a peer’s, and a storage without cables is the other leg',
    async () => {
      const host = cluster.hostOf('ledger-1')
      const rung = () => cluster.vm('ledger-1')?.storage?.rung
      cluster.network('disconnect', 'fabric-0', cluster.containerOf(host))
      await expect.poll(rung, PATIENT).toBe('other-hba')
      cluster.network('disconnect', 'fabric-1', cluster.containerOf(host))
      await expect.poll(rung, PATIENT).toBe('redirected')
      cluster.network('connect', 'fabric-0', cluster.containerOf(host))
      cluster.network('connect', 'fabric-1', cluster.containerOf(host))
      await expect.poll(rung, PATIENT).toBe('direct')
      for (const fabric of ['fabric-0', 'fabric-1']) cluster.network('disconnect', fabric, cluster.container('san-b'))
      await expect.poll(legs, PATIENT).toEqual(['in-sync', 'stale'])
      for (const fabric of ['fabric-0', 'fabric-1']) {
        cluster.network('connect', fabric, cluster.container('san-b'), '--alias', `san-b.${fabric}`)
      }
      await expect.poll(legs, PATIENT).toEqual(['in-sync', 'in-sync'])
      expect(cluster.hostOf('ledger-1')).toBe(host)
    },
  )

  cluster.story('a host without the cluster’s network is fenced, and its VMs start elsewhere', async () => {
    const host = cluster.hostOf('ledger-3')
    cluster.network('disconnect', 'cluster', cluster.containerOf(host))
    await expect
      .poll(() => cluster.vm('ledger-3')?.state === 'running' && cluster.hostOf('ledger-3') !== host, PATIENT)
      .toBe(true)
    cluster.network('connect', 'cluster', cluster.containerOf(host))
    await expect.poll(() => cluster.status()?.hosts[host]?.state, PATIENT).toBe('up')
    await cluster.healthy()
  })

  cluster.story('the coordinator and a storage are killed and come back, and guests run on', async () => {
    const before = cluster.vm('ledger-1')
    engine.run('docker', 'kill', cluster.container('coordinator'))
    engine.run('docker', 'start', cluster.container('coordinator'))
    await cluster.healthy()
    expect(cluster.vm('ledger-1')?.epoch).toBe(before?.epoch)
    engine.run('docker', 'kill', cluster.container('san-a'))
    await expect.poll(legs, PATIENT).toContain('stale')
    engine.run('docker', 'start', cluster.container('san-a'))
    await expect.poll(legs, PATIENT).toEqual(['in-sync', 'in-sync'])
    await cluster.healthy()
  })

  cluster.story('more agents join by --scale, and one that is stopped has its VMs moved live first', async () => {
    engine.compose('up', '-d', '--no-recreate', '--scale', `agent=${AGENTS}`)
    const states = () => Object.values(cluster.status()?.hosts ?? {}).map(({ state }) => state)
    await expect.poll(states, PATIENT).toEqual(Array.from({ length: AGENTS }, () => 'up'))
    const host = cluster.hostOf('ledger-1')
    const { epoch } = cluster.vm('ledger-1')!
    engine.run('docker', 'stop', '-t', '60', cluster.containerOf(host))
    const now = cluster.vm('ledger-1')
    expect(now).toMatchObject({ state: 'running' })
    expect(now?.host).not.toBe(host)
    expect(now?.epoch).toBeGreaterThan(epoch)
    const decisions = cluster.stellwerk('why', 'vm', 'ledger-1').output
    expect(decisions).toMatch(/migrate/)
    engine.run('docker', 'start', cluster.containerOf(host))
    await expect.poll(() => cluster.status()?.hosts[host]?.state, PATIENT).toBe('up')
  })

  cluster.story(
    'all are stopped in order and started again: the same cluster, its guests with everything they had',
    async () => {
      await cluster.healthy()
      engine.compose('stop')
      expect(engine.compose('ps')).not.toMatch(/ Up /)
      const agents = Array.from({ length: AGENTS }, (_, i) => cluster.ended(`agent_${i + 1}`))
      const storages = ['san-a', 'san-b'].map(name => cluster.ended(name))
      // Of its own accord, each: none was killed for being late.
      expect([...agents, ...storages, cluster.ended('coordinator')].map(({ code }) => code)).not.toContain(KILLED)
      const times = (all: typeof agents) => all.map(({ atMs }) => atMs)
      expect(Math.max(...times(agents))).toBeLessThan(Math.min(...times(storages)))
      engine.compose('up', '-d', '--scale', `agent=${AGENTS}`)
      await cluster.healthy()
      await expect.poll(() => cluster.said('ledger-1', 'recovered'), PATIENT).toBe(true)
      cluster.guestsAreIntact()
    },
  )
})
