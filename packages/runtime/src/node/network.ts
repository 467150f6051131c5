// The real network: links are WebSockets, streams are TCP or unix sockets. A link's class is the path of its URL.

import { createServer, type Server as HttpServer, type IncomingMessage } from 'node:http'
import { connect, createServer as createNetServer, Socket, type SocketConstructorOpts } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import { assert } from '../assert.ts'
import { CreditedLink, LINK_FRAME_MAX_BYTES } from '../credited-link.ts'
import type { Address, ByteStream, DialOptions, Link, LinkClass, Listener, Network } from '../environment.ts'
import { StellwerkError } from '../errors.ts'
import { dialError, dialTarget, dialTimeout, formatAddress } from './address.ts'
import { Receiver, SocketStream, STREAM_HIGH_WATER_BYTES } from './byte-stream.ts'
import { acceptedWay, dialledWay, type NetworkFaults, sourceFor, type Way } from './faults/network-faults.ts'
import { ShapedLink } from './faults/shaped-link.ts'
import { ShapedStream } from './faults/shaped-stream.ts'
import { type Accepted, bind } from './servers.ts'
import { reachSocket } from './socket-path.ts'
import { WEB_SOCKET_OPTIONS, WebFrameSocket } from './web-frame-socket.ts'

export const DIAL_TIMEOUT_MS = 5000
/** A silent peer is pinged at this pace; three rounds of silence make it lost: 7.5 to 10 s after its last byte. */
export const KEEPALIVE_ROUND_MS = 2500
/** How long a client may take from connecting to asking for its WebSocket. */
const UPGRADE_TIMEOUT_MS = 5000

const LINK_PATH = '/stellwerk/link/'
const LINK_CLASSES: readonly LinkClass[] = ['control', 'io', 'bulk']

const SOCKET_OPTIONS = { allowHalfOpen: true, noDelay: true, highWaterMark: STREAM_HIGH_WATER_BYTES } as const

export interface NodeNetwork extends Network {
  /** Ends keep-alive, listeners and links, so that nothing of the network keeps the process alive. */
  close(): Promise<void>
}

/** `faults`: of a process that was started with the switch for them; null costs nothing. */
export function createNetwork(faults: NetworkFaults | null = null): NodeNetwork {
  const sockets = new Set<WebFrameSocket>()
  const listeners = new Set<Listener>()
  const rounds = setInterval(() => {
    for (const socket of sockets) socket.keepAlive(KEEPALIVE_ROUND_MS)
  }, KEEPALIVE_ROUND_MS).unref()

  const track: Track = (web, socket, isSlabbed) => {
    const frames = new WebFrameSocket(web, socket, isSlabbed)
    sockets.add(frames)
    web.on('close', () => sockets.delete(frames))
    return frames
  }

  const kept = async (listening: Promise<Listener>): Promise<Listener> => {
    const listener = await listening
    const entry: Listener = {
      address: listener.address,
      close: async () => {
        await listener.close()
        listeners.delete(entry)
      },
    }
    listeners.add(entry)
    return entry
  }

  return {
    dial: (address, linkClass, options) => dialLink(address, linkClass, options, track, faultsOn(address, faults)),
    listen: (address, accept) => kept(listenLinks(address, accept, track, faultsOn(address, faults))),
    dialStream: (address, options) => dialStream(address, options, faultsOn(address, faults)),
    listenStream: (address, accept) => kept(listenStreams(address, accept, faultsOn(address, faults))),
    async close() {
      clearInterval(rounds)
      for (const socket of sockets) socket.closeFromBelow('closed', 'the process ends')
      await Promise.all([...listeners].map(listener => listener.close()))
    },
  }
}

type Track = (web: WebSocket, socket: Socket, isSlabbed: boolean) => WebFrameSocket

/** Of unix sockets there are none. */
function faultsOn({ network }: Address, faults: NetworkFaults | null): NetworkFaults | null {
  return network === 'local' ? null : faults
}

type ConnectOptions = { readonly noDelay: true } & Partial<typeof SOCKET_OPTIONS> &
  Pick<SocketConstructorOpts, 'onread'>

