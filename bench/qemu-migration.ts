// Live migration of a QEMU machine, Stellwerk's way beside QEMU's own from one QEMU to another, the same guest and load: on loopback,
// and over a cable of 1 Gbit/s. Downtime is from the guest's last instruction at the source to its first at the target; what a
// coordinator's commit takes is not in it, nor is a disk's hand-over. The two guests are measured in turn, and one rests meanwhile.
// On loopback QEMU's own is measured through two programs, too, that do nothing but copy, in C and in Node: what passes through processes
// costs that much.

import type { ChildProcess } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import { freePorts } from './lib/free-ports.ts'
import { type BenchContext, type Group, withServers } from './lib/group.ts'
import { writeGuestImage } from './lib/guest-image.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { median, row } from './lib/rows.ts'
import { type End, withShapedLink } from './lib/shaped-link.ts'
import { serverEnvironment } from './servers/config.ts'
import { QEMU_MEMORY_BYTES, type Received, type Sent, type SideConfig } from './servers/qemu-shapes.ts'
import type { RelayConfig } from './servers/relay.ts'

const MIB = 1024 * 1024
const DIRTY_MIB_PER_SECOND = 4
const START_MS = 60_000
/** What a cluster waits for before it switches. */
const DOWNTIME_MS = PROFILES.lab.downtimeMs
/** As much as lies in a unix socket. */
const RELAY_BYTES = 256 * 1024
/** Among each side's files. */
const IMAGE = 'guest.boot'
const GIGABIT = '1gbit'
/** What a migration of any size may take of an agent's memory. */
const GROWS_AT_MOST_MIB = 64
const HERE: End = { within: [], host: '127.0.0.1' }

interface Moved {
  readonly totalMs: number
  readonly downtimeMs: number
  readonly streamBytes: number
  readonly grownBytes: number
}

export const qemuMigration: Group = {
  name: 'qemu-migration',
  about: 'live migration of a 512 MiB QEMU machine beside QEMU’s own',
  async run(context) {
    if (!has('qemu-system-x86_64')) return
    await withServers(async (_, directory) => {
      const env = serverEnvironment('image', directory)
      const image = join(directory, 'guest.boot')
      context.progress('qemu-migration: making the guest')
      const cached = await writeGuestImage(env.processes, image)
      await env.close()
      const name = `QEMU migration, 512 MiB with ${Math.round(cached / MIB)} MiB of files`
      await measure(context, image, `${name}, loopback`, HERE, HERE, true)
      await withShapedLink(GIGABIT, async (a, b) => {
        await measure(context, image, `${name}, 1 Gbit/s`, a, b, true)
        await measure(context, image, `${name}, 1 Gbit/s, never compressed`, a, b, false)
      })
    })
  },
}

async function measure(
  context: BenchContext,
  image: string,
  name: string,
  from: End,
  to: End,
  compresses: boolean,
): Promise<void> {
  const boot = { image: IMAGE, dirtyMiBPerSecond: DIRTY_MIB_PER_SECOND }
  const ours: Moved[] = []
  const theirs: Moved[] = []
  const relayed = new Map<string, Moved[]>()
  await withServers(async (servers, directory) => {
    const [source, port] = await side(servers, directory, 'source', image, from, compresses)
    const [target] = await side(servers, directory, 'target', image, to, compresses)
    const relays = from === HERE ? await startAllRelays(servers, directory) : new Map<string, Relays>()
    const move = async (n: number): Promise<Moved> => {
      await servers.ask(source, 'wake')
      const receiving = servers.ask(target, 'receive', { ...boot, n, host: from.host, port })
      const sent = (await servers.ask(source, 'send', { n, downtimeMs: DOWNTIME_MS })) as Sent
      const received = (await receiving) as Received
      await servers.ask(source, 'resume')
      await servers.ask(source, 'rest')
      return moved(sent, received)
    }
    const movePlain = async (over: Relays | null): Promise<Moved> => {
      await servers.ask(source, 'plainWake')
      const at = await servers.ask(target, 'plainReceive', { ...boot, uri: over?.into ?? `tcp:${to.host}:0` })
      const received = servers.ask(target, 'plainReceived')
      const uri = over?.from ?? `tcp:${to.host}:${at}`
      const sent = (await servers.ask(source, 'plainSend', { uri, downtimeMs: DOWNTIME_MS })) as Sent
      const all = moved(sent, (await received) as Received)
      await servers.ask(source, 'plainRest')
      return all
    }
    context.progress(`${name}: booting`)
    await servers.ask(source, 'boot', boot)
    await servers.ask(source, 'rest')
    await servers.ask(source, 'plainBoot', boot)
    await servers.ask(source, 'plainRest')
    for (let n = 1; n <= context.rounds; n += 1) {
      context.progress(`${name}: ${n} of ${context.rounds}`)
      ours.push(await move(n))
      theirs.push(await movePlain(null))
      for (const [program, way] of relays) {
        relayed.set(program, [...(relayed.get(program) ?? []), await movePlain(way)])
      }
    }
    await servers.ask(source, 'end')
    await servers.ask(source, 'plainEnd')
  })
  const of = (all: readonly Moved[], pick: (each: Moved) => number): number => median(all.map(pick))
  const beside = (what: string, pick: (each: Moved) => number) =>
    context.report(row(`${name}, ${what}`, of(ours, pick), 'ms', of(theirs, pick), 'QEMU → QEMU'))
  beside('total', each => each.totalMs)
  for (const [program, all] of relayed) {
    const [total, relays] = [of(ours, each => each.totalMs), of(all, each => each.totalMs)]
    context.report(row(`${name}, total`, total, 'ms', relays, `QEMU → two relays (${program}) → QEMU`))
  }
  beside('downtime', each => each.downtimeMs)
  const streamed = of(ours, each => each.streamBytes)
  context.report(row(`${name}, sent`, streamed / MIB, 'MiB', QEMU_MEMORY_BYTES / MIB, 'the memory'))
  const grown = Math.max(...ours.map(each => each.grownBytes))
  context.report(row(`${name}, an agent's memory grew by`, grown / MIB, 'MiB', GROWS_AT_MOST_MIB, 'the bound'))
}

