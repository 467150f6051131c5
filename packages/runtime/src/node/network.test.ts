// The real network's own: coded errors, sockets left behind by the dead, peers that are silent or speak nonsense.

import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, get } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { codeOf } from '../contract/world.ts'
import { LINK_FRAME_MAX_BYTES } from '../credited-link.ts'
import type { Address, Link } from '../environment.ts'
import { dialError } from './address.ts'
import { createNetwork } from './network.ts'
import { WebFrameSocket } from './web-frame-socket.ts'

const directory = mkdtempSync(join(tmpdir(), 'stellwerk-net-'))
const network = createNetwork()
afterAll(async () => {
  await network.close()
  rmSync(directory, { recursive: true })
})

const loopback: Address = { network: 'cluster', host: '127.0.0.1', port: 0 }
const local = (name: string): Address => ({ network: 'local', host: join(directory, name), port: 0 })

async function listenRaw(server: Server): Promise<Address> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { ...loopback, port: address.port }
}

/** Closes of accepted links, in order, and an address to reach them. */
async function listening() {
  const closes: string[] = []
  let frames = 0
  const listener = await network.listen(loopback, (link: Link) => {
    link.onFrame(() => {
      frames++
    })
    link.onClose(code => closes.push(code))
  })
  return { listener, closes, frames: () => frames, url: `ws://127.0.0.1:${listener.address.port}/stellwerk/link/` }
}