/** The socket, being connected; of a process with faults, from its own address. Throws `bad-address` and what `dialError` gives. */
function connecting(address: Address, options: ConnectOptions, faults: NetworkFaults | null): Socket {
  const where = dialTarget(address)
  if ('path' in where) {
    const reached = dialled(address, () => reachSocket(where.path))
    const socket = connect({ ...options, path: reached.path })
    socket.once('connect', reached.release)
    socket.once('close', reached.release)
    return socket
  }
  return connect({ ...options, ...where, ...(faults === null ? {} : { localAddress: sourceFor(faults, address) }) })
}

function dialled<T>(address: Address, f: () => T): T {
  try {
    return f()
  } catch (error) {
    throw dialError(address, error)
  }
}

/** A link on the socket, which faults may come between. */
function linkOn(
  frames: WebFrameSocket,
  linkClass: LinkClass,
  peer: string,
  faults: NetworkFaults | null,
  way: Way,
): Link {
  if (faults === null) return new CreditedLink(frames, { class: linkClass, peer })
  return faults.repeated(new CreditedLink(new ShapedLink(frames, way, faults), { class: linkClass, peer }), way)
}

async function dialLink(
  address: Address,
  linkClass: LinkClass,
  { timeoutMs: allMs = DIAL_TIMEOUT_MS, connectMs = allMs }: DialOptions = {},
  track: Track,
  faults: NetworkFaults | null,
): Promise<Link> {
  const timeoutMs = faults === null ? allMs : await faults.dialling(address, linkClass, allMs)
  const slabbed = linkClass === 'bulk' ? new Receiver() : null
  const reading = slabbed === null ? {} : { onread: slabbed.onread }
  const socket = connecting(address, { noDelay: true, ...reading }, faults)
  // Read into slabs, but heard as of any socket.
  if (slabbed !== null) slabbed.onBytes = chunk => socket.push(chunk)
  const { promise, resolve, reject } = Promise.withResolvers<Link>()
  // The host in the URL only becomes a header: the connection is made above.
  const web = new WebSocket(`ws://stellwerk${LINK_PATH}${linkClass}`, {
    ...WEB_SOCKET_OPTIONS,
    maxPayload: LINK_FRAME_MAX_BYTES[linkClass],
    createConnection: () => socket,
    // A mask keeps scripts in a browser from forging requests to proxies in between, which are not there. A mask of
    // zeroes is valid, and `ws` then neither copies nor masks: frames to a server cost as little as frames from one.
    generateMask: mask => void mask.fill(0),
  })
  const timeout = setTimeout(() => reject(dialTimeout(address, timeoutMs)), timeoutMs)
  // Looked at after what has happened has been heard: it is not this process that is to be found slow.
  const untaken = setTimeout(() => {
    setImmediate(() => {
      if (socket.connecting) reject(dialTimeout(address, connectMs))
    })
  }, connectMs)
  web.on('error', error => reject(dialError(address, error)))
  web.on('unexpected-response', (_request, response) => {
    reject(
      new StellwerkError('refused', `what listens there is no ${linkClass} link (HTTP status ${response.statusCode})`, {
        where: formatAddress(address),
        hint: 'check the address and the version of the process there',
      }),
    )
  })
  web.on('open', () => {
    const way = dialledWay(address, linkClass)
    resolve(linkOn(track(web, socket, slabbed !== null), linkClass, formatAddress(address), faults, way))
  })
  try {
    return await promise
  } catch (error) {
    web.terminate()
    socket.destroy()
    throw error
  } finally {
    clearTimeout(timeout)
    clearTimeout(untaken)
  }
}