/** Where QEMU's stream goes into them and comes out, as QEMU takes addresses. */
interface Relays {
  readonly from: string
  readonly into: string
}

type StartRelays = (servers: Servers, from: string, port: number, into: string) => Promise<void>

const RELAYS: { readonly [program: string]: StartRelays } = {
  socat: async (servers, from, port, into) => {
    const copying = ['-b', String(RELAY_BYTES)]
    // Tries again until the other one listens.
    const onward = `TCP:${HERE.host}:${port},retry=100,interval=0.05`
    const inward = [`TCP-LISTEN:${port},bind=${HERE.host},fork`, `UNIX-CONNECT:${into}`]
    await servers.start('socat', [...copying, `UNIX-LISTEN:${from},mode=666,fork`, onward], from)
    await servers.start('socat', [...copying, ...inward], from)
  },
  Node: async (servers, from, port, into) => {
    const start = (config: RelayConfig): Promise<ChildProcess> => servers.serve('relay.ts', config, config.ready)
    await start({ from, into: port, ready: `${from}.ready` })
    await start({ from: port, into, ready: `${into}.ready` })
  },
}

async function startAllRelays(servers: Servers, directory: string): Promise<Map<string, Relays>> {
  const all = new Map<string, Relays>()
  for (const [program, start] of Object.entries(RELAYS)) {
    if (program !== 'socat' || has(program)) all.set(program, await startRelays(servers, directory, program, start))
  }
  return all
}

/** The way that Stellwerk's streams go, unix socket, TCP, unix socket, by programs that only copy. */
async function startRelays(servers: Servers, directory: string, program: string, start: StartRelays): Promise<Relays> {
  const [port = 0] = await freePorts(directory, HERE.host, 1)
  const sockets = join(directory, program)
  const [from, into] = [join(sockets, 'from.sock'), join(sockets, 'into.sock')]
  mkdirSync(sockets)
  // QEMU may be another user.
  chmodSync(directory, 0o711)
  chmodSync(sockets, 0o777)
  await start(servers, from, port, into)
  return { from: `unix:${from}`, into: `unix:${into}` }
}

function moved(sent: Sent, received: Received): Moved {
  return {
    totalMs: received.runsAt - sent.startedAt,
    downtimeMs: received.runsAt - sent.pausedAt,
    streamBytes: received.streamBytes,
    grownBytes: Math.max(sent.grownBytes, received.grownBytes),
  }
}

/** With the port at which it listens. */
async function side(
  servers: Servers,
  directory: string,
  name: string,
  image: string,
  { within, host }: End,
  compresses: boolean,
): Promise<[ChildProcess, number]> {
  const readyFile = join(directory, `${name}.json`)
  const own = join(directory, name)
  mkdirSync(own)
  copyFileSync(image, join(own, IMAGE))
  const config: SideConfig = { name, directory, readyFile, host, compresses }
  const child = await servers.serve('qemu-side.ts', config, readyFile, START_MS, within)
  const { port } = JSON.parse(readFileSync(readyFile, 'utf8')) as { port: number }
  return [child, port]
}
