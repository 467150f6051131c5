// A volume on a plain NBD server, in the simulator: what restarts, when, on whose word, and that nothing acknowledged is lost.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { SimRandom } from '@stellwerk/runtime/sim/random.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { HOSTS, JudgedCluster } from './judged-cluster.ts'
import { TIMEOUT } from './support.ts'

const WITH_NAS = { external: ['nas'] }

afterEach(() => canaries.clear())

describe('a volume on a storage without epochs (VM1, VM2, FEN1)', TIMEOUT, () => {
  it('has its VM again when its agent was killed, not before what it sent has had its time', async () => {
    const cluster = await new JudgedCluster('external-agent', WITH_NAS).start('nas')
    const { host, placed, world } = cluster
    const at = cluster.now
    world.sim.host(host).process(`${host}/agent`)?.kill()
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    const start = cluster.records.find(r => r.kind === 'failover.start' && r.at > at)
    expect(start?.body).toMatchObject({ withoutEpochs: ['nas'], legs: [], attested: true })
    expect((start?.at ?? 0) - at).toBeGreaterThanOrEqual(world.settings.ioDeadlineMs)
    await cluster.isWell()
  })

  it('leaves it where it is while its host is only paused, for as long as that is, and goes on when it wakes up', async () => {
    const cluster = await new JudgedCluster('external-pause', WITH_NAS).start('nas')
    const { host, placed, world } = cluster
    world.sim.host(host).pause()
    await world.sim.runFor(120_000)
    expect(cluster.placed).toMatchObject({ host, epoch: placed?.epoch })
    expect(world.coordinator?.state.hosts.get(host)?.phase).toBe('fenced')
    world.sim.host(host).resume()
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    await cluster.isWell()
  })

  it('has it elsewhere after a host has lost power only by an operator’s word', async () => {
    const cluster = await new JudgedCluster('external-power', WITH_NAS).start('nas')
    const { host, placed, world } = cluster
    world.sim.host(host).crash({ unsynced: 'lost' })
    await world.sim.runFor(120_000)
    expect(cluster.placed?.epoch).toBe(placed?.epoch)
    world.command({ kind: 'host-confirm-dead', name: host })
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    expect(cluster.host).not.toBe(host)
    await cluster.isWell()
  })

  it('gets another owner when its own is dead, and not while that is only paused', async () => {
    const cluster = await new JudgedCluster('external-owner', WITH_NAS).start('nas')
    const owner = cluster.owner ?? ''
    const { world } = cluster
    world.sim.host(owner).pause()
    await world.sim.runFor(60_000)
    expect(cluster.owner).toBeNull()
    world.sim.host(owner).resume()
    expect(await cluster.until(() => cluster.owner !== null)).toBe(true)
    const next = cluster.owner ?? ''
    world.sim.host(next).process(`${next}/agent`)?.kill()
    expect(await cluster.until(() => cluster.owner !== next && cluster.owner !== null)).toBe(true)
    await cluster.isWell()
  })

  it('stands still while the coordinator is away for longer than a lease, and goes on by itself', async () => {
    const cluster = await new JudgedCluster('external-coordinator', WITH_NAS).start('nas')
    const { host, placed, world } = cluster
    world.sim.host('coord').crash({ unsynced: 'lost' })
    await world.sim.runFor(2 * world.settings.leaseMs)
    const from = cluster.now
    await world.sim.runFor(5_000)
    expect(cluster.entries(from)).toBe(0)
    world.startCoordinator()
    await cluster.isWell()
    expect(cluster.placed).toMatchObject({ host, epoch: placed?.epoch })
  })

  it('waits for its server, and loses nothing when connections break with writes in flight', async () => {
    const cluster = await new JudgedCluster('external-server', WITH_NAS).start('nas')
    const { world } = cluster
    for (let i = 0; i < 5; i++) {
      world.sim.host('nas').process('nas')?.kill()
      await world.sim.runFor(1_500)
      world.external.start('nas')
      await cluster.isWell()
    }
  })
})

/**
 * A host is paused while its writes wait for the server, and wakes up cut off from whoever could tell it that it is fenced.
 * Gives how many of its writes came before it had ended what it had, and how many of those after another had its VM.
 */
async function wakesWithWritesThatWait(seed: string): Promise<{ came: number; late: number }> {
  const cluster = await new JudgedCluster(seed, WITH_NAS).start('nas')
  const { host, placed, world, records } = cluster
  const { sim } = world
  sim.host('nas').process('nas')?.kill()
  await sim.runFor(600)
  sim.host(host).pause()
  await sim.runFor(200)
  world.external.start('nas')
  const cuts = ['coord', ...HOSTS.filter(name => name !== host)].map(other => sim.network.cut(host, other))
  // Long enough for a successor to have written much, where one is allowed.
  await sim.runFor(20_000)
  let came = 0
  let late = 0
  world.external.onWrite = peer => {
    if (!peer.startsWith(host)) return
    came += 1
    if (records.some(({ kind, vm }) => kind === 'failover.start' && vm === 'vm-1')) late += 1
  }
  sim.host(host).resume()
  await sim.runFor(8_000)
  world.external.onWrite = () => undefined
  for (const cut of cuts) cut.heal()
  expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
  await cluster.isWell()
  return { came, late }
}

