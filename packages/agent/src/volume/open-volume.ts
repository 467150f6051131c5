// One volume as this host has it open at its present epoch: the mirror of its legs, each a LUN over the host's HBAs, and
// what csv makes of it.

import type { Generation } from '@stellwerk/block/mirror/generation.ts'
import { isWritable } from '@stellwerk/block/mirror/generation.ts'
import { type LegDevice, type MirrorDevice, openMirror } from '@stellwerk/block/mirror/mirror.ts'
import { HostVolume } from '@stellwerk/csv/disk/host-volume.ts'
import type { ResyncProgress } from '@stellwerk/csv/mirror/host-resync.ts'
import type { OwnerCall } from '@stellwerk/csv/owner/request.ts'
import type { ClusterMapStorage, ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type LunAccess, openLun } from '../hba/lun.ts'
import { LegBook } from './leg-book.ts'

export interface OpenVolumeOptions {
  readonly access: LunAccess
  readonly volume: ClusterMapVolume
  readonly storages: () => readonly ClusterMapStorage[]
  readonly hostEpoch: number
  readonly owner: OwnerCall
  /** Storage refuses us: fenced or superseded. */
  readonly onRefused: (code: string, message: string) => void
  /** Told again and again until there is a generation without the leg. */
  readonly onLegLost: (leg: string, generation: number, why: string) => void
  /** Which storages count for it has changed. */
  readonly onLegs: () => void
}

/** Between two attempts to open while paths or the owner are away. */
const RETRY_MS = 200
/** Guests count as at work for so long after a request. */
const BUSY_MS = 100
const COPY_IO = { origin: 'resync', deadlineAt: null }
const SCRUB_IO = { origin: 'scrub', deadlineAt: null }

export class OpenVolume {
  readonly name: string
  /** Resolves when it is open; rejects only when it was dropped, or what is there can't be this volume. */
  readonly opened: Promise<HostVolume>
  readonly #options: OpenVolumeOptions
  readonly #abort = new AbortController()
  readonly #book: LegBook
  #mirror: MirrorDevice | null = null
  #volume: HostVolume | null = null
  #dropped = false

  constructor(options: OpenVolumeOptions) {
    this.#options = options
    this.name = options.volume.name
    this.#book = new LegBook(options.volume)
    this.opened = this.#open()
    // Nobody may be waiting when it is dropped; and what could not be opened leaves no paths behind, whose sessions would
    // shut out those of the next attempt.
    this.opened.catch((error: unknown) => this.drop(errorMessage(error)))
  }

  /** Once it is open. */
  get volume(): HostVolume | null {
    return this.#dropped ? null : this.#volume
  }

  /** Those that must answer probes for its VMs to run on without the coordinator: of every leg that is written to. */
  get storages(): string[] {
    const generation = this.#mirror?.generation ?? this.#book.generationOfMap()
    const names = new Set<string>()
    for (const [leg, role] of Object.entries(generation.legs)) {
      const storage = this.#book.find(leg)?.storage
      if (isWritable(role) && storage !== undefined) names.add(storage)
    }
    return [...names].sort()
  }

  /** The LUNs on this storage, and the generation in which each is open here. */
  lunsOn(storage: string): { lun: string; generation: number }[] {
    const mirror = this.#mirror
    if (mirror === null) return []
    const { number, legs } = mirror.generation
    return this.#book.volume.legs
      .filter(leg => leg.storage === storage && isWritable(legs[leg.leg]))
      .map(({ lun }) => ({ lun, generation: number }))
  }

  /** What was copied from here to a leg that is catching up; null: none is. */
  get resync(): ResyncProgress | null {
    return this.#volume?.resync.progress ?? null
  }

  /** Guests have been at work in the last moments. */
  get busy(): boolean {
    const last = this.#mirror?.lastRequestAt ?? Number.NEGATIVE_INFINITY
    return this.#options.access.env.clock.now() - last < BUSY_MS
  }

  /** What `forced` of the map was when it was opened. */
  get forced(): number {
    return this.#options.volume.forced ?? 0
  }