async function settled(predicate: () => boolean): Promise<void> {
  const end = Date.now() + 20_000
  while (!predicate()) {
    if (Date.now() > end) throw new Error('waited 20 s')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

test('nonsense names and ports and names of sockets that are too long are bad addresses, dialed or listened on', async () => {
  const bad: Address[] = [
    { ...loopback, host: 'no name' },
    { ...loopback, port: 70_000 },
    { ...loopback, port: Number.NaN },
    local('x'.repeat(120)),
    { network: 'local', host: '', port: 0 },
  ]
  for (const address of bad) {
    expect(await codeOf(network.dial(address, 'io'))).toBe('bad-address')
    expect(await codeOf(network.dialStream(address))).toBe('bad-address')
    expect(await codeOf(network.listen(address, () => undefined))).toBe('bad-address')
    expect(await codeOf(network.listenStream(address, () => undefined))).toBe('bad-address')
  }
})

test('a unix socket is reached in a directory of any depth, and is removed when its listener closes', async () => {
  const deep = `deep/${'d'.repeat(60)}/${'e'.repeat(60)}`
  const address = local(`${deep}/stream.sock`)
  expect(await codeOf(network.listenStream(address, () => undefined))).toBe('ENOENT')
  expect(await codeOf(network.dialStream(address))).toBe('refused')
  mkdirSync(local(deep).host, { recursive: true })
  expect(await codeOf(network.dialStream(address))).toBe('refused')
  const received = Promise.withResolvers<string>()
  const listener = await network.listenStream(address, stream => {
    stream.onData(data => received.resolve(Buffer.from(data).toString()))
  })
  expect(await codeOf(network.listen(address, () => undefined))).toBe('address-in-use')
  const stream = await network.dialStream(address)
  stream.write([Buffer.from('hello')])
  expect(await received.promise).toBe('hello')
  stream.destroy()
  await listener.close()
  expect(existsSync(address.host)).toBe(false)
  const links = await network.listen(address, () => undefined)
  const link = await network.dial(address, 'control')
  link.close('closed')
  await links.close()
})

test('a name can be dialed, but not listened on: it may be that of many addresses', async () => {
  const named = { ...loopback, host: 'localhost', port: 1 }
  expect(await codeOf(network.dialStream(named))).toBe('refused')
  expect(await codeOf(network.dial(named, 'io'))).toBe('refused')
  expect(await codeOf(network.listen(named, () => undefined))).toBe('bad-address')
  expect(await codeOf(network.listenStream(named, () => undefined))).toBe('bad-address')
})

test('an address of another machine cannot be listened on', async () => {
  const elsewhere = { ...loopback, host: '192.0.2.1', port: 4711 }
  expect(await codeOf(network.listen(elsewhere, () => undefined))).toBe('address-unavailable')
  expect(await codeOf(network.listenStream(elsewhere, () => undefined))).toBe('address-unavailable')
})

test('what the system says of a dial becomes a code, retryable where trying again can help', () => {
  const codes = {
    ECONNREFUSED: 'refused',
    ENOENT: 'refused',
    EHOSTUNREACH: 'unreachable',
    ETIMEDOUT: 'unreachable',
    EACCES: 'access-denied',
  }
  for (const [system, ours] of Object.entries(codes)) {
    const error = dialError(loopback, Object.assign(new Error(system), { code: system }))
    expect(error).toMatchObject({ code: ours, where: '127.0.0.1:0', retryable: ours !== 'access-denied' })
  }
})

test('one that accepts the connection and says nothing is unreachable after the time given', async () => {
  const sockets: Socket[] = []
  const server = createServer(socket => sockets.push(socket))
  const address = await listenRaw(server)
  expect(await codeOf(network.dial(address, 'control', { timeoutMs: 60 }))).toBe('unreachable')
  for (const socket of sockets) socket.destroy()
  server.close()
})

test('what is no listener of links refuses', async () => {
  const server = createHttpServer((_request, response) => void response.writeHead(404).end())
  const address = await listenRaw(server)
  expect(await codeOf(network.dial(address, 'control'))).toBe('refused')
  server.close()
})

test('a unix socket left by a process that was killed is replaced, a living one is not', async () => {
  const address = local('left.sock')
  const first = await network.listenStream(address, () => undefined)
  expect(await codeOf(network.listenStream(address, () => undefined))).toBe('address-in-use')
  await first.close()
  // A process that is killed leaves the file without a listener; so does one that renames it away and back.
  const { renameSync } = await import('node:fs')
  const dead = createServer()
  dead.listen(local('dead.sock').host)
  await once(dead, 'listening')
  renameSync(local('dead.sock').host, local('kept.sock').host)
  dead.close()
  await once(dead, 'close')
  renameSync(local('kept.sock').host, address.host)
  expect(await codeOf(network.dialStream(address))).toBe('refused')
  const second = await network.listen(address, () => undefined)
  await second.close()
})

test('what is no socket is never replaced by one: a file, a directory, a link to either', async () => {
  const file = local('precious.txt')
  writeFileSync(file.host, 'precious')
  mkdirSync(local('some-directory').host)
  symlinkSync(file.host, local('some-link').host)
  for (const address of [file, local('some-directory'), local('some-link')]) {
    await expect(network.listenStream(address, () => undefined)).rejects.toMatchObject({
      code: 'address-in-use',
      where: address.host,
      hint: expect.stringMatching('name a path'),
    })
  }
  expect(readFileSync(local('some-link').host, 'utf8')).toBe('precious')
})

test('a socket whose directory is missing is told so', async () => {
  const error = await network.listenStream(local('nowhere/x.sock'), () => undefined).catch((e: unknown) => e)
  expect(error).toMatchObject({ code: 'access-denied', hint: expect.stringMatching('directory') })
})

test('a plain HTTP request is told what the port speaks', async () => {
  const { listener } = await listening()
  const [response] = await once(get({ host: '127.0.0.1', port: listener.address.port }), 'response')
  expect(response.statusCode).toBe(426)
  response.resume()
  await listener.close()
})

test('an unknown path is not found', async () => {
  const { listener, url } = await listening()
  const web = new WebSocket(`${url}else`)
  const [error] = await once(web, 'error')
  expect(String(error)).toContain('404')
  await listener.close()
})

test('a frame above the class’s maximum closes the link with frame-too-large on both sides', async () => {
  const { listener, closes, url } = await listening()
  const web = new WebSocket(`${url}control`)
  await once(web, 'open')
  web.send(new Uint8Array(LINK_FRAME_MAX_BYTES.control + 1))
  const [code] = await once(web, 'close')
  expect(code).toBe(1009)
  await settled(() => closes.length === 1)
  expect(closes).toEqual(['frame-too-large'])
  await listener.close()
})

test('a peer that sends more than its credit is cut', async () => {
  const closes: string[] = []
  const listener = await network.listen(loopback, link => {
    link.onFrame(() => new Promise(() => undefined))
    link.onClose(code => closes.push(code))
  })
  const web = new WebSocket(`ws://127.0.0.1:${listener.address.port}/stellwerk/link/control`)
  await once(web, 'open')
  for (let i = 0; i < 6; i++) web.send(new Uint8Array(1_000_000))
  const [code, reason] = await once(web, 'close')
  expect(code).toBe(4000)
  expect(String(reason)).toMatch(/^credit-overrun /)
  expect(closes).toEqual(['credit-overrun'])
  await listener.close()
})

test('a connection that breaks is told as lost', async () => {
  const { listener, closes, url } = await listening()
  const web = new WebSocket(`${url}io`)
  await once(web, 'open')
  web.terminate()
  await settled(() => closes.length === 1)
  expect(closes).toEqual(['lost'])
  await listener.close()
})

test('whatever a peer sends, each link ends with a code and the listener lives', async () => {
  const { listener, closes, url } = await listening()
  const known = ['lost', 'protocol-error', 'frame-too-large', 'credit-overrun', 'closed']
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 80 }), { maxLength: 5 }), async chunks => {
      const before = closes.length
      const web = new WebSocket(`${url}io`)
      web.on('error', () => undefined)
      const upgraded = once(web, 'upgrade')
      await once(web, 'open')
      const [response] = await upgraded
      const socket = response.socket as Socket
      socket.on('error', () => undefined)
      for (const chunk of chunks) socket.write(chunk)
      socket.end()
      await settled(() => closes.length > before)
      expect(known).toContain(closes.at(-1))
      web.terminate()
    }),
    { numRuns: 60 },
  )
  // Before the upgrade too.
  for (const text of [
    '\0\0\0\0',
    'GET / HTTP/9.9\r\n\r\n',
    'GET /stellwerk/link/io HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
  ]) {
    const socket = connect(listener.address.port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.end(text)
    socket.resume()
    await once(socket, 'close')
  }
  const link = await network.dial(listener.address, 'io')
  link.close('closed')
  await listener.close()
})

