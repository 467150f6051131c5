// Breaking and healing by the journal, on real processes that stand for a cluster's: what is broken is on disk before it is broken,
// and whoever comes later puts it right, also when who broke it was killed.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClock } from '@stellwerk/runtime/node/clock.ts'
import { identifyProcess } from '@stellwerk/runtime/node/pid-record.ts'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { filesOf } from '../../cluster/directory.ts'
import { newCluster } from '../../cluster/layout.ts'
import type { Fault, FaultKind } from '../fault.ts'
import { Breaker } from './breaker.ts'
import { forgetBroken } from './journal.ts'

const cluster = newCluster({
  cluster: 'c',
  profile: 'lab',
  address: '127.0.0.1',
  hosts: 2,
  memoryBytes: 1,
  ports: Array.from({ length: 20 }, (_, i) => 25_000 + i),
})

let directory = ''
const children = new Map<string, ChildProcess>()
const started: string[] = []
let startFails = false

/** One that waits for its end, on record as its parent would have it. */
async function run(name: string, parent: string): Promise<void> {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' })
  await once(child, 'spawn')
  children.set(name, child)
  const where = join(directory, parent)
  mkdirSync(where, { recursive: true })
  const file = join(where, 'children.json')
  const known = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : []
  const recorded = { pid: child.pid, ...identifyProcess(child.pid ?? 0), program: 'x', name }
  writeFileSync(file, JSON.stringify([...known, recorded]))
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-breaker-'))
  startFails = false
  for (const name of ['coordinator', 'san-a', 'host-a/guardian']) await run(name, '.')
  await run('host-a/agent', 'host-a/guardian')
  mkdirSync(join(directory, 'chaos'))
  writeFileSync(rulesFile(), '')
})
afterEach(() => {
  for (const child of children.values()) child.kill('SIGKILL')
  children.clear()
  started.length = 0
  rmSync(directory, { recursive: true })
})

const rulesFile = () => join(directory, 'chaos', 'rules.json')
const journal = () => JSON.parse(readFileSync(join(directory, 'chaos', 'journal.json'), 'utf8')).broken
const rules = () => {
  const text = readFileSync(rulesFile(), 'utf8')
  return text === '' ? [] : JSON.parse(text).network
}
/** `T`: it stands still. */
const state = (name: string): string => {
  const stat = readFileSync(`/proc/${children.get(name)?.pid}/stat`, 'latin1')
  return stat.slice(stat.lastIndexOf(')') + 2)[0] ?? ''
}
const stopped = () => [...children.keys()].filter(name => state(name) === 'T')
const fault = (kind: FaultKind, what: Partial<Fault> = {}): Fault => ({ id: 0, kind, atMs: 0, lastsMs: 0, ...what })

function open(files = filesOf(directory)) {
  return new Breaker({
    directory,
    files,
    clock: createClock(),
    sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
    cluster: () => cluster,
    api: () => {
      throw new Error('nobody is asked')
    },
    start: async nodes => {
      if (startFails) throw new Error('it does not start')
      started.push(...nodes)
    },
  })
}

test('a paused host stands still as a whole, and goes on when it is healed, by whomever, also twice', async () => {
  await open().inject(fault('host-pause', { host: 'host-a' }))
  await expect.poll(stopped).toEqual(['host-a/guardian', 'host-a/agent'])
  const other = open()
  expect(await other.healAll()).toEqual([])
  await expect.poll(stopped).toEqual([])
  expect(journal()).toEqual([])
  expect(await other.healAll()).toEqual([])
})

test('the journal comes first', async () => {
  const files = filesOf(directory)
  const seen: string[][] = []
  const looking = {
    ...files,
    writeAtomic: async (path: string, data: Uint8Array) => {
      if (path.endsWith('journal.json')) seen.push(stopped())
      await files.writeAtomic(path, data)
    },
  }
  await open(looking).inject(fault('coordinator-pause'))
  expect(seen).toEqual([[]])
  await expect.poll(stopped).toEqual(['coordinator'])
})