async function listenLinks(
  address: Address,
  accept: (link: Link) => void,
  track: Track,
  faults: NetworkFaults | null,
): Promise<Listener> {
  const accepted = new Set<Accepted>()
  const http: HttpServer = createServer({ noDelay: true, requestTimeout: UPGRADE_TIMEOUT_MS }, (_request, response) => {
    response.writeHead(426, { connection: 'close' }).end('this port speaks WebSocket\n')
  })
  const upgraders = new Map(
    LINK_CLASSES.map(linkClass => [
      LINK_PATH + linkClass,
      {
        linkClass,
        server: new WebSocketServer({
          ...WEB_SOCKET_OPTIONS,
          noServer: true,
          clientTracking: false,
          maxPayload: LINK_FRAME_MAX_BYTES[linkClass],
        }),
      },
    ]),
  )
  http.on('connection', (socket: Socket) => {
    // Until it is a link, a connection is dropped without ceremony when the listener closes.
    const entry: Accepted = { end: () => socket.destroy(), drop: () => socket.destroy() }
    accepted.add(entry)
    socket.once('close', () => accepted.delete(entry))
    socket.once('stellwerk-link', () => accepted.delete(entry))
  })
  http.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    const socket = stream as Socket
    const upgrader = upgraders.get(request.url ?? '')
    if (upgrader === undefined) {
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
      return
    }
    upgrader.server.handleUpgrade(request, socket, head, web => {
      const frames = track(web, socket, false)
      const entry: Accepted = {
        end: () => frames.closeFromBelow('closed', 'the listener was closed'),
        drop: () => frames.terminate(),
      }
      socket.emit('stellwerk-link')
      accepted.add(entry)
      web.on('close', () => accepted.delete(entry))
      const way = acceptedWay(address, upgrader.linkClass, socket.localPort ?? 0, socket.remoteAddress ?? '')
      accept(linkOn(frames, upgrader.linkClass, peerName(socket, address), faults, way))
    })
  })
  return bind(http, address, accepted)
}

async function dialStream(
  address: Address,
  { timeoutMs: allMs = DIAL_TIMEOUT_MS }: DialOptions = {},
  faults: NetworkFaults | null,
): Promise<ByteStream> {
  const timeoutMs = faults === null ? allMs : await faults.dialling(address, 'stream', allMs)
  const receiver = new Receiver()
  const socket = connecting(address, { ...SOCKET_OPTIONS, onread: receiver.onread }, faults)
  // Nothing is read before somebody listens.
  socket.pause()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const timeout = setTimeout(() => reject(dialTimeout(address, timeoutMs)), timeoutMs)
  socket.once('connect', resolve)
  socket.once('error', reject)
  try {
    await promise
    const stream = new SocketStream(socket, receiver, formatAddress(address))
    return faults === null ? stream : new ShapedStream(stream, dialledWay(address, 'stream'), faults)
  } catch (error) {
    socket.destroy()
    throw dialError(address, error)
  } finally {
    clearTimeout(timeout)
  }
}

async function listenStreams(
  address: Address,
  accept: (stream: ByteStream) => void,
  faults: NetworkFaults | null,
): Promise<Listener> {
  const accepted = new Set<Accepted>()
  const server = createNetServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, bare => {
    const receiver = new Receiver()
    const socket = withReceiver(bare, receiver)
    const entry: Accepted = { end: () => socket.destroySoon(), drop: () => socket.destroy() }
    accepted.add(entry)
    socket.on('close', () => accepted.delete(entry))
    const stream = new SocketStream(socket, receiver, peerName(socket, address))
    const way = acceptedWay(address, 'stream', socket.localPort ?? 0, socket.remoteAddress ?? '')
    accept(faults === null ? stream : new ShapedStream(stream, way, faults))
  })
  return bind(server, address, accepted)
}

/**
 * The accepted connection as a socket that reads into the receiver's memory. node:net has that choice for dialled sockets
 * only, so the connection, from which nothing was read yet, is taken over by a socket made with the choice.
 */
function withReceiver(bare: Socket, receiver: Receiver): Socket {
  const taken = bare as unknown as { _handle: unknown }
  assert(taken._handle instanceof Object, 'an accepted socket has its handle')
  const options = { ...SOCKET_OPTIONS, handle: taken._handle, onread: receiver.onread, pauseOnCreate: true }
  const socket = new Socket(options as unknown as SocketConstructorOpts)
  // The listener counts the bare one until it is closed.
  taken._handle = null
  socket.once('close', () => bare.destroy())
  return socket
}

function peerName(socket: Socket, listening: Address): string {
  if (listening.network === 'local') return listening.host
  return formatAddress({ ...listening, host: socket.remoteAddress ?? '?', port: socket.remotePort ?? 0 })
}
