// Frames from a card on one host to a card on another: through the virtual switches, beside QEMU's own `socket` netdev with a QEMU
// without a machine at each end. Who sends keeps a window of frames on the way, as TCP does; all is on loopback.

import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseMac, writeMac } from '@stellwerk/protocol/ethernet.ts'
import { freePorts } from './lib/free-ports.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { median, row } from './lib/rows.ts'
import type { SwitchHostConfig, SwitchPeer } from './servers/switch-host.ts'

const HOST = '127.0.0.1'
const MIB = 1024 * 1024
const MACS = ['52:54:00:00:00:01', '52:54:00:00:00:02'] as const
const LENGTH_BYTES = 4
/** An Ethernet frame as long as they commonly are, without its checksum. */
const FRAME_BYTES = 1514
const SMALL_BYTES = 64
const FRAMES_AT_ONCE = 32
const WINDOW_BYTES = 256 * 1024
/** What has not arrived by then is lost: a wire promises nothing. */
const LOST_MS = 50
const RAMP_MS = 500
const ROUND_TRIPS = 500
const LINK_MS = 10_000
const PEER = 'QEMU socket netdev'

export const guestNetwork: Group = {
  name: 'guest-network',
  about: 'frames between two hosts through the virtual switches beside QEMU’s own netdev',
  async run(context) {
    await withServers(async (servers, directory) => {
      const wires = new Map<string, Wire>([['switch', await switches(servers, directory)]])
      if (has('qemu-system-x86_64')) wires.set('qemu', await qemus(servers, directory))
      await compare(context, wires)
      for (const { near, far } of wires.values()) for (const end of [near, far]) end.destroy()
    })
  },
}

/** Two cards, one on each host. */
interface Wire {
  readonly near: Socket
  readonly far: Socket
}

async function compare({ report, progress, rounds, fio }: BenchContext, wires: Map<string, Wire>): Promise<void> {
  const names = [...wires.keys()]
  const measured = async (what: string, measure: (wire: Wire) => Promise<number>) => {
    const results = await sideBySide(names, rounds, name => {
      progress(`guest-network: ${what}, ${name}`)
      return measure(wires.get(name)!)
    })
    return [results.get('switch')!, results.get('qemu') ?? null] as const
  }
  const [rate, peerRate] = await measured('throughput', wire => throughput(wire, fio.runtimeS * 1000))
  report(row(`guest network between hosts, ${FRAME_BYTES}-byte frames`, rate, 'MiB/s', peerRate, PEER))
  const [trip, peerTrip] = await measured('round trips', roundTrip)
  report(row('guest network between hosts, round trip', trip, 'ms', peerTrip, PEER))
}

async function switches(servers: Servers, directory: string): Promise<Wire> {
  const ports = await freePorts(directory, HOST, MACS.length)
  const hosts = await Promise.all(
    MACS.map(async (mac, i) => {
      const name = `host-${i}`
      const readyFile = join(directory, `${name}.ready`)
      const socket = join(directory, `${name}.sock`)
      const config: SwitchHostConfig = { name, directory, mac, socket, port: ports[i]!, readyFile }
      return { name, socket, port: ports[i]!, server: await servers.serve('switch-host.ts', config, readyFile) }
    }),
  )
  for (const [i, { server }] of hosts.entries()) {
    const { name, port } = hosts[1 - i]!
    await servers.ask(server, 'link', { name, port } satisfies SwitchPeer)
  }
  return passing(await open(hosts[0]!.socket), await open(hosts[1]!.socket))
}

async function qemus(servers: Servers, directory: string): Promise<Wire> {
  const [port] = await freePorts(directory, HOST, 1)
  const ends: Socket[] = []
  for (const [i, way] of [`listen=${HOST}:${port}`, `connect=${HOST}:${port}`].entries()) {
    const socket = join(directory, `qemu-${i}.sock`)
    await servers.start(
      'qemu-system-x86_64',
      ['-M', 'none', '-nodefaults', '-display', 'none', ...netdevs(socket, way)],
      socket,
    )
    ends.push(await open(socket))
  }
  return passing(ends[0]!, ends[1]!)
}

