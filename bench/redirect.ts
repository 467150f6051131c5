// The redirected path beside the direct one over the same storage, and how long I/O stands still when HBAs are pulled.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DISK_LOADS, fill, measure, type Target } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { row } from './lib/rows.ts'
import type { CarriedDiskConfig } from './servers/carried-disk.ts'
import type { PeerConfig } from './servers/peer.ts'
import type { Pulled, PullsConfig } from './servers/pulls.ts'

const MIB = 1024 * 1024
const RANGE_BYTES = 256 * MIB
const PULLS = 50
const BLACK_HOLES = 5
const PULLS_MS = 900_000

export const redirect: Group = {
  name: 'redirect',
  about: 'a disk redirected over a peer beside a direct one, and pulled HBAs',
  async run(context) {
    if (!has('fio') || !has('nbdkit')) return
    await withServers(async (servers, directory) => {
      const portalSocket = join(directory, 'lun.sock')
      await servers.start('nbdkit', ['-f', '-U', portalSocket, 'memory', `${RANGE_BYTES}`], portalSocket)
      const portFile = join(directory, 'peer.port')
      await servers.serve('peer.ts', { directory, portalSocket, portFile } satisfies PeerConfig, portFile)
      const peerPort = Number(readFileSync(portFile, 'utf8'))
      await loads(context, servers, { directory, portalSocket, peerPort })
      await pulls(context, servers, { directory, portalSocket, peerPort })
    })
  },
}

interface Place {
  readonly directory: string
  readonly portalSocket: string
  readonly peerPort: number
}

async function loads({ rounds, fio, report, progress }: BenchContext, servers: Servers, place: Place): Promise<void> {
  const disk = async (name: string, peerPort: number | null): Promise<Target> => {
    const { directory, portalSocket } = place
    const socket = join(directory, `${name}.sock`)
    const config: CarriedDiskConfig = { name, directory, socket, portalSocket, peerPort }
    await servers.serve('carried-disk.ts', config, socket)
    return { name, socket, exportName: 'disk', offsetBytes: 0 }
  }
  const targets = [await disk('direct', null), await disk('redirected', place.peerPort)]
  await fill(targets[0]!, RANGE_BYTES)
  for (const load of DISK_LOADS) {
    const results = await sideBySide(targets, rounds, target => {
      progress(`redirect: ${load.name}, ${target.name}`)
      return measure(target, load, RANGE_BYTES, fio)
    })
    const [direct, redirected] = targets.map(target => results.get(target)!)
    report(row(`redirected, ${load.name}`, redirected!, load.unit, direct!, 'direct'))
  }
}

async function pulls({ quick, report, progress }: BenchContext, servers: Servers, place: Place): Promise<void> {
  progress('redirect: pulling HBAs')
  const resultFile = join(place.directory, 'pulls.json')
  const config: PullsConfig = { ...place, pulls: quick ? 5 : PULLS, blackHoles: quick ? 1 : BLACK_HOLES, resultFile }
  await servers.serve('pulls.ts', config, resultFile, PULLS_MS)
  const { hba, redirected, blackHole, deadlineMs } = JSON.parse(readFileSync(resultFile, 'utf8')) as Pulled
  const p99 = (values: readonly number[]): number =>
    [...values].sort((a, b) => a - b)[Math.ceil(values.length * 0.99) - 1]!
  report(row(`one HBA reset, I/O stands still, p99 of ${hba.length}`, p99(hba), 'ms', 50, 'what is wanted'))
  report(row(`both reset, redirected, p99 of ${redirected.length}`, p99(redirected), 'ms', 100, 'what is wanted'))
  const within = deadlineMs + 200
  report(
    row(`both black holes, worst of ${blackHole.length}`, Math.max(...blackHole), 'ms', within, 'the deadline + 200'),
  )
}
