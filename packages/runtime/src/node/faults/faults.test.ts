// Fault rules at the seams of the real environment: what passes between two nodes, what does not, what comes late, and that all of
// it is over as soon as the file is empty. Real sockets, files and clocks.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { present } from '../../assert.ts'
import { codeOf, sleep, until } from '../../contract/world.ts'
import type { Address, ByteStream, Link } from '../../environment.ts'
import { createEnvironment, type NodeEnvironment } from '../environment.ts'
import { memoryStore } from '../memory-store.ts'
import type { FaultRules } from './fault-rules.ts'

const SOURCES = { a: '127.92.0.1', b: '127.92.0.2' } as const
/** A rule is in force everywhere by then. */
const SEEN_MS = 80
const PASSES_MS = 1_000

let directory = ''
let file = ''
let a: NodeEnvironment
let b: NodeEnvironment
const open = (name: string, source: string) =>
  createEnvironment({
    name,
    directory: join(directory, name),
    store: memoryStore(),
    logLevel: 'silent',
    faults: { file, source, repeating: (link, chance) => Object.assign(link, { chance }) },
  })

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stellwerk-faults-'))
  file = join(directory, 'rules.json')
  a = open('a', SOURCES.a)
  b = open('b', SOURCES.b)
})
afterEach(async () => {
  await b.close()
  await a.close()
  rmSync(directory, { recursive: true })
})

/** `b` listens; `a` has dialled it. */
async function linked(linkClass: 'control' | 'io' = 'control') {
  const accepted: Link[] = []
  const listener = await b.network.listen({ network: 'cluster', host: '127.0.0.1', port: 0 }, link => {
    accepted.push(link)
    follow(link, heardByB, closes, 'b')
  })
  const heardByA: string[] = []
  const heardByB: string[] = []
  const closes: string[] = []
  const near = await a.network.dial(listener.address, linkClass)
  follow(near, heardByA, closes, 'a')
  await until(a, 'accepted', () => accepted.length === 1)
  return { near, far: present(accepted[0], 'a link'), heardByA, heardByB, closes, address: listener.address }
}

function follow(link: Link, heard: string[], closes: string[], end: string): void {
  link.onFrame(frame => void heard.push(Buffer.from(frame).toString()))
  link.onClose(code => closes.push(`${end} ${code}`))
}

const say = (link: Link, text: string) => link.trySend([Buffer.from(text)])

async function break_(port: number, rules: Partial<FaultRules>): Promise<void> {
  const nodes = Object.fromEntries(Object.entries(SOURCES).map(([node, source]) => [source, node]))
  writeFileSync(`${file}.aside`, JSON.stringify({ nodes, ports: { [port]: 'b' }, ...rules }))
  renameSync(`${file}.aside`, file)
  await sleep(a, SEEN_MS)
}

async function heal(): Promise<void> {
  writeFileSync(file, '')
  await sleep(a, SEEN_MS)
}