function netdevs(socket: string, way: string): string[] {
  return [
    ...['-netdev', `stream,id=wire,server=on,addr.type=unix,addr.path=${socket}`],
    ...['-netdev', 'hubport,id=outside,hubid=0,netdev=wire'],
    ...['-netdev', `socket,id=link,${way}`, '-netdev', 'hubport,id=inside,hubid=0,netdev=link'],
  ]
}

async function open(path: string): Promise<Socket> {
  const socket = connect(path)
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return socket
}

/** Frames pass both ways. */
async function passing(near: Socket, far: Socket): Promise<Wire> {
  const wire = { near, far }
  const until = performance.now() + LINK_MS
  for (const [from, to, way] of [
    [near, far, 0],
    [far, near, 1],
  ] as const) {
    let heard = false
    to.once('data', () => {
      heard = true
    })
    while (!heard) {
      if (performance.now() > until) throw new Error('no frame has passed between the two hosts')
      from.write(frame(way, SMALL_BYTES))
      await sleep(20)
    }
    await sleep(100)
  }
  return wire
}

/** MiB/s of frames that arrive. */
async function throughput({ near, far }: Wire, runMs: number): Promise<number> {
  const frames = Buffer.concat(Array.from({ length: FRAMES_AT_ONCE }, () => frame(0, FRAME_BYTES)))
  let received = 0
  let sent = 0
  let over = false
  const send = (): void => {
    while (!over && sent - received < WINDOW_BYTES) {
      sent += frames.byteLength
      if (!near.write(frames)) return
    }
  }
  const arrived = (chunk: Buffer): void => {
    received += chunk.byteLength
    send()
  }
  far.on('data', arrived)
  near.on('drain', send)
  let last = 0
  const lost = setInterval(() => {
    if (received === last) sent = received
    last = received
    send()
  }, LOST_MS)
  send()
  await sleep(RAMP_MS)
  const [from, start] = [received, performance.now()]
  await sleep(runMs)
  const rate = (received - from) / MIB / ((performance.now() - start) / 1000)
  over = true
  clearInterval(lost)
  await sleep(RAMP_MS)
  far.off('data', arrived)
  near.off('drain', send)
  return rate
}

/** ms; the median of a small frame there and one back. */
async function roundTrip({ near, far }: Wire): Promise<number> {
  const [there, back] = [frame(0, SMALL_BYTES), frame(1, SMALL_BYTES)]
  const answer = (): void => {
    far.write(back)
  }
  far.on('data', answer)
  const times: number[] = []
  for (let n = 0; n < ROUND_TRIPS; n += 1) {
    const start = performance.now()
    const heard = new Promise<boolean>(resolve => near.once('data', () => resolve(true)))
    near.write(there)
    const came = await Promise.race([heard, sleep(LOST_MS * 10, false)])
    if (came) times.push(performance.now() - start)
  }
  far.off('data', answer)
  if (times.length < ROUND_TRIPS / 2)
    throw new Error(`${ROUND_TRIPS - times.length} of ${ROUND_TRIPS} frames were lost`)
  return median(times)
}

/** Behind its length, as on QEMU's stream sockets. `from`: which of the two cards. */
function frame(from: 0 | 1, bytes: number): Buffer {
  const framed = Buffer.alloc(LENGTH_BYTES + bytes)
  framed.writeUInt32BE(bytes, 0)
  writeMac(framed, LENGTH_BYTES, parseMac(MACS[1 - from] ?? ''))
  writeMac(framed, LENGTH_BYTES + 6, parseMac(MACS[from]))
  framed.writeUInt16BE(0x88b5, LENGTH_BYTES + 12)
  return framed
}
