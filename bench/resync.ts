// A leg that has missed all of a disk, resynced: with nobody at the disk, beside a raw copy from the one storage to the other
// by nbdcopy, both durable at their end; and at its rate limit while a guest writes, whose 99th percentile stands beside
// that of quiet times.

import type { ChildProcess } from 'node:child_process'
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { fill, type Target, writeTimes } from './lib/fio.ts'
import { type BenchContext, type Group, sideBySide, withServers } from './lib/group.ts'
import { type Leg, type Legs, startLegs } from './lib/legs.ts'
import { has } from './lib/peers.ts'
import type { Servers } from './lib/processes.ts'
import { row } from './lib/rows.ts'
import { startMirror } from './mirror.ts'
import type { EnterGeneration, Progress } from './servers/mirror-disk.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
const DISK_BYTES = 384 * MIB
const VOLUME_BYTES = 512 * MIB
/** Far from what the path can do, so that a write waits for what is in its way and not for its kind. */
const GUEST_IOPS = 2_000
/** A guest is at work for so long before the resync begins, and before it is measured. */
const GUEST_AHEAD_MS = 500
const GUEST_RAMP_S = 1
/** fio gives no figures of a load with a rate that runs for less than twice its ramp. */
const GUEST_S = 3

export const resync: Group = {
  name: 'resync',
  about: 'a leg that missed everything, resynced: beside a raw copy, and beside a guest',
  async run(context) {
    if (!has('fio') || !has('nbdkit')) return
    for (const backing of ['memory', 'embedded'] as const) {
      await withServers(async (servers, directory) => {
        const sizes = { volumeBytes: VOLUME_BYTES, plainBytes: DISK_BYTES, plainApart: true }
        const legs = await startLegs(servers, directory, backing, sizes)
        const volume = { volumeBytes: VOLUME_BYTES, diskBytes: DISK_BYTES }
        const disk = await startMirror(servers, directory, legs, volume)
        const mirrored = new MirroredDisk(servers, legs, disk, disk.server)
        await fill(disk, DISK_BYTES)
        await alone(context, legs, mirrored)
        await besideGuest(context, legs, mirrored)
      })
    }
  },
}

/** Takes its second leg away and back, as the coordinator would. */
class MirroredDisk {
  readonly target: Target
  readonly #servers: Servers
  readonly #legs: Legs
  readonly #server: ChildProcess
  #generation = 0
  #lastInSync = 0

  constructor(servers: Servers, legs: Legs, target: Target, server: ChildProcess) {
    this.#servers = servers
    this.#legs = legs
    this.target = target
    this.#server = server
  }

  /** The second leg misses all of the disk. */
  async loseAll(): Promise<void> {
    this.#lastInSync = this.#generation
    await this.#enter('stale')
    await fill(this.target, DISK_BYTES)
  }

  beginResync(): Promise<void> {
    return this.#enter('syncing')
  }

  async progress(): Promise<Progress> {
    return (await this.#servers.ask(this.#server, 'progress')) as Progress
  }

  async synced(): Promise<Progress> {
    const progress = (await this.#servers.ask(this.#server, 'synced')) as Progress
    await this.#enter('in-sync')
    return progress
  }

  async #enter(role: EnterGeneration['role']): Promise<void> {
    this.#generation += 1
    const number = this.#generation
    const next: EnterGeneration = { number, role, lastInSync: role === 'in-sync' ? null : this.#lastInSync }
    await this.#servers.ask(this.#server, 'expect', next)
    const body = { lun: 'volume', generation: number, legs: { 'leg-0': 'in-sync', 'leg-1': role }, term: 1 }
    for (const { storage } of this.#legs.legs) {
      if (storage !== null) await this.#servers.ask(storage, 'storage', { kind: 'storage.generation', body })
    }
    await this.#servers.ask(this.#server, 'enter')
  }
}

async function alone(context: BenchContext, { name, legs }: Legs, disk: MirroredDisk): Promise<void> {
  const { rounds, report, progress } = context
  const contenders = has('nbdcopy') ? (['resync', 'nbdcopy'] as const) : (['resync'] as const)
  if (contenders.length > 1) {
    // Once before it counts: what is written first is allocated first.
    await fill({ name: 'plain', ...legs[0].plain }, DISK_BYTES)
    await rawCopy(legs)
  }
  const results = await sideBySide(contenders, rounds, async contender => {
    progress(`resync on ${name}: ${contender}`)
    if (contender === 'nbdcopy') return rawCopy(legs)
    await disk.loseAll()
    await disk.beginResync()
    const { ms } = await disk.synced()
    return DISK_BYTES / MIB / (ms / 1_000)
  })
  report(
    row(`resync on ${name}, no guests`, results.get('resync')!, 'MiB/s', results.get('nbdcopy') ?? null, 'nbdcopy'),
  )
}

/** In MiB a second. */
async function rawCopy([from, to]: readonly [Leg, Leg]): Promise<number> {
  const uri = ({ plain }: Leg): string => `nbd+unix:///${plain.exportName}?socket=${plain.socket}`
  const startedAt = performance.now()
  await run('nbdcopy', ['--flush', uri(from), uri(to)])
  return DISK_BYTES / MIB / ((performance.now() - startedAt) / 1_000)
}

async function besideGuest({ rounds, report, progress }: BenchContext, { name }: Legs, disk: MirroredDisk) {
  const times = { runtimeS: GUEST_S, rampS: GUEST_RAMP_S }
  const guest = async (): Promise<number> => (await writeTimes(disk.target, GUEST_IOPS, DISK_BYTES, times)).p99
  let copied = 0
  const results = await sideBySide(['quiet', 'resyncing'] as const, rounds, async contender => {
    progress(`resync on ${name}: guest, ${contender}`)
    if (contender === 'quiet') return guest()
    await disk.loseAll()
    const measured = guest()
    await sleep(GUEST_AHEAD_MS)
    await disk.beginResync()
    const p99 = await measured
    const at = await disk.progress()
    if (at.done) throw new Error('the resync was over before the guest was')
    copied = at.copiedBytes / MIB / (at.ms / 1_000)
    await disk.synced()
    return p99
  })
  const at = `${copied.toFixed(0)} MiB/s`
  report(
    row(`resync on ${name} at ${at}, guest's p99`, results.get('resyncing')!, 'ms', results.get('quiet')!, 'quiet'),
  )
}