describe('writes that waited while their host was paused (IO3)', TIMEOUT, () => {
  it('come, and before another has the VM', async () => {
    const { came, late } = await wakesWithWritesThatWait('wakes')
    expect(came).toBeGreaterThan(0)
    expect(late).toBe(0)
  })

  it('come after that with silence-not-awaited', async () => {
    canaries.add('silence-not-awaited')
    expect((await wakesWithWritesThatWait('wakes')).late).toBeGreaterThan(0)
  })
})

describe('a mirror with a leg of either kind (VM1, VM2, FEN1, MIR1)', TIMEOUT, () => {
  it('goes on without the one that has no epochs when its host is gone, and resyncs it when that is back', async () => {
    const cluster = await new JudgedCluster('external-mirror', WITH_NAS).start('san-a', 'nas')
    const { host, placed, world } = cluster
    world.sim.host(host).pause()
    expect(await cluster.startedAfter(placed?.epoch ?? 0)).toBe(true)
    expect(cluster.host).not.toBe(host)
    expect(cluster.roles).toEqual(['san-a in-sync', 'nas stale'])
    await world.sim.runFor(20_000)
    expect(cluster.roles).toEqual(['san-a in-sync', 'nas stale'])
    world.sim.host(host).resume()
    expect(await cluster.until(() => cluster.roles[1] === 'nas in-sync')).toBe(true)
    await cluster.isWell()
  })

  it('survives the loss of either', async () => {
    const cluster = await new JudgedCluster('external-either', WITH_NAS).start('san-a', 'nas')
    const { world } = cluster
    world.sim.host('nas').process('nas')?.kill()
    expect(await cluster.until(() => cluster.roles[1] === 'nas stale')).toBe(true)
    await cluster.isWell()
    world.external.start('nas')
    expect(await cluster.until(() => cluster.roles[1] === 'nas in-sync')).toBe(true)
    world.sim.host('san-a').process('san-a')?.kill()
    expect(await cluster.until(() => cluster.roles[0] === 'san-a stale')).toBe(true)
    await cluster.isWell()
    world.startStorage('san-a')
    expect(await cluster.until(() => cluster.roles[0] === 'san-a in-sync')).toBe(true)
    await cluster.isWell()
  })
})

/** Faults for half a minute, drawn from the seed, in which everything may happen at once; then all is whole again. */
async function storm(seed: string, ...storages: string[]): Promise<void> {
  const cluster = await new JudgedCluster(seed, WITH_NAS).start(...storages)
  const { world } = cluster
  const { sim } = world
  const random = new SimRandom(`storm/${seed}`)
  for (let i = 0; i < 12; i++) {
    const host = HOSTS[random.int(HOSTS.length)]!
    const other = HOSTS[random.int(HOSTS.length)]!
    switch (random.int(7)) {
      case 0:
        sim.host(host).process(`${host}/agent`)?.kill()
        break
      case 1:
        sim.host(host).pause()
        sim.after(random.int(15_000), () => sim.host(host).resume())
        break
      case 2:
        sim.host('nas').process('nas')?.kill()
        sim.after(random.int(3_000), () => world.external.start('nas'))
        break
      case 3:
        sim.host('coord').crash({ unsynced: 'lost' })
        sim.after(random.int(6_000), () => world.startCoordinator())
        break
      case 4: {
        const cut = sim.network.cut(host, 'nas')
        sim.after(random.int(5_000), () => cut.heal())
        break
      }
      case 5: {
        const cut = sim.network.cut(host, 'coord')
        sim.after(random.int(8_000), () => cut.heal())
        break
      }
      default:
        if (host !== other) world.command({ kind: 'volume-own', name: 'csv1', host: other })
    }
    await sim.runFor(random.int(5_000))
  }
  await sim.runFor(16_000)
  await cluster.isWell()
}

describe('storms over storages without epochs (VM1, VM2, FEN1)', TIMEOUT, () => {
  it.each(['1', '2', '3', '4'])('are survived by a volume with one leg: storm-%s', seed =>
    storm(`storm-${seed}`, 'nas'),
  )
  it.each(['1', '2', '3', '4'])('are survived by a mirror of both kinds: both-%s', seed =>
    storm(`both-${seed}`, 'san-a', 'nas'),
  )
})
