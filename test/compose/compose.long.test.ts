// A cluster in containers, by the older docker-compose: up on nothing, healthy, VMs moved, a container killed, cables pulled by
// taking containers from networks, one stopped in order, all stopped and started again. Guests' ledgers are read throughout.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Status } from '@stellwerk/coordinator/view/schemas.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { Engine, ROOT } from './engine.ts'

const LONG = 900_000
const PATIENT = { timeout: 180_000, interval: 1_000 }
const PROJECT = `swk${process.pid}`
const GUESTS = ['ledger-1', 'ledger-2', 'ledger-3']
const { missing, note } = peers(
  ...[peer('dockerd', 'docker.io'), peer('docker-compose', 'docker-compose'), peer('debootstrap', 'debootstrap')],
)
const isRoot = process.getuid?.() === 0

describe.skipIf(missing || !isRoot)(`a cluster in containers (${isRoot ? note : 'skipped: takes root'})`, () => {
  const engine = new Engine(PROJECT)
  const stellwerk = (...words: string[]) =>
    engine.try('docker-compose', 'exec', '-T', 'coordinator', 'stellwerk', ...words)
  const status = (): Status | null => {
    const { code, output } = stellwerk('status', '--json')
    return code === 0 ? (JSON.parse(output) as Status) : null
  }
  const vm = (name: string) => status()?.vms[name]
  const legs = () => status()?.volumes['csv1']?.legs.map(leg => leg.role)
  const running = () => Object.values(status()?.vms ?? {}).filter(each => each.state === 'running').length
  const containerOf = (host: string) => `${PROJECT}_agent_${host.replace('agent-', '')}`
  const network = (what: 'connect' | 'disconnect', name: string, container: string, ...words: string[]) =>
    engine.run('docker', 'network', what, ...words, `${PROJECT}_${name}`, container)
  const healthy = () => expect.poll(running, PATIENT).toBe(3)
  const hostOf = (name: string): string => vm(name)?.host ?? ''
  /** What each guest has said. */
  const heard = new Map<string, string[]>(GUESTS.map(name => [name, []]))
  const followers = new Set<ChildProcess>()
  let over = false
  /** The container that it is heard through may be killed: then it is heard anew. */
  const follow = (name: string): void => {
    if (over) return
    const words = ['exec', '-T', 'coordinator', 'stellwerk', 'vm', 'console', name]
    const follower = spawn('docker-compose', words, {
      cwd: ROOT,
      env: engine.environment,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    followers.add(follower)
    createInterface({ input: follower.stdout! }).on('line', line => heard.get(name)?.push(line))
    follower.once('exit', () => {
      followers.delete(follower)
      setTimeout(() => follow(name), 1_000)
    })
  }
  /** Nothing of what a guest has said it has is missing, whenever it has booted. */
  const isIntact = (name: string): void => {
    const lines = heard.get(name) ?? []
    expect(lines.filter(line => line.includes('damaged'))).toEqual([])
    let acknowledged = 0
    for (const line of lines) {
      const [word, count] = line.split(' ')
      if (word === 'recovered') expect(Number(count)).toBeGreaterThanOrEqual(acknowledged)
      if (word === 'ack') acknowledged = Math.max(acknowledged, Number(count))
    }
    expect(acknowledged).toBeGreaterThan(0)
  }

  beforeAll(async () => {
    await engine.start()
    engine.compose('build')
    engine.compose('up', '-d')
  }, LONG)

  afterAll(async () => {
    over = true
    for (const follower of followers) follower.kill()
    engine.try('docker-compose', 'down', '-v', '-t', '60')
    await engine.stop()
  }, LONG)

  const story = (name: string, tell: () => Promise<void>) =>
    it(name, { timeout: LONG }, async () => {
      onTestFailed(() => console.log(stellwerk('status').output, engine.try('docker-compose', 'ps').output))
      await tell()
    })

  story('comes up from nothing, with a mirrored volume and guests', async () => {
    await healthy()
    const seen = status()
    for (const name of GUESTS) follow(name)
    expect(Object.keys(seen?.hosts ?? {}).sort()).toEqual(['agent-1', 'agent-2', 'agent-3'])
    expect(seen?.volumes['csv1']).toMatchObject({ state: 'serving' })
    await expect.poll(() => engine.compose('ps'), PATIENT).not.toMatch(/unhealthy|starting/)
  })

  story('a VM moves live, and a killed container’s VMs start elsewhere', async () => {
    const moved = stellwerk('vm', 'migrate', 'ledger-1', '--wait', '--json')
    expect(JSON.parse(moved.output)).toMatchObject({ phase: 'done' })
    const lost = hostOf('ledger-2')
    engine.run('docker', 'kill', containerOf(lost))
    await expect.poll(() => [vm('ledger-2')?.state, vm('ledger-2')?.host === lost], PATIENT).toEqual(['running', false])
    engine.run('docker', 'start', containerOf(lost))
    await expect.poll(() => status()?.hosts[lost]?.state, PATIENT).toBe('up')
    isIntact('ledger-2')
  })

  story('a pulled cable is another path, two are a peer’s, and a storage without cables is the other leg', async () => {
    const host = hostOf('ledger-1')
    const rung = () => vm('ledger-1')?.storage?.rung
    network('disconnect', 'fabric-0', containerOf(host))
    await expect.poll(rung, PATIENT).toBe('other-hba')
    network('disconnect', 'fabric-1', containerOf(host))
    await expect.poll(rung, PATIENT).toBe('redirected')
    network('connect', 'fabric-0', containerOf(host))
    network('connect', 'fabric-1', containerOf(host))
    await expect.poll(rung, PATIENT).toBe('direct')
    for (const fabric of ['fabric-0', 'fabric-1']) network('disconnect', fabric, `${PROJECT}_san-b_1`)
    await expect.poll(legs, PATIENT).toEqual(['in-sync', 'stale'])
    for (const fabric of ['fabric-0', 'fabric-1']) {
      network('connect', fabric, `${PROJECT}_san-b_1`, '--alias', `san-b.${fabric}`)
    }
    await expect.poll(legs, PATIENT).toEqual(['in-sync', 'in-sync'])
    expect(hostOf('ledger-1')).toBe(host)
  })

  story('a host without the cluster’s network is fenced, and its VMs start elsewhere', async () => {
    const host = hostOf('ledger-3')
    network('disconnect', 'cluster', containerOf(host))
    await expect.poll(() => vm('ledger-3')?.state === 'running' && hostOf('ledger-3') !== host, PATIENT).toBe(true)
    network('connect', 'cluster', containerOf(host))
    await expect.poll(() => status()?.hosts[host]?.state, PATIENT).toBe('up')
    await healthy()
  })

  story('the coordinator and a storage are killed and come back, and guests run on', async () => {
    const before = vm('ledger-1')
    engine.run('docker', 'kill', `${PROJECT}_coordinator_1`)
    engine.run('docker', 'start', `${PROJECT}_coordinator_1`)
    await healthy()
    expect(vm('ledger-1')?.epoch).toBe(before?.epoch)
    engine.run('docker', 'kill', `${PROJECT}_san-a_1`)
    await expect.poll(legs, PATIENT).toContain('stale')
    engine.run('docker', 'start', `${PROJECT}_san-a_1`)
    await expect.poll(legs, PATIENT).toEqual(['in-sync', 'in-sync'])
    await healthy()
  })

  story('more agents join by --scale, and one that is stopped has its VMs moved live first', async () => {
    engine.compose('up', '-d', '--no-recreate', '--scale', 'agent=4')
    await expect.poll(() => status()?.hosts['agent-4']?.state, PATIENT).toBe('up')
    const host = hostOf('ledger-1')
    const { epoch } = vm('ledger-1')!
    engine.run('docker', 'stop', '-t', '60', containerOf(host))
    const now = vm('ledger-1')
    expect(now).toMatchObject({ state: 'running' })
    expect(now?.host).not.toBe(host)
    expect(now?.epoch).toBeGreaterThan(epoch)
    const decisions = stellwerk('why', 'vm', 'ledger-1').output
    expect(decisions).toMatch(/migrate/)
    engine.run('docker', 'start', containerOf(host))
    await expect.poll(() => status()?.hosts[host]?.state, PATIENT).toBe('up')
  })

  story(
    'all are stopped in order and started again: the same cluster, its guests with everything they had',
    async () => {
      await healthy()
      engine.compose('stop')
      expect(engine.compose('ps')).not.toMatch(/ Up /)
      engine.compose('up', '-d', '--scale', 'agent=4')
      await healthy()
      await expect.poll(() => heard.get('ledger-1')?.some(line => line.startsWith('recovered')), PATIENT).toBe(true)
      for (const name of GUESTS) isIntact(name)
    },
  )
})
