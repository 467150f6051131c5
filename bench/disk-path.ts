// The agent's disk path beside the proxies of others, all over the same storage: a CSV disk and a plain path, nbdkit's
// `nbd` plugin and qemu-storage-daemon. Each is a process of its own, fio the client of all.
//
// On the memory-backed nbdkit the path itself is seen. On the embedded subsystem a CSV disk acknowledges what is durable and
// nothing else; there its writes stand beside proxies that are told to do the same (nbdkit's `fua` filter, the daemon's
// `writethrough`), and the plain path's beside proxies that pass writes on as they come.

import { join } from 'node:path'
import { DISK_LOADS, fill, type Load, measure, type Target } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { row } from './lib/rows.ts'
import type { DiskServerConfig } from './servers/disk.ts'
import type { StorageServerConfig } from './servers/storage.ts'

const MIB = 1024 * 1024
/** What fio works on: as many regions as a host may mark, and less. */
const RANGE_BYTES = 512 * MIB
const VOLUME_BYTES = 768 * MIB

/** A LUN for the volume and one for plain paths; the same one where there is only one. */
interface Backing {
  readonly name: string
  readonly socket: string
  readonly controlSocket: string | null
  readonly volumeLun: string
  readonly plainLun: string
  /** Plain paths use the LUN from here on. */
  readonly plainOffset: number
}

export const diskPath: Group = {
  name: 'disk',
  about: 'a CSV disk and a plain path beside nbdkit and qemu-storage-daemon as proxies',
  async run(context) {
    if (!has('fio') || !has('nbdkit')) return
    for (const start of [memoryBacking, embeddedBacking]) {
      await withServers(async (servers, directory) => {
        const backing = await start(servers, directory)
        await measureOn(context, backing, servers, directory)
      })
    }
  },
}

async function memoryBacking(servers: Servers, directory: string): Promise<Backing> {
  const socket = join(directory, 'lun.sock')
  await servers.start('nbdkit', ['-f', '-U', socket, 'memory', `${VOLUME_BYTES + RANGE_BYTES}`], socket)
  return {
    name: 'memory',
    socket,
    controlSocket: null,
    volumeLun: '',
    plainLun: '',
    plainOffset: VOLUME_BYTES,
  }
}

async function embeddedBacking(servers: Servers, directory: string): Promise<Backing> {
  const socket = join(directory, 'lun.sock')
  const controlSocket = join(directory, 'control.sock')
  const config: StorageServerConfig = {
    directory,
    socket,
    controlSocket,
    luns: [
      { lun: 'volume', sizeBytes: VOLUME_BYTES, open: false },
      { lun: 'plain', sizeBytes: RANGE_BYTES, open: true },
    ],
  }
  await servers.serve('storage.ts', config, socket)
  return { name: 'embedded', socket, controlSocket, volumeLun: 'volume', plainLun: 'plain', plainOffset: 0 }
}

type Contender = 'csv' | 'plain' | 'nbdkit nbd' | 'qemu-storage-daemon' | `${'nbdkit nbd' | 'qemu-storage-daemon'}, fua`

async function measureOn(context: BenchContext, backing: Backing, servers: Servers, directory: string): Promise<void> {
  const targets = new Map<Contender, Target>()
  targets.set(
    'csv',
    await startDisk(servers, directory, backing, { volumeBytes: VOLUME_BYTES, diskBytes: RANGE_BYTES }),
  )
  targets.set('plain', await startDisk(servers, directory, backing, null))
  targets.set('nbdkit nbd', await startNbdkit(servers, directory, backing, false))
  if (has('qemu-storage-daemon')) {
    targets.set('qemu-storage-daemon', await startQemu(servers, directory, backing, false))
  }
  const durable = backing.controlSocket !== null
  if (durable) {
    targets.set('nbdkit nbd, fua', await startNbdkit(servers, directory, backing, true))
    if (has('qemu-storage-daemon')) {
      targets.set('qemu-storage-daemon, fua', await startQemu(servers, directory, backing, true))
    }
  }
  context.progress(`disk on ${backing.name}: filling`)
  await fill(targets.get('csv')!, RANGE_BYTES)
  await fill(targets.get('plain')!, RANGE_BYTES)
  for (const load of DISK_LOADS) await measureLoad(context, backing, load, targets)
}

async function measureLoad(
  { rounds, fio, report, progress }: BenchContext,
  backing: Backing,
  load: Load,
  targets: ReadonlyMap<Contender, Target>,
): Promise<void> {
  // Reads know no durability.
  const contenders = [...targets.keys()].filter(name => load.kind === 'write' || !name.endsWith(', fua'))
  const results = await sideBySide(contenders, rounds, contender => {
    progress(`disk on ${backing.name}: ${load.name}, ${contender}`)
    return measure(targets.get(contender)!, load, RANGE_BYTES, fio)
  })
  for (const ours of ['csv', 'plain'] as const) {
    for (const peer of ['nbdkit nbd', 'qemu-storage-daemon'] as const) {
      const durable: Contender = `${peer}, fua`
      const name = ours === 'csv' && results.has(durable) ? durable : peer
      const value = results.get(name) ?? null
      report(row(`disk on ${backing.name}, ${ours}, ${load.name}`, results.get(ours)!, load.unit, value, name))
    }
  }
}

async function startDisk(
  servers: Servers,
  directory: string,
  backing: Backing,
  volume: DiskServerConfig['volume'],
): Promise<Target> {
  const name = volume === null ? 'plain' : 'csv'
  const socket = join(directory, `${name}.sock`)
  const lun = {
    storage: 'san',
    name: volume === null ? backing.plainLun : backing.volumeLun,
    socket: backing.socket,
    controlSocket: backing.controlSocket,
  }
  const config: DiskServerConfig = { name, directory, socket, lun, volume }
  await servers.serve('disk.ts', config, socket)
  return { name, socket, exportName: 'disk', offsetBytes: volume === null ? backing.plainOffset : 0 }
}

async function startNbdkit(servers: Servers, directory: string, backing: Backing, durable: boolean): Promise<Target> {
  const name = durable ? 'nbdkit-fua' : 'nbdkit'
  const socket = join(directory, `${name}.sock`)
  const filter = durable ? ['--filter=fua'] : []
  const parameters = [`socket=${backing.socket}`, `export=${backing.plainLun}`, ...(durable ? ['fuamode=force'] : [])]
  await servers.start('nbdkit', ['-f', '-U', socket, ...filter, 'nbd', ...parameters], socket)
  return { name, socket, exportName: '', offsetBytes: backing.plainOffset }
}

async function startQemu(servers: Servers, directory: string, backing: Backing, durable: boolean): Promise<Target> {
  const name = durable ? 'qemu-fua' : 'qemu'
  const socket = join(directory, `${name}.sock`)
  const node = `driver=nbd,node-name=lun,server.type=unix,server.path=${backing.socket},export=${backing.plainLun}`
  const served = `nbd,id=disk,node-name=lun,name=disk,writable=on${durable ? ',writethrough=on' : ''}`
  const server = `addr.type=unix,addr.path=${socket}`
  await servers.start('qemu-storage-daemon', ['--blockdev', node, '--nbd-server', server, '--export', served], socket)
  return { name, socket, exportName: 'disk', offsetBytes: backing.plainOffset }
}