/** Rounds of keep-alive called by hand, so that no test waits for real ones. */
async function silentPair() {
  let accepted: Socket | null = null
  const { listener, url } = await listening()
  const server = createServer({ pauseOnConnect: true }, socket => {
    accepted = socket
    const onward = connect(listener.address.port, '127.0.0.1')
    socket.pipe(onward).pipe(socket)
    socket.on('error', () => undefined)
    onward.on('error', () => undefined)
    socket.resume()
  })
  const address = await listenRaw(server)
  const web = new WebSocket(url.replace(/:\d+/, `:${address.port}`).replace(/$/, 'io'))
  const upgraded = once(web, 'upgrade')
  await once(web, 'open')
  const [response] = await upgraded
  const frames = new WebFrameSocket(web, response.socket as Socket)
  const closes: string[] = []
  frames.onClose((code, reason) => closes.push(`${code}: ${reason}`))
  const relay = accepted as Socket | null
  const end = async () => {
    web.terminate()
    relay?.destroy()
    server.close()
    await listener.close()
  }
  return { frames, closes, socket: response.socket as Socket, relay, end }
}

test('a silent peer that answers pings is kept', async () => {
  const { frames, closes, socket, end } = await silentPair()
  for (let i = 0; i < 8; i++) {
    const before = socket.bytesRead
    frames.keepAlive(2500)
    // The first round after bytes only notes them; in the next a ping goes out and its answer comes.
    if (i % 2 === 1) await settled(() => socket.bytesRead > before)
  }
  expect(closes).toEqual([])
  await end()
})

test('a peer that has gone without a word is lost after three rounds', async () => {
  const { frames, closes, relay, end } = await silentPair()
  relay?.pause()
  relay?.unpipe()
  for (let i = 0; i < 3; i++) {
    expect(closes).toEqual([])
    frames.keepAlive(2500)
  }
  frames.keepAlive(2500)
  expect(closes).toEqual(['lost: nothing was heard for 7500 ms'])
  await end()
})
