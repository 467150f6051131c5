// What recording costs, on against off, in one run: a CSV disk's IOPS and a live migration with nothing recorded, at level
// `message` (always on in a cluster) and, for the disk, at `io` too; and what a coordinator of 100 hosts pays for each beat.
// A ratio is that of recording to not recording.

import { join } from 'node:path'
import type { TraceLevel } from '@stellwerk/runtime/environment.ts'
import { costOfBeats } from './coordinator-beats.ts'
import { DISK_LOADS, fill, measure, type Target } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { has } from './lib/peers.ts'
import { row } from './lib/rows.ts'
import { measureMigrations } from './migration.ts'
import type { DiskServerConfig } from './servers/disk.ts'

const MIB = 1024 * 1024
const RANGE_BYTES = 256 * MIB
const VOLUME_BYTES = 512 * MIB

const OFF = 'recording off'
type Recording = typeof OFF | TraceLevel

export const trace: Group = {
  name: 'trace',
  about: 'what recording costs a disk, a migration and the coordinator of 100 hosts',
  async run(context) {
    if (has('fio') && has('nbdkit')) await disks(context)
    await migrations(context)
    coordinator(context)
  },
}

async function disks({ rounds, fio, report, progress }: BenchContext): Promise<void> {
  const recordings: readonly Recording[] = [OFF, 'message', 'io']
  await withServers(async (servers, directory) => {
    const targets = new Map<Recording, Target>()
    for (const recording of recordings) {
      const name = recording === OFF ? 'off' : recording
      const lun = join(directory, `lun-${name}.sock`)
      await servers.start('nbdkit', ['-f', '-U', lun, 'memory', `${VOLUME_BYTES}`], lun)
      const socket = join(directory, `${name}.sock`)
      const config: DiskServerConfig = {
        name,
        directory,
        socket,
        lun: { storage: 'san', name: '', socket: lun, controlSocket: null },
        volume: { volumeBytes: VOLUME_BYTES, diskBytes: RANGE_BYTES },
        ...(recording === OFF ? {} : { trace: recording }),
      }
      await servers.serve('disk.ts', config, socket)
      const target = { name, socket, exportName: 'disk', offsetBytes: 0 }
      progress(`trace: filling the disk at ${recording}`)
      await fill(target, RANGE_BYTES)
      targets.set(recording, target)
    }
    for (const load of DISK_LOADS) {
      const results = await sideBySide(recordings, rounds, recording => {
        progress(`trace: ${load.name}, ${recording}`)
        return measure(targets.get(recording)!, load, RANGE_BYTES, fio)
      })
      for (const recording of recordings) {
        if (recording === OFF) continue
        const name = `trace at ${recording}, csv, ${load.name}`
        report(row(name, results.get(recording)!, load.unit, results.get(OFF)!, OFF))
      }
    }
  })
}

/** Of the dirty rates the one that a migration has to work for. */
const DIRTY_MIB_PER_SECOND = 64

async function migrations(context: BenchContext): Promise<void> {
  const off = await measureMigrations(context, DIRTY_MIB_PER_SECOND)
  const on = await measureMigrations(context, DIRTY_MIB_PER_SECOND, 'message')
  const name = `trace at message, migration, ${DIRTY_MIB_PER_SECOND} MiB/s dirtied`
  const rate = ({ bytes, totalMs }: typeof on): number => bytes / MIB / (totalMs / 1_000)
  context.report(row(`${name}, throughput`, rate(on), 'MiB/s', rate(off), OFF))
  context.report(row(`${name}, downtime`, on.downtimeMs, 'ms', off.downtimeMs, OFF))
}

const HOSTS = 100

function coordinator({ rounds, report, progress }: BenchContext): void {
  progress(`trace: a cluster of ${HOSTS} hosts`)
  const { off, on, bytes, snapshotMs, snapshotBytes } = costOfBeats(HOSTS, 2 * rounds)
  const name = `trace at message, ${HOSTS} hosts`
  report(row(`${name}, a second of beats`, on, 'ms', off, OFF))
  report(row(`${name}, recorded in a second`, bytes / MIB, 'MiB', null, null))
  report(row(`${name}, a snapshot`, snapshotMs, 'ms', null, null))
  report(row(`${name}, a snapshot's size`, snapshotBytes / MIB, 'MiB', null, null))
}
