// A volume's owner on this host, as an actor: opens every leg that the generation writes to as owner (storage drains the
// predecessor), lays the volume out if it is new, replays, then answers. With each generation it begins anew. It ends when
// another epoch comes, or when it is deposed.

import type { MultipathDevice } from '@stellwerk/block/path/multipath.ts'
import { isVolumeDamage } from '@stellwerk/csv/check/finding.ts'
import { checkVolume } from '@stellwerk/csv/check.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import type { MetadataRanges } from '@stellwerk/csv/format/layout.ts'
import { refuse } from '@stellwerk/csv/owner/refusal.ts'
import type { VolumeBody, VolumeKind } from '@stellwerk/csv/owner/request.ts'
import { VolumeOwner } from '@stellwerk/csv/owner/volume-owner.ts'
import { lunId } from '@stellwerk/protocol/lun-id.ts'
import type { Beat, ClusterMapStorage, ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'
import type { ScrubProgress, ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { Timer } from '@stellwerk/runtime/environment.ts'
import { describeError, errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type LunAccess, openLun } from '../hba/lun.ts'
import { orderStorage } from '../hba/order-storage.ts'
import { diskHosts, scrubHosts } from './disk-hosts.ts'
import { ofMap } from './leg-book.ts'
import type { OrderMarks } from './order-marks.ts'
import { checkAnswer, OwedChecks } from './owed-checks.ts'
import { WatchedLeg } from './watched-leg.ts'

export interface OwnerOptions {
  readonly access: LunAccess
  readonly system: ActorSystem
  readonly cluster: string
  readonly volume: ClusterMapVolume
  readonly storages: () => readonly ClusterMapStorage[]
  readonly hostEpoch: number
  readonly ownerEpoch: number
  readonly orders: OrderMarks
  readonly onLegLost: (leg: string, generation: number, why: string) => void
  readonly onChange: () => void
}

/** An owner that could not open its volume tries again after this. */
const RETRY_MS = 300
/** Where the volume itself is the reason: an operator must mend it, and each attempt reads all of its metadata. */
const DAMAGED_RETRY_MS = 5_000
const LAYOUT_MS = 2_000
/** As a storage begins its answer to whoever opens a LUN whose files it cannot trust. */
const LUN_FAILED = 'lun-failed '
const MAX_WHY = 1_000
/** Legs are looked at so often. */
const WATCH_MS = 250

type MapLeg = ClusterMapVolume['legs'][number]

interface OpenLeg {
  readonly leg: MapLeg
  device: MultipathDevice | null
  watched: WatchedLeg | null
  /** Since when it has been being opened. */
  readonly since: number
  why: string
  /** Its storage cannot serve the LUN: what it said last. */
  broken: string | null
}

export class OwnerService implements Behavior {
  readonly ownerEpoch: number
  readonly #options: OwnerOptions
  #volume: ClusterMapVolume
  /** Ends the opening, or the serving, of one generation. */
  #attempt = new AbortController()
  #legs: OpenLeg[] = []
  #owner: VolumeOwner | null = null
  #state: 'opening' | 'serving' | 'failed' | 'ended' = 'opening'
  #why: string | null = null
  #damaged = false
  #hasServed = false
  /** Asked for while it is damaged. */
  readonly #checks: OwedChecks
  /** Ends the pause between two attempts, if there is one. */
  #hurry: () => void = () => undefined
  /** Of an earlier generation. */
  #lastScrub: ScrubReport | null = null
  #work: Promise<void> = Promise.resolve()
  #watch: Timer | null = null
  #ending: Promise<void> | null = null

  constructor(options: OwnerOptions) {
    this.#options = options
    this.#volume = options.volume
    this.#checks = new OwedChecks(options.system, options.volume.name)
    this.ownerEpoch = options.ownerEpoch
  }

  get legs(): readonly MapLeg[] {
    return this.#volume.legs
  }

  get state(): string {
    return this.#state === 'opening' && (this.#damaged || this.#broken !== null) ? 'damaged' : this.#state
  }

  /** Why it does not serve, as far as it is known. */
  get why(): string | null {
    if (this.#state === 'serving') return null
    return this.#state === 'opening' && this.#broken !== null ? this.#broken : this.#why
  }

  /** Of no in-sync leg can the LUN be served by its storage: another host would not get the volume open either. */
  get #broken(): string | null {
    const inSync = this.#legs.filter(({ leg }) => leg.role === 'in-sync')
    const whys = inSync.flatMap(({ leg, broken }) => (broken === null ? [] : [`${leg.storage}: ${broken}`]))
    return whys.length > 0 && whys.length === inSync.length ? whys.join('; ') : null
  }

  report(): Omit<Beat['volumes'][number], 'volume'> {
    const { ownerEpoch, state } = this
    const why = this.why === null ? {} : { why: this.why }
    const scrub = progressOf(this.#scrub())
    return { ownerEpoch, state, ...why, generation: this.#volume.generation, sync: this.#owner?.sync ?? null, scrub }
  }

  started(): void {
    this.#begin()
    this.#armWatch()
  }

  receive(message: Message, context: ActorContext): void {
    if (message.re !== undefined) return
    const { system, volume } = this.#options
    const owner = this.#owner
    if (owner === null || this.#state !== 'serving') {
      // Its damage is what the check is for.
      if (message.kind === 'volume.check' && this.state === 'damaged' && this.#broken === null) {
        this.#checks.add(message)
        this.#hurry()
        return
      }
      const why = `volume "${volume.name}" is ${this.state} here${this.#why === null ? '' : `: ${this.#why}`}`
      const hint = this.state === 'damaged' ? `see: stellwerk why volume ${volume.name}` : 'try again'
      context.fail(message, new StellwerkError('owner-away', why, { retryable: true, hint }))
      return
    }
    if (message.kind === 'volume.check') {
      owner.check().then(
        report => system.reply(message, checkAnswer(report)),
        (error: unknown) => system.fail(message, error),
      )
      return
    }
    if (message.kind.startsWith('volume.scrub')) {
      this.#aboutScrubs(message, owner)
      return
    }
    this.#obey(message, owner).then(
      reply => system.reply(message, reply),
      (error: unknown) => system.fail(message, error),
    )
  }

  async #obey({ kind, body }: Message, owner: VolumeOwner): Promise<unknown> {
    this.#options.orders.check(this.#volume.name, (body as { readonly order?: number }).order)
    return owner.handle(kind as VolumeKind, body as VolumeBody<VolumeKind>)
  }

  #aboutScrubs(message: Message, owner: VolumeOwner): void {
    const { system, volume } = this.#options
    try {
      if (message.kind === 'volume.scrub') {
        const { goodLeg } = message.body as { readonly goodLeg: string | null }
        system.reply(message, { scrub: owner.scrubs.begin(goodLeg) })
        return
      }
      if (message.kind === 'volume.scrub-cancel') {
        system.reply(message, { scrub: owner.scrubs.cancel() })
        return
      }
      const report = this.#scrub()
      if (report === null) throw refuse('no-scrub', `no scrub of volume "${volume.name}" is known to its owner`)
      system.reply(message, report)
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      system.fail(message, error)
    }
  }

  #scrub(): ScrubReport | null {
    return this.#owner?.scrubs.report ?? this.#lastScrub
  }

  /** Another generation: whatever is in memory here was true in the old one. */
  follow(volume: ClusterMapVolume): void {
    if (this.#state === 'ended' || this.#state === 'failed') return
    if (volume.generation === this.#volume.generation) return
    this.#volume = volume
    this.#again(`generation ${volume.generation} has begun`)
  }

  /** Resolves when nothing is written any more. One that ends in order may be told to end at once after all. */
  end(inOrder: boolean): Promise<void> {
    this.#ending ??= this.#end()
    if (!inOrder) this.#cut('the host is fenced')
    return this.#ending
  }

  async #end(): Promise<void> {
    this.#state = 'ended'
    this.#checks.fail(`volume "${this.#volume.name}" is owned elsewhere`)
    this.#watch?.cancel()
    this.#attempt.abort()
    await this.#work
    await this.#owner?.close()
    this.#cut('the volume is owned elsewhere')
  }

  #begin(): void {
    this.#attempt = new AbortController()
    const { signal } = this.#attempt
    this.#work = this.#work.then(() => this.#open(signal))
  }

  /** Ends what there is, and opens it anew. */
  #again(why: string): void {
    if (this.#state === 'ended' || this.#state === 'failed') return
    this.#state = 'opening'
    this.#attempt.abort()
    const owner = this.#owner
    owner?.scrubs.stop()
    this.#lastScrub = this.#scrub()
    this.#owner = null
    this.#cut(why)
    this.#work = this.#work.then(() => owner?.close())
    this.#options.onChange()
    this.#begin()
  }

  #cut(why: string): void {
    for (const { device } of this.#legs.splice(0)) device?.abort(why)
  }

  async #open(signal: AbortSignal): Promise<void> {
    const { access } = this.#options
    while (!signal.aborted && this.#state === 'opening') {
      try {
        await this.#tryOpen(signal)
        return
      } catch (error) {
        if (signal.aborted) return
        access.env.log.warn(
          { volume: this.#volume.name, code: errorCode(error) },
          `not opened as owner: ${errorMessage(error)}`,
        )
        this.#blame()
        this.#cut('opening failed')
        if (errorCode(error) === 'stale-owner') this.#state = 'failed'
        this.#explain(describeError(error), isVolumeDamage(error))
        this.#checks.missed(error)
        if (this.#state === 'failed') return this.#checks.fail(errorMessage(error))
        if (!this.#checks.pending) await this.#pause(this.#damaged ? DAMAGED_RETRY_MS : RETRY_MS, signal)
      }
    }
  }

  /** Ends early when the attempt does, or when somebody waits for the next one. */
  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const over = (): void => {
        timer.cancel()
        signal.removeEventListener('abort', over)
        this.#hurry = () => undefined
        resolve()
      }
      const timer = this.#options.access.env.timers.after(ms, over)
      this.#hurry = over
      if (signal.aborted) over()
      else signal.addEventListener('abort', over)
    })
  }

  #explain(why: string, damaged: boolean): void {
    const told = why.slice(0, MAX_WHY)
    if (told === this.#why && damaged === this.#damaged) return
    this.#why = told
    this.#damaged = damaged
    this.#options.onChange()
  }

  async #tryOpen(signal: AbortSignal): Promise<void> {
    const { access, system, cluster, ownerEpoch } = this.#options
    const volume = this.#volume
    const now = access.env.clock.now()
    this.#legs = volume.legs
      .filter(leg => leg.role !== 'stale')
      .map(leg => ({ leg, device: null, watched: null, since: now, why: 'it is being opened', broken: null }))
    const opening = [...this.#legs]
    this.#checks.begin()
    await this.#openLegs(opening, volume, signal)
    if (signal.aborted) return
    const legs = opening.map(({ leg, watched }) => ({ id: leg.leg, device: present(watched, 'an open leg') }))
    // The predecessor has been drained: this is the last that the storages will have been told by one.
    const leastOwnerEpoch = await this.#leastEpoch(volume)
    const inSync = legs.filter((_, i) => opening[i]?.leg.role === 'in-sync')
    await this.#checks.make(() => checkVolume(inSync, { volumeId: volume.id }, leastOwnerEpoch))
    if (signal.aborted) return
    if (volume.format && leastOwnerEpoch === 0) await this.#formatOnce(legs, cluster)
    const toHosts = { ...access, system, volume: volume.name, requestMs: access.settings.requestMs }
    const owner = await VolumeOwner.open({
      legs,
      generation: ofMap(volume),
      // Once: what is marked after it has served counts, although its map may not know that yet.
      emptySlots: volume.emptySlots === true && !this.#hasServed,
      ...{ volume: volume.name, expected: { volumeId: volume.id }, ownerEpoch, leastOwnerEpoch },
      resyncBytesPerSecond: () => access.settings.resyncBytesPerSecond,
      env: access.env,
      hosts: diskHosts(toHosts),
      scrubHosts: scrubHosts(toHosts),
      onRanges: ranges => this.#register(volume, ranges),
      onLegDamaged: (leg, why) => this.#options.onLegLost(leg, volume.generation, why),
      onEnd: error => this.#lost(error.message, signal),
    })
    // It may have ended, or been deposed, while it opened.
    if (signal.aborted || this.#state !== 'opening') {
      await owner.close()
      return
    }
    this.#owner = owner
    this.#state = 'serving'
    this.#hasServed = true
    this.#checks.make(() => owner.check()).catch((error: unknown) => this.#checks.fail(errorMessage(error)))
    this.#options.onChange()
    access.env.trace.emit({
      level: 'decision',
      kind: 'volume.owned',
      host: access.host,
      volume: volume.name,
      body: { ownerEpoch, generation: volume.generation },
    })
  }

  /** What the journal must know of, by the legs that it is read from: one that is catching up is told layouts before it has it. */
  async #leastEpoch(volume: ClusterMapVolume): Promise<number> {
    const { access } = this.#options
    let least = 0
    for (const leg of volume.legs) {
      if (leg.role !== 'in-sync' || this.#isExternal(leg)) continue
      const body = { lun: leg.lun, lunId: lunId(volume, leg) }
      const reply = await orderStorage(access, leg, 'storage.opened', body, LAYOUT_MS)
      least = Math.max(least, (reply as { readonly opened: number }).opened)
    }
    return least
  }

  /** Its storage takes no orders: it keeps no layout, and cannot say which owner was there last. */
  #isExternal({ storage }: MapLeg): boolean {
    return this.#options.storages().find(({ name }) => name === storage)?.external !== undefined
  }

  /** All, or none: a leg that came late would be one more session of this owner, and shut the next attempt's out. */
  async #openLegs(opening: readonly OpenLeg[], volume: ClusterMapVolume, signal: AbortSignal): Promise<void> {
    const attempt = new AbortController()
    const giveUp = (): void => attempt.abort()
    signal.addEventListener('abort', giveUp)
    try {
      await Promise.all(opening.map(open => this.#openLeg(open, volume, signal, attempt.signal)))
    } catch (error) {
      giveUp()
      throw error
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
  }

  async #openLeg(open: OpenLeg, volume: ClusterMapVolume, signal: AbortSignal, wanted: AbortSignal): Promise<void> {
    const { access, storages, hostEpoch, ownerEpoch } = this.#options
    const { leg } = open
    const storage = storages().find(s => s.name === leg.storage)
    if (storage === undefined) {
      throw new StellwerkError('unknown-storage', `${leg.storage} of volume "${volume.name}" is not known here yet`)
    }
    const device = await openLun(access, {
      storage,
      lun: leg.lun,
      epoch: hostEpoch,
      generation: volume.generation,
      sizeBytes: volume.sizeBytes,
      owner: ownerEpoch,
      signal: wanted,
      onPath: ({ state, why }) => this.#heardOfPath(open, state === 'up', why),
      onRefused: refusal => {
        open.why = `${refusal.code}: ${refusal.message}`
        // Its end waits for what is under way on every leg, and one may never answer: where another has refused us, it is over.
        if (this.#state === 'ended') this.#cut(open.why)
        // A generation that its storage has not been raised to, or that is over: the map says what to do.
        else if (refusal.code === 'generation-refused') this.#refusedGeneration(signal, open.why)
        else this.#deposed(open.why)
      },
    })
    if (wanted.aborted) {
      device.abort('opened too late')
      return
    }
    open.device = device
    open.watched = new WatchedLeg(device, access.env.clock)
  }

  #heardOfPath(open: OpenLeg, isUp: boolean, why: string): void {
    const before = open.broken
    if (isUp) open.broken = null
    else if (why.includes(LUN_FAILED)) open.broken = why.slice(0, MAX_WHY)
    if (open.broken === before) return
    if (open.broken !== null) open.why = open.broken
    if (this.#broken !== null) this.#checks.fail(this.#broken)
    this.#options.onChange()
  }

  async #formatOnce(legs: { id: string; device: WatchedLeg }[], cluster: string): Promise<void> {
    const volume = this.#volume
    try {
      await formatVolume({ legs, volumeId: volume.id, clusterId: cluster })
    } catch (error) {
      // A predecessor got as far as the superblocks: if they are this volume's, opening it says the rest.
      if (errorCode(error) !== 'volume-exists') throw error
    }
  }

  /** Only owner connections may write the metadata, and a slot only its host's. */
  async #register(volume: ClusterMapVolume, ranges: MetadataRanges): Promise<void> {
    const { access, ownerEpoch, hostEpoch } = this.#options
    for (const leg of volume.legs) {
      if (leg.role === 'stale' || this.#isExternal(leg)) continue
      const owner = { ownerEpoch, host: access.host, epoch: hostEpoch }
      const body = { lun: leg.lun, lunId: lunId(volume, leg), ...owner, ...ranges }
      await orderStorage(access, leg, 'storage.layout', body, LAYOUT_MS)
    }
  }

  // --- legs ------------------------------------------------------------------------------------------------------------------

  #armWatch(): void {
    const { timers } = this.#options.access.env
    this.#watch = timers.after(WATCH_MS, () => {
      if (this.#state === 'ended') return
      this.#armWatch()
      this.#lookAtLegs()
    })
  }

  /** Reports a leg that keeps the owner waiting while another in-sync one serves it: one that has answered since. */
  #lookAtLegs(): void {
    const { access, onLegLost } = this.#options
    const { legDeadlineMs } = access.settings
    const now = access.env.clock.now()
    for (const open of this.#legs) {
      const since = open.watched?.troubledSince ?? open.since
      if (open.watched?.failure == null && now - since < legDeadlineMs) continue
      const others = this.#legs.filter(each => each !== open && each.leg.role === 'in-sync' && each.watched !== null)
      if (!others.some(({ watched }) => watched?.hasServedSince(since))) continue
      const why = open.watched?.failure ?? (open.watched === null ? open.why : 'a request of the owner is not answered')
      onLegLost(open.leg.leg, this.#volume.generation, why)
    }
  }

  /** What failed may have been one leg's failure: said at once. */
  #blame(): void {
    if (this.#legs.length > 1) this.#lookAtLegs()
  }

  #refusedGeneration(signal: AbortSignal, why: string): void {
    if (signal.aborted || this.#state !== 'serving') return
    this.#again(why)
  }

  #deposed(why: string): void {
    if (this.#state === 'ended' || this.#state === 'failed') return
    const { access, volume } = this.#options
    access.env.log.warn({ volume: volume.name }, `no longer its owner: ${why}`)
    this.#state = 'failed'
    this.#why = why.slice(0, MAX_WHY)
    this.#checks.fail(this.#why)
    this.#options.onChange()
  }

  /** The owner ended by itself. Of several legs one is to blame: without it, or with it again, it goes on. */
  #lost(why: string, signal: AbortSignal): void {
    if (signal.aborted) return
    if (this.#legs.length < 2) {
      this.#deposed(why)
      return
    }
    this.#blame()
    this.#again(why)
  }
}

function progressOf(report: ScrubReport | null): ScrubProgress | null {
  if (report === null) return null
  const { scrub, state, doneBytes, totalBytes, repaired, unresolved, skipped } = report
  return { scrub, state, doneBytes, totalBytes, repaired, unresolved, skipped }
}
