// The cluster's volumes on this host: opened when a VM needs them, all dropped when the host is fenced; and those whose
// owner this host is, by the map.

import type { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import type { OwnerCall } from '@stellwerk/csv/owner/request.ts'
import type { Beat, ClusterMap, ClusterMapVolume, VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { LunBehind } from '@stellwerk/protocol/messages/storage.ts'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { Environment, NetworkName } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { LunAccess } from '../hba/lun.ts'
import type { LunSessions } from '../hba/lun-sessions.ts'
import type { OpenLuns } from '../hba/open-luns.ts'
import type { StorageLinks } from '../hba/storage-links.ts'
import type { Redirects } from '../redirect/redirects.ts'
import type { DiskOpener, DiskSet } from './disk-set.ts'
import { OpenVolume } from './open-volume.ts'
import { OrderMarks } from './order-marks.ts'
import { OwnerService } from './owner-service.ts'
import { type VmDisk, VmDisks } from './vm-disks.ts'

export interface HostVolumesOptions {
  readonly env: Environment
  readonly system: ActorSystem
  readonly host: string
  readonly cluster: string
  readonly hbas: readonly NetworkName[]
  readonly links: StorageLinks
  readonly sessions: LunSessions
  readonly settings: () => Settings
  readonly redirects: Redirects
  readonly luns: OpenLuns
  /** Our epoch was refused by storage. */
  readonly onRefused: (epoch: number, why: string) => void
  /** To be told to the coordinator: a leg is lost to us while another in-sync one serves. */
  readonly onLegLost: (lost: { volume: string; leg: string; generation: number; why: string }) => void
  /** Which storages must answer for a VM may be others now. */
  readonly onLegs: () => void
  /** What is owned here has changed. */
  readonly onChange: () => void
}

export type OwnedVolumeState = Beat['volumes'][number]

interface OwnedVolume {
  readonly service: OwnerService
  readonly address: string
}

export class HostVolumes implements DiskOpener {
  readonly #options: HostVolumesOptions
  readonly #open = new Map<string, OpenVolume>()
  readonly #owned = new Map<string, OwnedVolume>()
  readonly #orders: OrderMarks
  /** Ownerships that are ending. */
  readonly #ending = new Map<OwnerService, Promise<void>>()
  /** Ownerships that are ending, where another may not begin before this one has ended. */
  readonly #leaving = new Map<string, OwnerService>()
  /** Ids of volumes that were deleted since this agent started: their owners will never answer. */
  readonly #deleted = new Set<string>()
  #map: ClusterMap | null = null
  #epoch = 0
  #fenced = false

  constructor(options: HostVolumesOptions) {
    this.#orders = new OrderMarks(options.env.store)
    this.#options = options
  }

  // --- the host's epoch --------------------------------------------------------------------------------------------------------

  admitted(epoch: number): void {
    this.#epoch = epoch
    this.#fenced = false
    if (this.#map !== null) this.follow(this.#map)
  }

  /** Nothing is written under the old epoch any more when it resolves. */
  async fenced(): Promise<void> {
    this.#fenced = true
    for (const volume of this.#open.values()) volume.drop('the host is fenced')
    this.#open.clear()
    for (const name of [...this.#owned.keys()]) this.#disown(name, false)
    for (const service of this.#ending.keys()) void service.end(false)
    while (this.#ending.size > 0) await Promise.allSettled(this.#ending.values())
  }

  get idle(): boolean {
    return this.#open.size === 0 && this.#owned.size === 0 && this.#ending.size === 0
  }

  /** In order: slots are cleared, owners answer what they have taken. */
  async close(): Promise<void> {
    for (const volume of this.#open.values()) {
      await volume.close().catch((error: unknown) => {
        this.#options.env.log.warn({ volume: volume.name }, `not closed in order: ${errorMessage(error)}`)
      })
    }
    this.#open.clear()
    for (const name of [...this.#owned.keys()]) this.#disown(name, true)
    while (this.#ending.size > 0) await Promise.allSettled(this.#ending.values())
  }

  // --- ownership ---------------------------------------------------------------------------------------------------------------

  follow(map: ClusterMap): void {
    this.#map = map
    if (this.#fenced || this.#epoch === 0) return
    const { host } = this.#options
    for (const { name, id, deleted } of map.volumes) if (deleted === true) this.#forget(name, id)
    for (const volume of map.volumes) this.#followOpen(volume)
    for (const volume of map.volumes) {
      const { owner } = volume
      const mine = owner !== null && owner.host === host && owner.hostEpoch === this.#epoch
      const current = this.#owned.get(volume.name)
      if (current !== undefined && (!mine || current.service.ownerEpoch !== owner.epoch)) {
        this.#disown(volume.name, true)
      }
      if (mine && !this.#owned.has(volume.name)) this.#own(volume, owner.epoch)
      else if (mine) this.#owned.get(volume.name)?.service.follow(volume)
    }
    for (const name of [...this.#owned.keys()]) {
      if (!map.volumes.some(volume => volume.name === name)) this.#disown(name, true)
    }
  }

  #followOpen(volume: ClusterMapVolume): void {
    const open = this.#open.get(volume.name)
    if (open === undefined) return
    if (open.forced === (volume.forced ?? 0)) {
      open.follow(volume)
      return
    }
    open.drop('an operator has made the volume go on with a leg that was behind')
    this.#open.delete(volume.name)
    this.#options.onLegs()
  }

  /** What is in flight there fails: nothing on it is of use to anybody. */
  #forget(name: string, id: string): void {
    this.#deleted.add(id)
    this.#open.get(name)?.drop('the volume is deleted')
    this.#open.delete(name)
    this.#disown(name, false)
  }

  #own(volume: ClusterMapVolume, ownerEpoch: number): void {
    const { system, host, cluster } = this.#options
    const service = new OwnerService({
      access: this.#access(),
      system,
      cluster,
      volume,
      storages: () => this.#map?.storages ?? [],
      hostEpoch: this.#epoch,
      ownerEpoch,
      orders: this.#orders,
      onLegLost: (leg, generation, why) => this.#options.onLegLost({ volume: volume.name, leg, generation, why }),
      onChange: () => this.#options.onChange(),
    })
    const address = `${host}/owner/${volume.name}`
    this.#owned.set(volume.name, { service, address })
    system.spawn(address, service, { mailbox: 4096 })
  }

  #disown(name: string, inOrder: boolean): void {
    const owned = this.#owned.get(name)
    if (owned === undefined) return
    this.#owned.delete(name)
    this.#options.system.stopActor(owned.address)
    const { service } = owned
    const ending = service.end(inOrder)
    this.#ending.set(service, ending)
    if (service.legs.some(({ storage }) => this.#isExternal(storage))) this.#leaving.set(name, service)
    const ended = (): void => {
      this.#ending.delete(service)
      if (this.#leaving.get(name) !== service) return
      this.#leaving.delete(name)
      this.#options.onChange()
    }
    ending.then(ended, (error: unknown) => {
      ended()
      this.#options.env.log.error({ volume: name }, `its ownership did not end in order: ${errorMessage(error)}`)
    })
  }

  owned(): OwnedVolumeState[] {
    const leaving = [...this.#leaving].filter(([volume]) => !this.#owned.has(volume))
    const services = [...this.#owned].map(([volume, { service }]) => [volume, service] as const)
    return [...leaving, ...services].map(([volume, service]) => ({ volume, ...service.report() }))
  }

  /** What was copied from here to legs that are catching up. */
  resyncs(): NonNullable<Beat['resyncs']> {
    return [...this.#open].flatMap(([volume, { resync }]) => (resync === null ? [] : [{ volume, ...resync }]))
  }

  /** The LUNs of a storage that are open here, and in which generation. */
  lunsOn(storage: string): { lun: string; generation: number }[] {
    return [...this.#open.values()].flatMap(volume => volume.lunsOn(storage))
  }

  /** A storage has another generation of these than we have: a newer one, unless it has not been raised yet. */
  heardOf(behind: readonly LunBehind[]): void {
    for (const { lun, generation, legs } of behind) {
      for (const volume of this.#open.values()) volume.heardOf(lun, { number: generation, legs })
    }
  }

  // --- disks -------------------------------------------------------------------------------------------------------------------

  async attach(order: VmOrder): Promise<DiskSet> {
    const places = await this.#places(order)
    return VmDisks.attach(this.#options.env, order, places, () => this.#storagesOf(order))
  }

  async reserve(order: VmOrder): Promise<DiskSet> {
    const places = await this.#places(order)
    return VmDisks.reserve(this.#options.env, order, places, () => this.#storagesOf(order))
  }

  /** By its id, as it is open here now. */
  disk(volume: string, disk: string): CsvDisk | null {
    return this.#open.get(volume)?.volume?.disks.get(disk) ?? null
  }

  /** Also one that is only being opened; null: nothing of it is written from here, but as its owner. */
  openVolume(name: string): OpenVolume | null {
    return this.#open.get(name) ?? null
  }

  /** Null: one of them knows no epochs, and gives no lease. */
  #storagesOf(order: VmOrder): string[] | null {
    const names = new Set<string>()
    for (const { volume } of order.disks)
      for (const storage of this.#open.get(volume)?.storages ?? []) names.add(storage)
    return [...names].some(name => this.#isExternal(name)) ? null : [...names].sort()
  }

  #isExternal(storage: string): boolean {
    return this.#map?.storages.find(({ name }) => name === storage)?.external !== undefined
  }

  async #places(order: VmOrder): Promise<VmDisk[]> {
    const places: VmDisk[] = []
    for (const { volume, disk } of order.disks) {
      const opened = await this.#volume(volume).opened
      places.push({ volume: opened, disk, owner: this.#ownerCall(volume, opened.view.volumeId) })
    }
    return places
  }

  #volume(name: string): OpenVolume {
    const known = this.#open.get(name)
    if (known !== undefined) return known
    const volume = this.#map?.volumes.find(v => v.name === name)
    if (volume === undefined || volume.deleted === true || this.#fenced || this.#epoch === 0) {
      throw new StellwerkError('unknown-volume', `volume "${name}" is not known to this host`, { retryable: true })
    }
    const epoch = this.#epoch
    const open: OpenVolume = new OpenVolume({
      access: this.#access(),
      volume,
      storages: () => this.#map?.storages ?? [],
      hostEpoch: epoch,
      owner: this.#ownerCall(name, volume.id),
      // What else a leg is refused for passes, or is the mirror's to report. The volume stays the one that is open: a second
      // one would write the same slot, and take away the marks of the first.
      onRefused: (code, message) => {
        if (code === 'epoch-refused') this.#options.onRefused(epoch, message)
      },
      onLegLost: (leg, generation, why) => this.#options.onLegLost({ volume: name, leg, generation, why }),
      onLegs: () => this.#options.onLegs(),
    })
    this.#open.set(name, open)
    open.opened.catch(() => {
      if (this.#open.get(name) === open) this.#open.delete(name)
    })
    return open
  }

  /** Whoever owns it when asked: looked up anew each time. */
  #ownerCall(name: string, id: string): OwnerCall {
    const { system, host, settings } = this.#options
    return (async (kind: string, body: unknown) => {
      const known = this.#map?.volumes.find(volume => volume.name === name)
      if (this.#deleted.has(id)) throw new StellwerkError('volume-dropped', `volume "${name}" was deleted`)
      const owner = known?.id === id ? known.owner : null
      if (!owner) throw new StellwerkError('owner-away', `volume "${name}" has no owner`, { retryable: true })
      try {
        return await system.ask(`${host}/volumes`, `${owner.host}/owner/${name}`, kind, body, settings().requestMs)
      } catch (error) {
        if (errorCode(error) !== 'no-such-actor') throw error
        // The map is behind, here or there: it moves, and whoever asks again finds it.
        throw new StellwerkError('owner-away', `volume "${name}" is not owned by ${owner.host} at this moment`, {
          retryable: true,
          cause: error,
        })
      }
    }) as OwnerCall
  }

  #access(): LunAccess {
    const { env, host, hbas, links, sessions, settings, redirects, luns } = this.#options
    return { env, host, hbas, links, sessions, settings: settings(), redirects, luns }
  }
}