describe('a link', () => {
  test('that is cut loses nothing: what was said arrives in order once it is healed, and nobody is told of anything', async () => {
    const { near, far, heardByA, heardByB, closes, address } = await linked()
    await break_(address.port, { network: [{ from: 'a', to: 'b', bothWays: true, verdict: 'hold' }] })
    say(near, 'one')
    say(near, 'two')
    say(far, 'back')
    await sleep(a, 150)
    expect([heardByA, heardByB]).toEqual([[], []])
    await heal()
    await until(a, 'all of it arrives', () => heardByB.length === 2 && heardByA.length === 1)
    expect([heardByB, closes]).toEqual([['one', 'two'], []])
  })

  test('that is cut one way carries the other', async () => {
    const { near, far, heardByA, heardByB, address } = await linked()
    await break_(address.port, { network: [{ from: 'b', to: 'a', verdict: 'hold' }] })
    say(far, 'lost')
    say(near, 'heard')
    await until(a, 'the way there', () => heardByB.length === 1)
    await sleep(a, 100)
    expect(heardByA).toEqual([])
  })

  test('whose end dies behind a cut is not known to be dead: the other notices by keep-alive', {
    timeout: 20_000,
  }, async () => {
    const { closes, address } = await linked()
    await break_(address.port, { network: [{ from: 'a', bothWays: true, network: 'cluster', verdict: 'hold' }] })
    const diedAt = b.clock.now()
    await a.close()
    await sleep(b, 1_000)
    expect(closes.filter(close => close.startsWith('b'))).toEqual([])
    await until(b, 'keep-alive', () => closes.includes('b lost'))
    expect(b.clock.now() - diedAt).toBeGreaterThan(6_000)
  })

  test('breaks by a reset as soon as something travels on it, at both ends', async () => {
    const { near, heardByB, closes, address } = await linked()
    await break_(address.port, { network: [{ from: 'a', to: 'b', bothWays: true, verdict: 'reset' }] })
    expect(closes).toEqual([])
    say(near, 'lost')
    await until(a, 'both ends', () => closes.length === 2)
    expect([closes.sort(), heardByB]).toEqual([['a lost', 'b lost'], []])
  })

  test('of another class, network, port or node is not concerned', async () => {
    const { near, heardByB, address } = await linked('io')
    await break_(address.port, {
      network: [
        { from: 'a', verdict: 'hold', class: 'control' },
        { from: 'a', verdict: 'hold', network: ['fabric-0', 'guest'] },
        { from: 'a', verdict: 'hold', port: address.port + 1 },
        { from: 'a', to: 'c', verdict: 'hold' },
        { from: 'a', to: 'a', verdict: 'hold' },
      ],
    })
    say(near, 'heard')
    await until(a, 'it passes', () => heardByB.length === 1)
  })

  test('is late by delay, slow by bandwidth, and late by losses', async () => {
    const { near, heardByB, address } = await linked()
    const tookMs = async (rules: FaultRules['network'], bytes: number) => {
      await break_(address.port, { network: rules })
      const [count, at] = [heardByB.length, a.clock.now()]
      near.trySend([new Uint8Array(bytes)])
      await until(a, 'it arrives', () => heardByB.length > count)
      return a.clock.now() - at
    }
    const ways = { from: 'a', to: 'b' }
    expect(await tookMs([{ ...ways, verdict: { delayMs: 120 } }], 10)).toBeGreaterThanOrEqual(119)
    expect(await tookMs([{ ...ways, verdict: { bytesPerMs: 1_000 } }], 200_000)).toBeGreaterThanOrEqual(199)
    // Lost once at least with this chance, of forty.
    await break_(address.port, { network: [{ ...ways, verdict: { loss: 0.3 } }] })
    const [count, at] = [heardByB.length, a.clock.now()]
    for (let i = 0; i < 40; i++) say(near, `${i}`)
    await until(a, 'they arrive', () => heardByB.length === count + 40)
    expect(a.clock.now() - at).toBeGreaterThanOrEqual(200)
    expect(heardByB.slice(-40)).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`))
  })

  test('of requests that come twice is opened anew, and knows the chance of the moment', async () => {
    const { near, closes, address } = await linked()
    expect(near).not.toHaveProperty('chance')
    await break_(address.port, { network: [{ from: 'a', bothWays: true, verdict: { repeat: 0.25 } }] })
    await until(a, 'it is broken', () => closes.length === 2)
    const again = (await a.network.dial(address, 'control')) as Link & { chance(): number }
    expect(again.chance()).toBe(0.25)
    await heal()
    expect(again.chance()).toBe(0)
    expect(await a.network.dial(address, 'io')).not.toHaveProperty('chance')
  })
})

describe('a dial', () => {
  const dial = (address: Address, timeoutMs: number) => a.network.dialStream(address, { timeoutMs })

  test('is refused, or not answered, for as long as the rule is there', async () => {
    const listener = await b.network.listenStream({ network: 'fabric-0', host: '127.0.0.1', port: 0 }, () => undefined)
    const { address } = listener
    await break_(address.port, { network: [{ from: 'a', to: 'b', network: 'fabric-0', verdict: 'refuse' }] })
    expect(await codeOf(dial(address, PASSES_MS))).toBe('refused')
    // Whichever way is closed: there is no answer.
    for (const way of [{ from: 'a' }, { from: 'b' }]) {
      await break_(address.port, { network: [{ ...way, verdict: 'hold' }] })
      const at = a.clock.now()
      expect(await codeOf(dial(address, 200))).toBe('unreachable')
      expect(a.clock.now() - at).toBeGreaterThanOrEqual(199)
    }
    const waiting = dial(address, 5_000)
    await heal()
    expect(await codeOf(waiting)).toBe('none')
  })

  test('from outside the cluster is nobody’s fault, and so are unix sockets', async () => {
    const outside = createEnvironment({ name: 'observer', directory, store: memoryStore(), logLevel: 'silent' })
    const listener = await b.network.listenStream({ network: 'cluster', host: '127.0.0.1', port: 0 }, stream => {
      stream.write([Buffer.from('hello')])
    })
    const local = await b.network.listenStream(
      { network: 'local', host: join(directory, 's'), port: 0 },
      () => undefined,
    )
    await break_(listener.address.port, { network: [{ to: 'b', bothWays: true, verdict: 'hold' }] })
    const heard: Uint8Array[] = []
    const stream = await outside.network.dialStream(listener.address)
    stream.onData(chunk => void heard.push(chunk))
    await until(outside, 'it is heard', () => heard.length === 1)
    expect(await codeOf(a.network.dialStream(local.address))).toBe('none')
    await outside.close()
  })
})

describe('a byte stream', () => {
  async function streams(rules: FaultRules['network']) {
    const accepted: ByteStream[] = []
    const listener = await b.network.listenStream({ network: 'fabric-1', host: '127.0.0.1', port: 0 }, stream => {
      accepted.push(stream)
    })
    const near = await a.network.dialStream(listener.address)
    await until(a, 'accepted', () => accepted.length === 1)
    await break_(listener.address.port, { network: rules })
    return { near, far: present(accepted[0], 'a stream') }
  }

  test('that is cut holds what it was given, its end too, without bound to nobody’s harm', async () => {
    const { near, far } = await streams([{ network: 'fabric-1', verdict: 'hold' }])
    let heard = 0
    let isEnded = false
    far.onData(chunk => {
      heard += chunk.byteLength
    })
    far.onEnd(() => {
      isEnded = true
      far.end()
    })
    let drains = 0
    near.onDrain(() => drains++)
    expect(near.write([new Uint8Array(600_000)])).toBe(true)
    expect(near.write([new Uint8Array(600_000)])).toBe(false)
    expect(near.bufferedBytes).toBe(1_200_000)
    near.end()
    await sleep(a, 100)
    expect([heard, isEnded]).toEqual([0, false])
    await heal()
    await until(a, 'all of it', () => isEnded && drains === 1)
    expect([heard, near.bufferedBytes]).toEqual([1_200_000, 0])
  })

  test('breaks by a reset with the system’s code', async () => {
    const { near, far } = await streams([{ from: 'b', to: 'a', verdict: 'reset' }])
    const errors: unknown[] = []
    near.onData(() => undefined)
    near.onClose(error => errors.push(error))
    far.onClose(error => errors.push(error))
    far.write([Buffer.from('x')])
    await until(a, 'both ends', () => errors.length === 2)
    expect(errors).toContainEqual(expect.objectContaining({ code: 'ECONNRESET' }))
  })
})

describe('a file', () => {
  test('fails with the system’s code where a rule says so, and is whole afterwards', async () => {
    const disk = await a.files.open('lun', { create: true })
    const other = await a.files.open('map', { create: true })
    await disk.write(0, [Buffer.from('good')])
    await break_(1, {
      disk: [
        { node: 'a', path: 'lun', operation: ['write'], verdict: 'ENOSPC' },
        { node: 'a', path: 'lun', operation: ['read'], verdict: 'EIO' },
        { node: 'b', path: 'map', operation: ['read', 'write'], verdict: 'EIO' },
      ],
    })
    expect(await codeOf(disk.write(0, [Buffer.from('evil')], { durable: true }))).toBe('ENOSPC')
    expect(await codeOf(disk.read(0, 4))).toBe('EIO')
    expect(await codeOf(other.write(0, [Buffer.from('fine')]))).toBe('none')
    await heal()
    expect(Buffer.from(await disk.read(0, 4)).toString()).toBe('good')
    await disk.close()
    await other.close()
  })

  test('is slow, or fails now and then', async () => {
    const disk = await a.files.open('lun', { create: true })
    await break_(1, { disk: [{ node: 'a', path: '', operation: ['read'], verdict: { delayMs: 60 } }] })
    const at = a.clock.now()
    await disk.read(0, 10)
    expect(a.clock.now() - at).toBeGreaterThanOrEqual(59)
    await break_(1, { disk: [{ node: 'a', path: '', operation: ['read'], chance: 0.5, verdict: 'EIO' }] })
    const codes = await Promise.all(Array.from({ length: 60 }, () => codeOf(disk.read(0, 10))))
    expect(new Set(codes)).toEqual(new Set(['EIO', 'none']))
    await disk.close()
  })
})

test('a wall clock jumps, the other one does not, and both come back', async () => {
  await break_(1, { clock: [{ node: 'a', byMs: -288_000 }] })
  const [wall, at] = [a.clock.wall(), a.clock.now()]
  expect(b.clock.wall() - wall).toBeGreaterThan(280_000)
  await heal()
  expect(a.clock.now() - at).toBeLessThan(5_000)
  expect(a.clock.wall() - wall).toBeGreaterThan(280_000)
})

test('a file of rules that makes no sense changes nothing', async () => {
  const { near, heardByB, address } = await linked()
  await break_(address.port, { network: [{ from: 'a', verdict: 'hold' }] })
  writeFileSync(file, '{"network": [')
  await sleep(a, SEEN_MS)
  say(near, 'held')
  await sleep(a, 100)
  expect(heardByB).toEqual([])
  await heal()
  await until(a, 'it arrives', () => heardByB.length === 1)
})
