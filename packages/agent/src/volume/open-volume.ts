// One volume as this host has it open at its present epoch: the LUN over the host's HBAs, and what csv makes of it.

import type { MultipathDevice } from '@stellwerk/block/path/multipath.ts'
import { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import type { OwnerCall } from '@stellwerk/csv/owner/request.ts'
import type { ClusterMapStorage, ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type LunAccess, openLun } from '../hba/lun.ts'

export interface OpenVolumeOptions {
  readonly access: LunAccess
  readonly volume: ClusterMapVolume
  readonly storages: readonly ClusterMapStorage[]
  readonly hostEpoch: number
  readonly owner: OwnerCall
  /** Storage refuses us: fenced, superseded, or of another generation. */
  readonly onRefused: (code: string, message: string) => void
}

/** Between two attempts to open while paths or the owner are away. */
const RETRY_MS = 200

export class OpenVolume {
  readonly name: string
  readonly storages: readonly string[]
  /** Resolves when it is open; rejects only when it was dropped, or what is there can't be this volume. */
  readonly opened: Promise<HostVolume>
  readonly #options: OpenVolumeOptions
  readonly #abort = new AbortController()
  #device: MultipathDevice | null = null
  #dropped = false
  #volume: HostVolume | null = null

  constructor(options: OpenVolumeOptions) {
    this.#options = options
    this.name = options.volume.name
    this.storages = options.volume.legs.map(leg => leg.storage)
    this.opened = this.#open()
    // Nobody may be waiting when it is dropped.
    this.opened.catch(() => undefined)
  }

  /** Once it is open. */
  get volume(): HostVolume | null {
    return this.#dropped ? null : this.#volume
  }

  get device(): MultipathDevice | null {
    return this.#device
  }

  /** Ends it at once: all that is in flight fails. */
  drop(why: string): void {
    if (this.#dropped) return
    this.#dropped = true
    this.#abort.abort()
    this.#device?.abort(why)
  }

  /** Its disks are closed: clears the slot, then lets go of the paths. */
  async close(): Promise<void> {
    if (!this.#dropped) {
      const volume = await this.opened
      await volume.close()
    }
    this.drop('closed')
  }

  async #open(): Promise<HostVolume> {
    const { access, volume, owner, hostEpoch } = this.#options
    const device = await this.#openDevice()
    this.#device = device
    for (;;) {
      if (this.#gone()) throw this.#droppedError()
      try {
        this.#volume = await HostVolume.open({
          volume: volume.name,
          host: access.host,
          hostEpoch,
          device,
          owner,
          env: access.env,
        })
        return this.#volume
      } catch (error) {
        if (this.#gone()) throw this.#droppedError()
        if (!(error instanceof StellwerkError) || !error.retryable) throw error
      }
      await new Promise<void>(resolve => access.env.timers.after(RETRY_MS, resolve))
    }
  }

  /** One leg for now: with two, the mirror stands here. */
  async #openDevice(): Promise<MultipathDevice> {
    const { access, volume, storages, hostEpoch, onRefused } = this.#options
    const leg = volume.legs[0]
    const storage = storages.find(s => s.name === leg?.storage)
    if (leg === undefined || storage === undefined) {
      throw new StellwerkError('unknown-storage', `volume "${volume.name}" has no leg on a known storage`)
    }
    const device = await openLun(access, {
      storage,
      lun: leg.lun,
      epoch: hostEpoch,
      generation: volume.generation,
      owner: null,
      signal: this.#abort.signal,
      onRefused: refusal => onRefused(refusal.code, refusal.message),
    })
    if (this.#gone()) device.abort('dropped while it was opened')
    return device
  }

  /** Read anew: it changes while something is awaited. */
  #gone(): boolean {
    return this.#dropped
  }

  #droppedError(): StellwerkError {
    return new StellwerkError('volume-dropped', `volume "${this.name}" was dropped while it was opened`)
  }
}
