// The disks of one VM on this host: attached for a start, or reserved for a migration and taken over when the source has
// released them.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import { parseHandover } from '@stellwerk/csv/disk/extent-map.ts'
import type { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import { isFinal } from '@stellwerk/csv/owner/refusal.ts'
import type { OwnerCall, VolumeBody, VolumeKind, VolumeReply } from '@stellwerk/csv/owner/request.ts'
import type { VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { DiskInfo } from '@stellwerk/protocol/messages/volume.ts'
import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { DiskSet } from './disk-set.ts'
import { LateDevice } from './late-device.ts'

export interface VmDisk {
  readonly volume: HostVolume
  readonly disk: string
  readonly owner: OwnerCall
}

/** Between two tries of what the owner must be told. */
const RETRY_MS = 200
/** So long an owner is told of an epoch that is burnt, by who has nothing else to do with the disk. */
const BURN_MS = 60_000

export class VmDisks implements DiskSet {
  readonly devices: readonly BlockDevice[]
  readonly #env: Environment
  readonly #order: VmOrder
  readonly #places: readonly VmDisk[]
  #disks: readonly CsvDisk[]
  readonly #late: readonly LateDevice[]
  readonly #storages: () => readonly string[] | null
  /** As the owner knew them when they were reserved. */
  readonly #reserved: readonly DiskInfo[]
  #dropped = false
  /** What the owner is still being told. */
  readonly #telling = new Set<Promise<void>>()

  private constructor(
    env: Environment,
    order: VmOrder,
    places: readonly VmDisk[],
    storages: () => readonly string[] | null,
    disks: readonly CsvDisk[],
    late: readonly LateDevice[],
    reserved: readonly DiskInfo[],
  ) {
    this.#env = env
    this.#order = order
    this.#places = places
    this.#disks = disks
    this.#late = late
    this.#reserved = reserved
    this.devices = late.length > 0 ? late : disks
    this.#storages = storages
  }

  storages(): readonly string[] | null {
    return this.#places.length === 0 ? null : this.#storages()
  }

  static async attach(
    env: Environment,
    order: VmOrder,
    places: readonly VmDisk[],
    storages: () => readonly string[] | null,
  ): Promise<VmDisks> {
    const disks: CsvDisk[] = []
    try {
      for (const { volume, disk } of places) {
        const options = { volume, disk, vm: order.vm, epoch: order.epoch }
        disks.push(await untilAnswered(env, () => CsvDisk.attach(options)))
      }
    } catch (error) {
      // Nobody else knows of those that were attached, and their VM has none of them.
      const attached = new VmDisks(env, order, places.slice(0, disks.length), storages, disks, [], [])
      await attached.detach().catch((cause: unknown) => {
        env.log.info({ vm: order.vm, code: errorCode(cause) }, `a disk was not given back: ${errorMessage(cause)}`)
        attached.drop()
      })
      throw error
    }
    return new VmDisks(env, order, places, storages, disks, [], [])
  }

  static async reserve(
    env: Environment,
    order: VmOrder,
    places: readonly VmDisk[],
    storages: () => readonly string[] | null,
  ): Promise<VmDisks> {
    const late: LateDevice[] = []
    const reserved: DiskInfo[] = []
    const { vm, host, hostEpoch, epoch } = order
    const asked: VmDisk[] = []
    try {
      for (const place of places) {
        const { volume, disk, owner } = place
        asked.push(place)
        const of = { volume: volume.options.volume, disk }
        await untilAnswered(env, () => owner('volume.reserve', { ...of, vm, host, hostEpoch, epoch }))
        const { disks } = await untilAnswered(env, () => owner('volume.list-disks', { volume: of.volume }))
        const info = disks.find(d => d.disk === disk || d.name === disk)
        if (info === undefined)
          throw new StellwerkError('disk-missing', `there is no disk ${disk}`, { where: of.volume })
        reserved.push(info)
        const { device } = volume.options
        late.push(
          new LateDevice(info.sizeBytes, device.limits, {
            ...device.caps,
            flush: true,
            fua: true,
            trim: true,
            zero: true,
          }),
        )
      }
    } catch (error) {
      // Nobody else knows of those that were reserved.
      for (const { volume, disk, owner } of asked) {
        owner('volume.abort', { volume: volume.options.volume, disk, epoch }).catch((cause: unknown) => {
          env.log.info({ vm, code: errorCode(cause) }, `a reservation was not given up: ${errorMessage(cause)}`)
        })
      }
      throw error
    }
    return new VmDisks(env, order, places, storages, [], late, reserved)
  }

  get critical(): string | null {
    for (const [i, disk] of this.#disks.entries()) {
      const { volume } = this.#places[i]!
      if (disk.critical !== null) return `${disk.critical} (${volume.options.volume})`
    }
    return null
  }

  onCritical(listener: () => void): void {
    for (const disk of this.#disks) disk.onCritical(listener)
  }

  abandon(): void {
    for (const disk of this.#disks) disk.abandon()
  }

  async drain(): Promise<void> {
    await Promise.all(this.#disks.map(disk => disk.drain()))
  }

  resume(): void {
    for (const disk of this.#disks) disk.resume()
  }

  handover(): Json {
    return this.#disks.map(disk => disk.handover())
  }

  async adopt(handover: Json): Promise<void> {
    if (!Array.isArray(handover) || handover.length !== this.#places.length) {
      throw new StellwerkError('bad-handover', `${this.#places.length} disks are to be handed over`, {
        where: this.#order.vm,
      })
    }
    const { vm, epoch } = this.#order
    for (const [i, info] of this.#reserved.entries()) {
      checkHandover(handover[i] as Json, info, this.#places[i]!.volume.view.volumeId)
    }
    const adopted = await Promise.allSettled(
      this.#places.map(({ volume, disk }, i) =>
        CsvDisk.adopt({ volume, disk, vm, epoch, committed: true }, handover[i] as Json),
      ),
    )
    this.#disks = adopted.flatMap(each => (each.status === 'fulfilled' ? [each.value] : []))
    const failed = adopted.find(each => each.status === 'rejected')
    if (failed !== undefined) {
      this.drop()
      throw failed.reason
    }
    if (this.#dropped) {
      this.drop()
      throw new StellwerkError('disk-closed', 'the disks were dropped while they were taken over', { where: vm })
    }
    for (const [i, disk] of this.#disks.entries()) {
      this.#late[i]?.bind(disk)
    }
  }

  committed(): void {
    const { vm, host, hostEpoch, epoch } = this.#order
    for (const disk of this.#disks) disk.taken()
    for (const { volume, disk, owner } of this.#places) {
      const body = { volume: volume.options.volume, disk, vm, host, hostEpoch, epoch, committed: true }
      this.#tell('volume.attach', owner, body)
    }
  }

  burn(epoch: number): void {
    for (const { volume, disk, owner } of this.#places) {
      this.#tell('volume.abort', owner, { volume: volume.options.volume, disk, epoch }, true)
    }
  }

  async detach(): Promise<void> {
    const { host, epoch } = this.#order
    // The owner must have heard that the disks are ours before it hears that they are not.
    await Promise.all(this.#telling)
    await Promise.all(this.#disks.map(disk => disk.close()))
    await this.#unmark()
    for (const { volume, disk, owner } of this.#places) {
      const body = { volume: volume.options.volume, disk, host, epoch }
      await untilAnswered(this.#env, () => {
        this.#mayDetach(volume)
        return owner('volume.detach', body)
      })
    }
  }

  /** What stays marked here of a disk that is another host's would be made equal from here, over what that one writes. */
  async #unmark(): Promise<void> {
    for (const [i, disk] of this.#disks.entries()) {
      const { volume } = this.#places[i]!
      if (volume.generation.legs.length < 2) continue
      await untilAnswered(this.#env, async () => {
        this.#mayDetach(volume)
        await volume.intent.clear(disk.covers())
      })
    }
  }

  /** Of what is fenced, or deleted, nobody wants to hear it. */
  #mayDetach(volume: HostVolume): void {
    if (this.#dropped) throw new StellwerkError('disk-closed', 'the host was fenced while it detached the disk')
    if (volume.dropped !== null) throw volume.dropped
  }

  drop(): void {
    this.#dropped = true
    for (const disk of this.#disks) {
      disk.close().catch((error: unknown) => {
        // Its paths are refused or its marks are another's to clear now: nothing is left to be done here.
        this.#env.log.debug({ vm: this.#order.vm }, `a dropped disk did not close: ${errorMessage(error)}`)
      })
    }
  }

  /** In the background, until the owner, whoever that is by then, has taken or refused it. */
  #tell<K extends VolumeKind>(kind: K, owner: OwnerCall, body: VolumeBody<K>, evenDropped = false): void {
    const { clock } = this.#env
    const until = clock.now() + (evenDropped ? BURN_MS : 0)
    const told = untilAnswered<VolumeReply<K>>(this.#env, () => {
      if (this.#dropped && clock.now() >= until)
        throw new StellwerkError('disk-closed', 'the disk is no longer this host’s')
      return owner(kind, body)
    }).then(
      () => undefined,
      (error: unknown) => {
        this.#env.log.info(
          { vm: this.#order.vm, code: errorCode(error) },
          `${kind} was refused: ${errorMessage(error)}`,
        )
      },
    )
    this.#telling.add(told)
    void told.then(() => this.#telling.delete(told))
  }
}

/**
 * The disk that was reserved, with a map that has all that was mapped then: an older one would lack extents that are in use. What
 * else raises a map's version (a snapshot) its host need not have heard of.
 */
function checkHandover(handover: Json, reserved: DiskInfo, volumeId: string): void {
  const given = parseHandover(handover, volumeId)
  const refuse = (why: string): never => {
    throw new StellwerkError('bad-handover', `disk ${reserved.name} was not handed over: ${why}`, {
      where: reserved.disk,
    })
  }
  if (given.disk !== reserved.disk) refuse(`what came is disk ${given.disk}`)
  if (given.sizeBytes !== reserved.sizeBytes) refuse(`it has ${reserved.sizeBytes} bytes, what came ${given.sizeBytes}`)
  if (given.mapVersion < reserved.mappedVersion) {
    refuse(`its map had extents of version ${reserved.mappedVersion} before, what came is at ${given.mapVersion}`)
  }
}

/** Owners die, move and are not reached; only a refusal that will not change is an error. */
async function untilAnswered<T>(env: Environment, ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      const code = errorCode(error)
      if (isFinal(code) || code === 'disk-closed' || code === 'volume-dropped' || code === 'bad-handover') throw error
      if (!(error instanceof StellwerkError)) throw error
    }
    await new Promise<void>(resolve => env.timers.after(RETRY_MS, resolve))
  }
}