  heardOf(lun: string, generation: Generation): void {
    if (this.#book.volume.legs.some(leg => leg.lun === lun)) this.#mirror?.follow(generation)
  }

  follow(volume: ClusterMapVolume): void {
    this.#book.follow(volume)
    const mirror = this.#mirror
    if (mirror === null) return
    mirror.follow(this.#book.generationOfMap())
    // What the map knows of the generation that is served in already.
    if (mirror.generation.number === volume.generation) this.#volume?.follow(this.#book.saw(mirror.generation))
  }

  /** Ends it at once: all that is in flight fails. */
  drop(why: string): void {
    if (this.#dropped) return
    this.#dropped = true
    this.#abort.abort()
    this.#volume?.drop(why)
    this.#mirror?.abort(why)
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
    const { access, owner, hostEpoch } = this.#options
    const mirror = await this.#openMirror()
    this.#mirror = mirror
    mirror.follow(this.#book.generationOfMap())
    for (;;) {
      if (this.#gone()) throw this.#droppedError()
      try {
        const volume = await HostVolume.open({
          volume: this.name,
          host: access.host,
          hostEpoch,
          device: mirror,
          mirror: {
            copy: (offset, length, mayWrite) => this.#copy(mirror, offset, length, mayWrite),
            scrub: (offset, length, options) => mirror.scrub(offset, length, options, SCRUB_IO),
          },
          generation: () => this.#book.saw(mirror.generation),
          pace: {
            bytesPerSecond: () => access.settings.resyncBytesPerSecond,
            busy: () => this.busy,
          },
          owner,
          env: access.env,
        })
        this.#volume = volume
        // It may have come to another generation in the last moment.
        if (volume.generation.number !== mirror.generation.number) volume.follow(this.#book.saw(mirror.generation))
        return volume
      } catch (error) {
        if (this.#gone()) throw this.#droppedError()
        if (!(error instanceof StellwerkError) || !error.retryable) throw error
      }
      await new Promise<void>(resolve => access.env.timers.after(RETRY_MS, resolve))
    }
  }

  #copy(mirror: MirrorDevice, offset: number, length: number, mayWrite: () => boolean): Promise<readonly number[]> {
    this.#record(offset, length)
    return mirror.copy(offset, length, COPY_IO, mayWrite)
  }

  #record(offset: number, length: number): void {
    const { trace } = this.#options.access.env
    const { host } = this.#options.access
    if (!trace.on('io')) return
    trace.emit({ level: 'io', kind: 'mirror.copy', volume: this.name, host, body: { offset, length } })
  }

  async #openMirror(): Promise<MirrorDevice> {
    const { access, onLegLost } = this.#options
    const { clock, timers } = access.env
    const { legDeadlineMs } = access.settings
    const mirror = await openMirror({
      generation: this.#book.generationOfMap(),
      open: (leg, generation, signal) => this.#openLeg(leg, generation, signal),
      report: onLegLost,
      onGeneration: generation => this.#switched(generation),
      onRewrite: (offset, length) => this.#record(offset, length),
      clock,
      timers,
      config: { legDeadlineMs },
      signal: this.#abort.signal,
    })
    if (this.#gone()) mirror.abort('dropped while it was opened')
    return mirror
  }

  async #openLeg(id: string, generation: number, signal: AbortSignal): Promise<LegDevice> {
    const { access, storages, hostEpoch, onRefused } = this.#options
    const leg = this.#book.find(id)
    const storage = storages().find(each => each.name === leg?.storage)
    if (leg === null || storage === undefined) {
      throw new StellwerkError('unknown-storage', `${id} of volume "${this.name}" is on no storage known here yet`, {
        retryable: true,
      })
    }
    return openLun(access, {
      storage,
      lun: leg.lun,
      epoch: hostEpoch,
      generation,
      sizeBytes: this.#book.volume.sizeBytes,
      owner: null,
      signal,
      // A generation that is over is the mirror's to follow.
      onRefused: refusal => {
        if (refusal.code !== 'generation-refused') onRefused(refusal.code, refusal.message)
      },
    })
  }

  /** Before anything that was held in the old generation is acknowledged. */
  #switched(generation: Generation): void {
    const { access, onLegs } = this.#options
    access.env.trace.emit({
      level: 'decision',
      kind: 'mirror.generation',
      host: access.host,
      volume: this.name,
      body: { generation: generation.number, legs: { ...generation.legs } },
    })
    this.#volume?.follow(this.#book.saw(generation))
    onLegs()
  }

  /** Read anew: it changes while something is awaited. */
  #gone(): boolean {
    return this.#dropped
  }

  #droppedError(): StellwerkError {
    return new StellwerkError('volume-dropped', `volume "${this.name}" was dropped while it was opened`)
  }
}
