// Viewers and a screen on real sockets: a server that greets, and says again what it hears.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ByteStream } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { relayScreen, VIEWERS_MAX } from './screen-relay.ts'

const LOOPBACK = { host: '127.0.0.1', port: 0 }
const directory = mkdtempSync(join(tmpdir(), 'relay-'))
const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
const screens = new Set<ByteStream>()
let dial: () => Promise<ByteStream>

beforeAll(async () => {
  const listener = await env.network.listenStream({ network: 'cluster', ...LOOPBACK }, screen => {
    screens.add(screen)
    screen.onClose(() => screens.delete(screen))
    screen.onData(chunk => screen.write([chunk]))
    screen.write([Buffer.from('RFB')])
  })
  dial = () => env.network.dialStream(listener.address)
})

afterAll(async () => {
  await env.close()
  rmSync(directory, { recursive: true })
})

async function look(port: number, words = ''): Promise<{ viewer: Socket; heard: () => string }> {
  const viewer = connect(port, LOOPBACK.host)
  const chunks: Buffer[] = []
  viewer.on('data', (chunk: Buffer) => chunks.push(chunk))
  viewer.on('error', () => undefined)
  await once(viewer, 'connect')
  viewer.write(words)
  return { viewer, heard: () => Buffer.concat(chunks).toString() }
}

test('what a viewer says reaches the screen, also what it said at once, and back', async () => {
  const relay = await relayScreen({ env, vm: 'a', listen: LOOPBACK, dial })
  const { viewer, heard } = await look(relay.listening.port, 'hello')
  await expect.poll(heard).toBe('RFBhello')
  const ended = once(viewer, 'close')
  await relay.close()
  await ended
  await expect.poll(() => screens.size).toBe(0)
  await expect(look(relay.listening.port)).rejects.toThrow(/ECONNREFUSED/)
})

test('a screen that is not there, and a port that is taken, are heard by who asks for the way', async () => {
  const gone = () => Promise.reject(new StellwerkError('screen-away', 'not here'))
  await expect(relayScreen({ env, vm: 'a', listen: LOOPBACK, dial: gone })).rejects.toMatchObject({
    code: 'screen-away',
  })
  const relay = await relayScreen({ env, vm: 'a', listen: LOOPBACK, dial })
  await expect(relayScreen({ env, vm: 'a', listen: relay.listening, dial })).rejects.toMatchObject({
    code: 'address-in-use',
  })
  await relay.close()
})

test('a viewer that finds the screen gone is turned away, and the next one finds it again', async () => {
  let away = false
  const sometimes = () => (away ? Promise.reject(new StellwerkError('screen-away', 'not here')) : dial())
  const relay = await relayScreen({ env, vm: 'a', listen: LOOPBACK, dial: sometimes })
  away = true
  const { viewer } = await look(relay.listening.port)
  await once(viewer, 'close')
  away = false
  const { heard } = await look(relay.listening.port)
  await expect.poll(heard).toBe('RFB')
  await relay.close()
})

test('so many look at once, and no more, until one has gone', async () => {
  const relay = await relayScreen({ env, vm: 'a', listen: LOOPBACK, dial })
  const all = await Promise.all(Array.from({ length: VIEWERS_MAX }, () => look(relay.listening.port)))
  await expect.poll(() => all.every(({ heard }) => heard() === 'RFB')).toBe(true)
  await once((await look(relay.listening.port)).viewer, 'close')
  all[0]!.viewer.destroy()
  const again = async () => {
    const { heard, viewer } = await look(relay.listening.port)
    await Promise.race([once(viewer, 'close'), once(viewer, 'data')])
    return heard()
  }
  await expect.poll(again).toBe('RFB')
  await relay.close()
})
