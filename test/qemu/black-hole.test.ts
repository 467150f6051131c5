// A host that is a black hole: its cable goes on being plugged in, and nothing that is sent passes any more, in either direction, nor
// is anything refused. It and the rest of the cluster are network namespaces, which a bridge joins. Its guest runs elsewhere only once
// the machine there executes nothing any more, with everything that it had called durable, and once only when the cable carries again.

import { execFileSync } from 'node:child_process'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { type Running, Stellwerk } from '../processes/stellwerk.ts'
import { qemu, tinyImageFile } from './tiny-image.ts'

const LONG = 600_000
const PATIENT = { timeout: 300_000, interval: 200 }
const LOOK_MS = 20
/** Long enough to tell a machine that executes from one that does not, by the processor time that it takes. */
const EXECUTING_MS = 3_000
const tools = peers(peer('ip', 'iproute2'))
const isRoot = process.getuid?.() === 0
const missing = qemu.missing || tools.missing || !isRoot
const note = `${qemu.note}, ${tools.note}${isRoot ? '' : ', for root'}`

const REST = `stellwerk-rest-${process.pid}`
const APART = `stellwerk-apart-${process.pid}`
const BRIDGE = 'br0'
/** Of its own: a bridge otherwise has the address of its only port, which would take what is sent to it even when it is no port any more. */
const BRIDGE_MAC = '02:00:00:00:00:01'
const ADDRESS = { [REST]: '10.212.0.1', [APART]: '10.212.0.2' }
const COMMON = { cluster: 'black-hole', token: '0123456789abcdef', logLevel: 'error' } as const

const ip = (...words: string[]) => execFileSync('ip', words, { encoding: 'utf8' })
const at = (namespace: string, network: string, port: number) => ({ network, host: ADDRESS[namespace]!, port })
const machines = (namespace: string): string[] =>
  ip('netns', 'pids', namespace)
    .split('\n')
    .filter(pid => pid !== '' && isMachine(pid))

function isMachine(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('qemu-system')
  } catch {
    // It has just ended.
    return false
  }
}

/** Of the kernel's ticks of 10 ms, how many a machine has taken. */
function ticks(pid: string): number {
  const [, , , , , , , , , , , user = '0', system = '0'] = (
    readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] ?? ''
  ).split(' ')
  return Number(user) + Number(system)
}

async function executes(pid: string): Promise<boolean> {
  const before = ticks(pid)
  await new Promise(resolve => setTimeout(resolve, EXECUTING_MS))
  // One that stands still answers its agent now and then.
  return ticks(pid) - before > EXECUTING_MS / 100
}

