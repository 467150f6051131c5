// A CSV disk on a volume of two legs as a process of its own: mirrored as an agent does it, and served as NBD. Its parent
// says which generation is next, as the coordinator would; the volume's owner, which lives here too, begins anew in each.

import { exportDisk } from '@stellwerk/agent/volume/disk-export.ts'
import type { Generation } from '@stellwerk/block/mirror/generation.ts'
import { type MirrorDevice, openMirror } from '@stellwerk/block/mirror/mirror.ts'
import type { MultipathDevice } from '@stellwerk/block/path/multipath.ts'
import { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import type { LegState, VolumeGeneration } from '@stellwerk/csv/mirror/leg-state.ts'
import { VolumeOwner } from '@stellwerk/csv/owner/volume-owner.ts'
import { BENCH_CLUSTER, BENCH_HOST, config, endWithParent, serverEnvironment } from './config.ts'
import { type BenchLun, HOST_EPOCH, LunPaths, local, settings } from './lun-paths.ts'
import { takeOrders } from './orders.ts'

export interface MirrorDiskConfig {
  readonly name: string
  readonly directory: string
  /** Where the disk is served. */
  readonly socket: string
  readonly luns: readonly [BenchLun, BenchLun]
  readonly volumeBytes: number
  readonly diskBytes: number
}

/** The second leg's part; the first is in sync all along. */
export interface EnterGeneration {
  readonly number: number
  readonly role: LegState['role']
  /** The last generation in which it was in sync. */
  readonly lastInSync: number | null
}

export interface Progress {
  /** Since the generation's beginning at the host; of `synced`: until the owner was told that the disk is equal on both. */
  readonly ms: number
  readonly copiedBytes: number
  readonly done: boolean
}

const OWNER_EPOCH = 1
const LEG_IDS = ['leg-0', 'leg-1']
/** Guests count as at work for so long after a request, as in the agent. */
const BUSY_MS = 100
const COPY_IO = { origin: 'resync', deadlineAt: null }

const options = config<MirrorDiskConfig>()
const env = serverEnvironment(options.name, options.directory)
const paths = new LunPaths(env, options.luns, fail)
let generation = generationOf({ number: 0, role: 'in-sync', lastInSync: null })
/** The next one: a storage that has been raised to it may tell of it first. */
let expected: VolumeGeneration | null = null
let owner: Promise<VolumeOwner> | null = null
let ownerDevices: MultipathDevice[] = []
let volume: HostVolume | null = null
let beganAt = 0
let copiedBytes = 0
let done = false
let synced = Promise.withResolvers<Progress>()

await format()
owner = openOwner(generation)
const mirror = await openHostMirror()
volume = await openVolume(mirror)
const disk = await attachDisk(volume)
await exportDisk(env, { address: local(options.socket), name: 'disk', device: disk })
takeOrders({ expect, enter, synced: () => synced.promise, progress: async () => progress() })
endWithParent()

function fail(why: string): never {
  process.stderr.write(`${options.name}: ${why}\n`)
  process.exit(1)
}

function generationOf({ number, role, lastInSync }: EnterGeneration): VolumeGeneration {
  return {
    number,
    legs: [
      { id: LEG_IDS[0]!, index: 0, role: 'in-sync', lastInSync: null },
      { id: LEG_IDS[1]!, index: 1, role, lastInSync },
    ],
  }
}

function rolesOf({ number, legs }: VolumeGeneration): Generation {
  return { number, legs: Object.fromEntries(legs.map(({ id, role }) => [id, role])) }
}

function openLeg(index: number, number: number, ownerEpoch: number | null, signal?: AbortSignal) {
  return paths.open(options.luns[index]!, {
    generation: number,
    owner: ownerEpoch,
    // A generation that is over: the next one is on its way.
    onRefused: refusal => {
      if (refusal.code !== 'generation-refused') fail(refusal.message)
    },
    ...(signal === undefined ? {} : { signal }),
  })
}

async function openOwnerLegs({ number, legs: all }: VolumeGeneration) {
  const written = all.filter(leg => leg.role !== 'stale')
  const legs = await Promise.all(
    written.map(async ({ id, index }) => ({ id, device: await openLeg(index, number, OWNER_EPOCH) })),
  )
  ownerDevices = legs.map(leg => leg.device)
  return legs
}

async function format(): Promise<void> {
  const legs = await openOwnerLegs(generation)
  await formatVolume({ legs, volumeId: 'bench', clusterId: BENCH_CLUSTER, volumeBytes: options.volumeBytes })
  await Promise.all(ownerDevices.map(device => device.close()))
}

async function openOwner(of: VolumeGeneration): Promise<VolumeOwner> {
  return VolumeOwner.open({
    legs: await openOwnerLegs(of),
    generation: of,
    volume: 'csv1',
    ownerEpoch: OWNER_EPOCH,
    env,
    onRanges: async ranges => {
      for (const { index, role } of of.legs) {
        if (role !== 'stale') await paths.register(options.luns[index]!, OWNER_EPOCH, ranges)
      }
    },
  })
}

function openHostMirror(): Promise<MirrorDevice> {
  return openMirror({
    generation: rolesOf(generation),
    open: (leg, number, signal) => openLeg(LEG_IDS.indexOf(leg), number, null, signal),
    report: (leg, number, why) => fail(`${leg} is lost in generation ${number}: ${why}`),
    onGeneration: ({ number }) => {
      if (number === expected?.number) generation = expected
      beganAt = env.clock.now()
      copiedBytes = 0
      done = false
      synced = Promise.withResolvers()
      volume?.follow(generation)
    },
    clock: env.clock,
    timers: env.timers,
    config: { legDeadlineMs: settings.legDeadlineMs },
  })
}

function openVolume(device: MirrorDevice): Promise<HostVolume> {
  return HostVolume.open({
    volume: 'csv1',
    host: BENCH_HOST,
    hostEpoch: HOST_EPOCH,
    device,
    mirror: {
      copy: async (offset, length) => {
        const unreadable = await device.copy(offset, length, COPY_IO)
        copiedBytes += length
        return unreadable
      },
      scrub: (offset, length, options) => device.scrub(offset, length, options, COPY_IO),
    },
    generation: () => generation,
    pace: {
      bytesPerSecond: () => settings.resyncBytesPerSecond,
      busy: () => env.clock.now() - device.lastRequestAt < BUSY_MS,
    },
    owner: async (kind, body) => {
      const reply = await (await owner)!.handle(kind, body)
      if (kind === 'volume.synced') {
        done = true
        synced.resolve(progress())
      }
      return reply
    },
    env,
  })
}

async function attachDisk(opened: HostVolume): Promise<CsvDisk> {
  const asked = { volume: 'csv1', disk: 'disk-1', name: 'disk-1', sizeBytes: options.diskBytes }
  await (await owner)!.handle('volume.create-disk', asked)
  return CsvDisk.attach({ volume: opened, disk: 'disk-1', vm: 'bench', epoch: 1 })
}

function progress(): Progress {
  return { ms: env.clock.now() - beganAt, copiedBytes, done }
}

/** Before the storages are raised to it. */
async function expect(next: EnterGeneration): Promise<void> {
  expected = generationOf(next)
}

/** The storages have been raised to what is expected. */
async function enter(): Promise<void> {
  const former = owner!
  const devices = ownerDevices
  const next = expected!
  owner = former.then(async ended => {
    await ended.close()
    for (const device of devices) device.abort('another generation')
    return openOwner(next)
  })
  mirror.follow(rolesOf(next))
  await owner
  await volume!.reached(next.number)
}
