// What a host does with the lasting forwards of a map: opens what it is to have, tries again what cannot be opened, opens anew what
// has ended, and closes the rest.

import type { MapForward } from '@stellwerk/protocol/messages/forward.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { expect, test } from 'vitest'
import { type LastingForward, LastingForwards } from './lasting-forwards.ts'

/** Ways that open where nothing else listens; what was done is on record. */
class Bench {
  readonly open = new Map<string, LastingForward>()
  readonly taken = new Set<number>()
  readonly did: string[] = []
  readonly warned: string[] = []
  changes = 0
  now = 0
  /** Runs once, while a way is being opened. */
  meanwhile: (() => void) | null = null
  readonly lasting = new LastingForwards({
    ...{ host: 'host-a', address: '10.9.0.1' },
    now: () => this.now,
    onChange: () => {
      this.changes += 1
    },
    warn: ({ why }) => this.warned.push(why),
    ways: {
      has: key => this.open.has(key),
      open: async (key, forward) => {
        const { host, port } = forward.listen
        this.did.push(`open ${host}:${port} to ${forward.guest}:${forward.guestPort} by ${forward.gateway}`)
        await Promise.resolve()
        if (this.taken.has(port)) throw new StellwerkError('address-in-use', 'the port is taken')
        this.open.set(key, forward)
        this.meanwhile?.()
        this.meanwhile = null
      },
      close: async key => {
        this.did.push(`close ${this.open.get(key)?.listen.port ?? 'nothing'}`)
        this.open.delete(key)
      },
    },
  })

  async settle(passedMs = 0): Promise<string[]> {
    this.now += passedMs
    await this.lasting.settle()
    return this.did.splice(0)
  }
}

const SSH: MapForward = {
  ...{ forward: '2222', listen: { host: null, port: 2222 }, network: 'lan', bits: 24 },
  ...{ guest: '10.0.0.7', guestPort: 22, at: [{ host: 'host-a', gateway: '10.0.0.254' }] },
}
const WEB: MapForward = { ...SSH, forward: '10.9.9.9:80', listen: { host: '10.9.9.9', port: 80 }, guestPort: 80 }
const at = (forward: MapForward, host: string): MapForward => ({ ...forward, at: [{ host, gateway: '10.0.0.253' }] })

test('it opens what the map has here, at its own address or the one that is said, and says so', async () => {
  const bench = new Bench()
  expect(bench.lasting.any).toBe(false)
  expect(bench.lasting.follow([SSH, WEB, at({ ...SSH, forward: '23' }, 'host-b')])).toBe(true)
  expect(bench.lasting.reports).toEqual([])
  expect(await bench.settle()).toEqual([
    'open 10.9.0.1:2222 to 10.0.0.7:22 by 10.0.0.254',
    'open 10.9.9.9:80 to 10.0.0.7:80 by 10.0.0.254',
  ])
  expect(bench.lasting.reports).toEqual([
    { forward: '2222', address: '10.9.0.1', why: null },
    { forward: '10.9.9.9:80', address: '10.9.9.9', why: null },
  ])
  expect(bench.changes).toBe(2)
  // The same again is nothing to do.
  expect(bench.lasting.follow([SSH, WEB])).toBe(false)
  expect(await bench.settle()).toEqual([])
})

test('what has moved is closed, and a change closes before it opens: the port may be the same', async () => {
  const bench = new Bench()
  bench.lasting.follow([SSH])
  await bench.settle()
  const { lasting } = bench
  expect(lasting.follow([{ ...SSH, guest: '10.0.0.9' }])).toBe(true)
  expect(await bench.settle()).toEqual(['close 2222', 'open 10.9.0.1:2222 to 10.0.0.9:22 by 10.0.0.254'])
  expect(lasting.follow([at(SSH, 'host-b')])).toBe(true)
  expect(await bench.settle()).toEqual(['close 2222'])
  expect(lasting.reports).toEqual([])
  expect(lasting.any).toBe(false)
})

test('a port that is taken is tried again, more and more rarely, and told once; when it is free it is open', async () => {
  const bench = new Bench()
  bench.taken.add(2222)
  bench.lasting.follow([SSH])
  expect(await bench.settle()).toHaveLength(1)
  const why = expect.stringContaining('the port is taken')
  expect(bench.lasting.reports).toEqual([{ forward: '2222', address: '10.9.0.1', why }])
  const waits: number[] = []
  for (let since = 0, seconds = 0; seconds < 60; seconds += 1) {
    since += 1
    if ((await bench.settle(1_000)).length === 0) continue
    waits.push(since)
    since = 0
  }
  expect(waits).toEqual([1, 2, 4, 8, 15, 15, 15])
  expect(bench.warned).toEqual([why])
  bench.taken.clear()
  await bench.settle(15_000)
  expect(bench.lasting.reports).toMatchObject([{ why: null }])
  // One that ends by itself is opened at once.
  bench.open.clear()
  expect(bench.lasting.reports).toEqual([])
  expect(await bench.settle()).toHaveLength(1)
})

test('one that the map takes away while it is being opened is closed', async () => {
  const bench = new Bench()
  bench.lasting.follow([SSH, WEB])
  bench.meanwhile = () => expect(bench.lasting.follow([])).toBe(true)
  expect(await bench.settle()).toEqual(['open 10.9.0.1:2222 to 10.0.0.7:22 by 10.0.0.254'])
  expect(await bench.settle()).toEqual(['close 2222'])
  expect(bench.open.size).toBe(0)
})
