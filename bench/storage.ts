// The embedded storage subsystem beside `nbdkit file` and `qemu-nbd`: the same file, the same durability (all three
// acknowledge a plain write from the page cache, and a flush when it is on the disk). The peer of a row is the better one.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fill, measure, STORAGE_LOADS, type Target } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { row } from './lib/rows.ts'
import type { StorageServerConfig } from './servers/storage.ts'

const RANGE_BYTES = 512 * 1024 * 1024
const LUN = 'bench'

export const storage: Group = {
  name: 'storage',
  about: 'the embedded storage subsystem beside nbdkit file and qemu-nbd, on the same file',
  async run(context) {
    if (!has('fio')) return
    await withServers((servers, directory) => measureAll(context, servers, directory))
  },
}

async function measureAll(
  { rounds, fio, report, progress }: BenchContext,
  servers: Servers,
  directory: string,
): Promise<void> {
  const ours = await startOurs(servers, directory)
  progress('storage: filling')
  // Once over the whole LUN, so that all of them work on the same allocated, cached file.
  await fill(ours, RANGE_BYTES)
  const luns = join(directory, 'san', 'luns')
  const file = join(luns, readdirSync(luns).find(name => name.endsWith('.data'))!)
  const targets = [ours, ...(await startPeers(servers, directory, file))]
  for (const load of STORAGE_LOADS) {
    const results = await sideBySide(targets, rounds, target => {
      progress(`storage: ${load.name}, ${target.name}`)
      return measure(target, load, RANGE_BYTES, fio)
    })
    const name = `storage, ${load.name}`
    const [, ...peers] = targets
    if (peers.length === 0) report(row(name, results.get(ours)!, load.unit, null, null))
    for (const peer of peers) report(row(name, results.get(ours)!, load.unit, results.get(peer)!, peer.name))
  }
}

async function startOurs(servers: Servers, directory: string): Promise<Target> {
  const socket = join(directory, 'ours.sock')
  const config: StorageServerConfig = {
    directory,
    socket,
    controlSocket: join(directory, 'control.sock'),
    luns: [{ lun: LUN, sizeBytes: RANGE_BYTES, open: true }],
  }
  await servers.serve('storage.ts', config, socket)
  return { name: 'stellwerk', socket, exportName: LUN, offsetBytes: 0 }
}

async function startPeers(servers: Servers, directory: string, file: string): Promise<Target[]> {
  const peers: Target[] = []
  if (has('nbdkit')) {
    const socket = join(directory, 'nbdkit.sock')
    await servers.start('nbdkit', ['-f', '-U', socket, 'file', file], socket)
    peers.push({ name: 'nbdkit file', socket, exportName: '', offsetBytes: 0 })
  }
  if (has('qemu-nbd')) {
    const socket = join(directory, 'qemu-nbd.sock')
    await servers.start('qemu-nbd', ['-t', '-f', 'raw', '-e', '8', '--cache=writeback', '-k', socket, file], socket)
    peers.push({ name: 'qemu-nbd', socket, exportName: '', offsetBytes: 0 })
  }
  return peers
}