test('who was killed in the middle leaves nothing that is not healed', { timeout: 30_000 }, async () => {
  const program = `
    import { Breaker } from ${JSON.stringify(join(import.meta.dirname, 'breaker.ts'))}
    import { filesOf } from ${JSON.stringify(join(import.meta.dirname, '../../cluster/directory.ts'))}
    const breaker = new Breaker({
      directory: ${JSON.stringify(directory)},
      files: filesOf(${JSON.stringify(directory)}),
      clock: { now: () => 0, wall: () => 0 },
      sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
      cluster: () => (${JSON.stringify(cluster)}),
    })
    await breaker.inject({ id: 1, kind: 'host-pause', atMs: 0, lastsMs: 0, host: 'host-a' })
    await breaker.inject({ id: 2, kind: 'cable-pull', atMs: 0, lastsMs: 0, host: 'host-b', fabric: 0 })
    console.log('broken')
    setInterval(() => undefined, 1_000)`
  const driver = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(driver.stdout, 'data')
  driver.kill('SIGKILL')
  await once(driver, 'exit')
  await expect.poll(stopped).toEqual(['host-a/guardian', 'host-a/agent'])
  expect(rules()).toHaveLength(1)
  expect(await open().healAll()).toEqual([])
  await expect.poll(stopped).toEqual([])
  expect([readFileSync(rulesFile(), 'utf8'), journal()]).toEqual(['', []])
})

test('rules of several faults stand side by side, and the last one leaves an empty file', async () => {
  const breaker = open()
  const one = await breaker.inject(fault('cable-pull', { host: 'host-a', fabric: 0 }))
  const two = await breaker.inject(fault('fabric-down', { fabric: 1 }))
  expect([one.fault.id, two.fault.id, rules().length]).toEqual([1, 2, 2])
  expect(JSON.parse(readFileSync(rulesFile(), 'utf8'))).toMatchObject({
    nodes: expect.objectContaining({ [`127.90.97.${25_002 - 97 * 256}`]: 'host-a' }),
    ports: expect.objectContaining({ 25002: 'host-a', 25000: 'coordinator' }),
  })
  await breaker.heal(one.fault.id)
  expect(rules()).toEqual([{ network: 'fabric-1', verdict: 'hold' }])
  await breaker.heal(two.fault.id)
  await breaker.heal(two.fault.id)
  expect(readFileSync(rulesFile(), 'utf8')).toBe('')
})

test('faults that begin and end at the same moment leave each other’s rules alone', async () => {
  const breaker = open()
  const cut = (id: number) => fault('cable-pull', { id, host: id % 2 === 0 ? 'host-a' : 'host-b', fabric: 0 })
  await Promise.all([1, 2, 3].map(id => breaker.inject(cut(id))))
  await Promise.all([breaker.heal(1), breaker.inject(cut(4)), breaker.heal(2), breaker.inject(cut(5))])
  expect(new Set(journal().map((broken: { fault: Fault }) => broken.fault.id))).toEqual(new Set([3, 4, 5]))
  expect(rules()).toHaveLength(3)
})

test('one that is killed again while it starts is left to the heal of that', async () => {
  const breaker = open()
  await breaker.inject(fault('storage-kill', { id: 1, storage: 'san-a' }))
  startFails = true
  await run('san-a', '.')
  await breaker.inject(fault('storage-kill', { id: 2, storage: 'san-a' }))
  await breaker.heal(1)
  await expect(breaker.heal(2)).rejects.toThrow('does not start')
  expect(journal().map((broken: { fault: Fault }) => broken.fault.id)).toEqual([2])
})