describe.skipIf(missing)(`a host that is a black hole (${note})`, () => {
  const stellwerk = new Stellwerk('black-hole')
  let said: Running
  const acknowledged = () => said.lines.flatMap(line => /^ack (\d+)$/.exec(line)?.[1] ?? []).map(Number)
  const vm = () => stellwerk.json<{ state: string; host: string | null }>('vm', 'show', 'tux')
  const host = async (name: string) =>
    (await stellwerk.json<{ hosts: { [name: string]: { state: string } } }>('status')).hosts[name]?.state

  const serve = async (namespace: string, program: string, name: string, config: object): Promise<void> => {
    writeFileSync(join(stellwerk.directory, `${name}.json`), JSON.stringify({ ...COMMON, directory: name, ...config }))
    stellwerk.within = ['ip', 'netns', 'exec', namespace]
    await stellwerk.start(program, 'serve', '--config', `${name}.json`).said(/ (serves|starts): /)
    stellwerk.within = ['ip', 'netns', 'exec', REST]
  }

  beforeAll(async () => {
    for (const namespace of [REST, APART]) {
      ip('netns', 'add', namespace)
      ip('-n', namespace, 'link', 'set', 'lo', 'up')
    }
    ip('-n', REST, 'link', 'add', BRIDGE, 'address', BRIDGE_MAC, 'type', 'bridge')
    ip('-n', REST, 'address', 'add', `${ADDRESS[REST]}/24`, 'dev', BRIDGE)
    ip('-n', REST, 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable', 'netns', APART)
    ip('-n', APART, 'address', 'add', `${ADDRESS[APART]}/24`, 'dev', 'cable')
    ip('-n', REST, 'link', 'set', 'cable', 'master', BRIDGE)
    for (const [namespace, device] of [
      [REST, BRIDGE],
      [REST, 'cable'],
      [APART, 'cable'],
    ] as const) {
      ip('-n', namespace, 'link', 'set', device, 'up')
    }
    const env = createEnvironment({ name: 'test', directory: join(stellwerk.directory, 'env'), store: memoryStore() })
    copyFileSync(await tinyImageFile(env.processes), join(stellwerk.directory, 'tiny.boot'))
    await env.close()

    const coordinator = at(REST, 'cluster', 7400)
    const portals = [at(REST, 'fabric-0', 7420), at(REST, 'fabric-1', 7421)]
    const control = [at(REST, 'cluster', 7410), at(REST, 'fabric-0', 7411), at(REST, 'fabric-1', 7412)]
    await serve(REST, 'storage', 'san-a', { name: 'san-a', portals, control })
    const storages = [{ name: 'san-a', portals, control }]
    const api = { port: 7401 }
    await serve(REST, 'coordinator', 'coordinator', { profile: 'production', listen: coordinator, api, storages })
    for (const [name, namespace] of [
      ['host-a', REST],
      ['host-b', APART],
    ] as const) {
      const listen = at(namespace, 'cluster', 7430)
      await serve(namespace, 'agent', name, { host: name, coordinator, listen, memoryBytes: GIB })
    }
    Object.assign(stellwerk.environment, {
      STELLWERK_JOIN_TOKEN: COMMON.token,
      STELLWERK_API: `http://127.0.0.1:${api.port}`,
      STELLWERK_TOKEN: readFileSync(join(stellwerk.directory, 'coordinator', 'api-token'), 'utf8').trim(),
    })
  }, LONG)

  afterAll(async () => {
    await stellwerk.remove()
    for (const namespace of [REST, APART]) ip('netns', 'del', namespace)
  }, LONG)

  it('has its guest on it', { timeout: LONG }, async () => {
    const volume = ['volume', 'create', 'csv1', '512MiB', '--storage', 'san-a']
    await expect.poll(async () => (await stellwerk.run(...volume)).code, PATIENT).toBe(0)
    const load = ['writesPerSecond=20', 'dirtyMiBPerSecond=32', 'workingSetMiB=8'].flatMap(param => ['--param', param])
    const words = ['--guest', 'tiny.boot', '--memory', '96MiB', '--disk', 'csv1:64MiB', ...load]
    const create = ['vm', 'create', 'tux', ...words, '--host', 'host-b']
    await expect.poll(async () => (await stellwerk.run(...create)).code, PATIENT).toBe(0)
    said = stellwerk.console('tux')
    await expect.poll(() => acknowledged().at(-1) ?? 0, PATIENT).toBeGreaterThan(40)
    expect([await vm(), machines(APART).length, machines(REST)]).toMatchObject([{ host: 'host-b' }, 1, []])
    expect(await executes(machines(APART)[0]!)).toBe(true)
  })

  it('VM1, FEN1: its guest runs elsewhere once the machine there executes no more, with all that it had called durable', {
    timeout: LONG,
  }, async () => {
    onTestFailed(() => console.log(said.lines.slice(-20).join('\n')))
    const cutAt = Date.now()
    ip('-n', REST, 'link', 'set', 'cable', 'nomaster')
    // Nothing but the machines themselves says whether two of them execute.
    while (machines(REST).length === 0) {
      expect(Date.now() - cutAt).toBeLessThan(PATIENT.timeout)
      await new Promise(resolve => setTimeout(resolve, LOOK_MS))
    }
    const tookMs = Date.now() - cutAt
    const { leaseMs } = PROFILES.production
    console.log(`a black hole: its guest was begun elsewhere after ${tookMs} ms, lease ${leaseMs}`)
    for (const pid of machines(APART)) expect(await executes(pid)).toBe(false)
    const durable = acknowledged().at(-1) ?? 0
    await expect.poll(() => said.lines.filter(line => line.startsWith('recovered')).length, PATIENT).toBe(2)
    const [, entries = '0', how] =
      /^recovered (\d+) (\w+)$/.exec(said.lines.findLast(line => line.startsWith('recovered')) ?? '') ?? []
    expect([Number(entries) >= durable, how]).toEqual([true, 'intact'])
    await expect.poll(vm, PATIENT).toMatchObject({ state: 'running', host: 'host-a' })
    expect(await host('host-b')).not.toBe('up')
  })

  it('and once only when the cable carries again', { timeout: LONG }, async () => {
    ip('-n', REST, 'link', 'set', 'cable', 'master', BRIDGE)
    await expect.poll(() => host('host-b'), PATIENT).toBe('up')
    const before = acknowledged().at(-1) ?? 0
    await expect.poll(() => acknowledged().at(-1) ?? 0, PATIENT).toBeGreaterThan(before + 40)
    await expect.poll(() => machines(APART), PATIENT).toEqual([])
    expect([await vm(), machines(REST).length]).toMatchObject([{ host: 'host-a' }, 1])
    expect(said.lines.filter(line => /damaged|disk error/.test(line))).toEqual([])
  })
})
