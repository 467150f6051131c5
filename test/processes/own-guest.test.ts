// `stellwerk vm create --guest FILE.wasm` as an operator uses it: a module of their own runs, moves, survives the loss of the
// coordinator's state, and is gone with its VM; what is no guest is refused in one line.

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { catalogGuest } from '@stellwerk/agent/guests/catalog.ts'
import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Stellwerk } from './stellwerk.ts'

const LONG = 240_000
const stellwerk = new Stellwerk('guest')
let up: ReturnType<Stellwerk['start']>

/** The ledger, with a section of ours that no engine looks at: another module that runs as it does. */
const ledger = catalogGuest('ledger')!.module
const own = Buffer.concat([ledger, Buffer.from([0, 6, 4, ...Buffer.from('mine'), 1])])
const digest = digestOf(own)

interface Vm {
  readonly state: string
  readonly host: string | null
  readonly guest: string
  readonly why: string | null
}
const vm = (name = 'web') => stellwerk.json<Vm>('vm', 'show', name)
const reaches = (state: string) =>
  expect.poll(async () => (await vm()).state, { timeout: 90_000, interval: 300 }).toBe(state)
/** Of a process: the modules that it keeps. */
const kept = (process: string): string[] => {
  const directory = join(stellwerk.state, process, 'guests')
  return existsSync(directory) ? readdirSync(directory) : []
}
const agents = () => readdirSync(stellwerk.state).filter(name => /^host-.$/.test(name))
const keptByAgents = () => agents().flatMap(host => kept(`${host}/agent`))

beforeAll(async () => {
  writeFileSync(join(stellwerk.directory, 'own.wasm'), own)
  up = stellwerk.start('up', '--hosts', '2', '--profile', 'production')
  await up.said(/^up after/)
}, LONG)

afterAll(async () => {
  await stellwerk.remove()
}, LONG)

describe('a guest module of one’s own', () => {
  it('is refused in one line when it is none, and nothing is changed', { timeout: LONG }, async () => {
    const corrupt = Buffer.from(own)
    corrupt.fill(0xff, 200, 260)
    const files: [string, Buffer | null, RegExp][] = [
      ['cut.wasm', own.subarray(0, 1500), /guest module refused.*cut\.wasm/],
      ['corrupt.wasm', corrupt, /guest module refused/],
      ['text.wasm', Buffer.from('#!/bin/sh\n'), /neither a boot image nor a WebAssembly module/],
      ['empty.wasm', Buffer.alloc(0), /neither a boot image nor a WebAssembly module/],
      // Sound WebAssembly that is no guest: it imports nothing and has no step.
      ['foreign.wasm', Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]), /does not import env\.memory/],
      ['large.wasm', Buffer.concat([own, Buffer.alloc(9 * 1024 * 1024)]), /at most 8388608/],
      ['none.wasm', null, /no guest "none\.wasm".*known: /],
    ]
    mkdirSync(join(stellwerk.directory, 'dir.wasm'))
    for (const [name, bytes, said] of files) {
      if (bytes !== null) writeFileSync(join(stellwerk.directory, name), bytes)
      const { code, lines } = await stellwerk.run('vm', 'create', 'bad', '--guest', name)
      expect([name, code, lines]).toEqual([name, 1, [expect.stringMatching(said)]])
    }
    const memory = await stellwerk.run('vm', 'create', 'bad', '--guest', 'own.wasm', '--memory', '64KiB')
    expect(memory).toEqual({
      code: 1,
      lines: [expect.stringMatching(/cannot have 65536 bytes of memory.*multiple of/)],
    })
    const directory = await stellwerk.run('vm', 'create', 'bad', '--guest', 'dir.wasm')
    expect([directory.code, directory.lines.length]).toEqual([1, 1])
    const volume = ['--disk', 'nowhere:8MiB']
    const refused = await stellwerk.run('vm', 'create', 'bad', '--guest', 'own.wasm', ...volume)
    expect(refused).toEqual({ code: 1, lines: [expect.stringMatching(/no volume "nowhere"/)] })
    expect([Object.keys(await stellwerk.json<object>('vm', 'list')), kept('coordinator')]).toEqual([[], []])
  })

  it('runs where it is placed and where it is migrated to', { timeout: LONG }, async () => {
    const words = ['--guest', 'own.wasm', '--memory', '8MiB', '--disk', 'csv1:8MiB', '--host', 'host-a']
    expect((await stellwerk.run('vm', 'create', 'web', ...words)).code).toBe(0)
    await reaches('running')
    expect(await vm()).toMatchObject({ guest: guestOfDigest(digest), host: 'host-a' })
    expect([kept('coordinator'), keptByAgents()]).toEqual([[digest], [digest]])
    const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', 'host-b', '--wait')
    expect(over.phase).toBe('done')
    expect(keptByAgents()).toEqual([digest, digest])
  })

  it('comes back from the agents when the coordinator’s state was lost', { timeout: LONG }, async () => {
    // The copy on the volume is written within a second or two of the last change.
    await new Promise(resolve => setTimeout(resolve, 4_000))
    await stellwerk.run('down')
    await up.ended
    rmSync(join(stellwerk.state, 'coordinator'), { recursive: true })
    const restored = await stellwerk.run('cluster', 'restore', 'csv1')
    expect(restored).toEqual({ code: 0, lines: [expect.stringMatching(/restored 1 VMs/)] })
    // One host has lost its cache too, and gets it by way of the coordinator.
    for (const host of agents()) {
      const guests = join(stellwerk.state, host, 'agent', 'guests')
      if (host === 'host-b') renameSync(guests, `${guests}.away`)
    }
    up = stellwerk.start('up', '--profile', 'production')
    await up.said(/^up after/)
    await reaches('running')
    const { host } = await vm()
    const to = host === 'host-a' ? 'host-b' : 'host-a'
    const over = await stellwerk.json<{ phase: string }>('vm', 'migrate', 'web', '--to', to, '--wait')
    expect(over.phase).toBe('done')
    expect([kept('coordinator'), keptByAgents()]).toEqual([[digest], [digest, digest]])
  })

  it('is gone with the last VM that uses it', { timeout: LONG }, async () => {
    expect((await stellwerk.run('vm', 'delete', 'web')).code).toBe(0)
    await expect.poll(() => kept('coordinator'), { timeout: 90_000 }).toEqual([])
    await expect.poll(() => keptByAgents(), { timeout: 90_000 }).toEqual([])
    await stellwerk.run('down')
    await up.ended
  })
})