test('what does not start is on record for each who broke it, and keeps no other from being healed', async () => {
  const breaker = open()
  await breaker.inject(fault('storage-kill', { storage: 'san-a' }))
  await run('san-a', '.')
  await breaker.inject(fault('storage-kill', { storage: 'san-a' }))
  await breaker.inject(fault('host-pause', { host: 'host-a' }))
  await breaker.inject(fault('fabric-down', { fabric: 0 }))
  startFails = true
  expect((await breaker.healAll()).map(({ broken }) => broken.fault.id)).toEqual([1, 2])
  expect([state('host-a/guardian'), state('host-a/agent')]).not.toContain('T')
  expect([readFileSync(rulesFile(), 'utf8'), journal().length]).toEqual(['', 2])
})

test('the killed are gone, and are started when it is healed; one that does not start is still on record', async () => {
  const breaker = open()
  const { fault: done } = await breaker.inject(fault('host-kill', { host: 'host-a' }))
  expect(['host-a/guardian', 'host-a/agent'].map(name => identifyProcess(children.get(name)?.pid ?? 0))).toEqual([
    null,
    null,
  ])
  startFails = true
  await expect(breaker.heal(done.id)).rejects.toThrow('does not start')
  expect(await breaker.healAll()).toEqual([expect.objectContaining({ why: 'it does not start' })])
  startFails = false
  expect(journal()).toHaveLength(1)
  expect(await breaker.healAll()).toEqual([])
  expect([started, journal()]).toEqual([['host-a'], []])
})

test('another process that got the pid is left alone', async () => {
  await open().inject(fault('coordinator-pause'))
  const file = join(directory, 'chaos', 'journal.json')
  writeFileSync(file, readFileSync(file, 'utf8').replace(/"startTicks": \d+/, '"startTicks": 1'))
  expect(await open().healAll()).toEqual([])
  await expect.poll(stopped).toEqual(['coordinator'])
})

test('a cluster that is started anew is whole, but for bytes that have changed', async () => {
  await open().inject(fault('host-pause', { host: 'host-a' }))
  await open().inject(fault('coordinator-kill'))
  const [first] = journal()
  const rotten = { ...first, fault: { ...first.fault, id: 7 }, undo: [{ do: 'scrub', volume: 'v', goodLeg: 'l' }] }
  writeFileSync(join(directory, 'chaos', 'journal.json'), JSON.stringify({ format: 1, broken: [...journal(), rotten] }))
  await forgetBroken(filesOf(directory))
  expect(journal().map((broken: { fault: Fault }) => broken.fault.id)).toEqual([7])
})

describe('refused, and nothing is changed:', () => {
  test.each([
    ['a host that is unknown', fault('host-kill', { host: 'host-q' }), 'unknown-host'],
    ['a storage that is unknown', fault('disk-full', { storage: 'san-q' }), 'unknown-storage'],
    ['a peer that is unknown', fault('partition', { host: 'host-a', peer: 'x' }), 'unknown-node'],
    ['one that does not run', fault('host-kill', { host: 'host-b' }), 'not-running'],
    ['a fault that lacks a word', fault('host-kill'), 'fault-incomplete'],
  ])('%s', async (_what, wrong, code) => {
    await expect(open().inject(wrong)).rejects.toMatchObject({ code })
    expect(existsSync(join(directory, 'chaos', 'journal.json'))).toBe(false)
  })

  test('rules where nobody goes by them', async () => {
    rmSync(rulesFile())
    const cut = open().inject(fault('host-isolate', { host: 'host-a' }))
    await expect(cut).rejects.toMatchObject({ code: 'no-faults', hint: expect.stringContaining('up --chaos') })
    expect(existsSync(join(directory, 'chaos', 'journal.json'))).toBe(false)
  })

  test('a journal that is damaged', async () => {
    writeFileSync(join(directory, 'chaos', 'journal.json'), '{"format": 1, "broken": [{}]}')
    await expect(open().healAll()).rejects.toMatchObject({ code: 'corrupt-state' })
  })
})
