// A mirrored CSV disk beside the same work in C: qemu-storage-daemon's `quorum` of two, which reads one child and answers a
// write when all of them have. Both over the same two storages, fio the client of each.
//
// On the embedded subsystem a CSV disk acknowledges what is durable and nothing else. The daemon does the same with
// `writethrough`: its quorum passes no FUA on, so that each write is followed by a flush of both children. It is also shown
// without, when it acknowledges from the storages' page cache: more than a CSV disk may.

import { join } from 'node:path'
import { DISK_LOADS, fill, type Load, measure, type Target } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { type Legs, startLegs } from './lib/legs.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { row } from './lib/rows.ts'
import type { MirrorDiskConfig } from './servers/mirror-disk.ts'

const MIB = 1024 * 1024
/** As many regions as a host may mark, and less: once filled, no write has to mark any. */
const RANGE_BYTES = 384 * MIB
const VOLUME_BYTES = 512 * MIB

export const mirror: Group = {
  name: 'mirror',
  about: 'a mirrored CSV disk beside a quorum of qemu-storage-daemon over the same two LUNs',
  async run(context) {
    if (!has('fio') || !has('nbdkit')) return
    for (const backing of ['memory', 'embedded'] as const) {
      await withServers(async (servers, directory) => {
        const legs = await startLegs(servers, directory, backing, {
          volumeBytes: VOLUME_BYTES,
          plainBytes: RANGE_BYTES,
        })
        await measureOn(context, legs, servers, directory)
      })
    }
  },
}

type Contender = 'csv' | 'qemu quorum' | 'qemu quorum, writethrough'

async function measureOn(context: BenchContext, legs: Legs, servers: Servers, directory: string): Promise<void> {
  const targets = new Map<Contender, Target>([['csv', await startMirror(servers, directory, legs)]])
  if (has('qemu-storage-daemon')) {
    targets.set('qemu quorum', await startQuorum(servers, directory, legs, false))
    if (legs.name === 'embedded') {
      targets.set('qemu quorum, writethrough', await startQuorum(servers, directory, legs, true))
    }
  }
  context.progress(`mirror on ${legs.name}: filling`)
  await fill(targets.get('csv')!, RANGE_BYTES)
  const quorum = targets.get('qemu quorum')
  if (quorum !== undefined) await fill(quorum, RANGE_BYTES)
  for (const load of DISK_LOADS) await measureLoad(context, legs, load, targets)
}

async function measureLoad(
  { rounds, fio, report, progress }: BenchContext,
  legs: Legs,
  load: Load,
  targets: ReadonlyMap<Contender, Target>,
): Promise<void> {
  // Reads know no durability.
  const contenders = [...targets.keys()].filter(name => load.kind === 'write' || !name.endsWith(', writethrough'))
  const results = await sideBySide(contenders, rounds, contender => {
    progress(`mirror on ${legs.name}: ${load.name}, ${contender}`)
    return measure(targets.get(contender)!, load, RANGE_BYTES, fio)
  })
  const name = `mirror on ${legs.name}, ${load.name}`
  const ours = results.get('csv')!
  const peers = contenders.filter(contender => contender !== 'csv')
  if (peers.length === 0) report(row(name, ours, load.unit, null, null))
  for (const peer of peers) report(row(name, ours, load.unit, results.get(peer)!, peer))
}

export async function startMirror(
  servers: Servers,
  directory: string,
  { legs: [a, b] }: Legs,
  sizes: Pick<MirrorDiskConfig, 'volumeBytes' | 'diskBytes'> = { volumeBytes: VOLUME_BYTES, diskBytes: RANGE_BYTES },
): Promise<Target & { readonly server: Awaited<ReturnType<Servers['serve']>> }> {
  const socket = join(directory, 'csv.sock')
  const config: MirrorDiskConfig = { name: 'csv', directory, socket, luns: [a.lun, b.lun], ...sizes }
  const server = await servers.serve('mirror-disk.ts', config, socket)
  return { name: 'csv', socket, exportName: 'disk', offsetBytes: 0, server }
}

async function startQuorum(servers: Servers, directory: string, { legs }: Legs, durable: boolean): Promise<Target> {
  const name = durable ? 'quorum-writethrough' : 'quorum'
  const socket = join(directory, `${name}.sock`)
  const children = legs.flatMap(({ plain }, index) => {
    const server = `server.type=unix,server.path=${plain.socket},export=${plain.exportName}`
    return ['--blockdev', `driver=nbd,node-name=lun-${index},${server}`]
  })
  // Both must have done a write; with `fifo` a read needs no votes.
  const votes = 'vote-threshold=2,read-pattern=fifo,children.0=lun-0,children.1=lun-1'
  const served = `nbd,id=disk,node-name=mirror,name=disk,writable=on${durable ? ',writethrough=on' : ''}`
  await servers.start(
    'qemu-storage-daemon',
    [
      ...children,
      ...['--blockdev', `driver=quorum,node-name=mirror,${votes}`],
      ...['--nbd-server', `addr.type=unix,addr.path=${socket}`, '--export', served],
    ],
    socket,
  )
  return { name, socket, exportName: 'disk', offsetBytes: legs[0].plain.offsetBytes }
}
