// Drives the owner's core: takes requests, decides those that are there at once, writes their entries as one journal
// record, then answers. The order is the contract: persist, then tell. Decisions are made only between two writes, so
// that what is in memory when a checkpoint is written is exactly what the journal says.

import { AssertionFailure, assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { checkStandingStill } from '../check/live-check.ts'
import type { CheckReport } from '../check.ts'
import { findClusterCopy } from '../format/cluster-copy.ts'
import { SPARED_IO } from '../format/device-io.ts'
import { maxRecordBytes, Payload } from '../format/journal.ts'
import {
  BLOCK_BYTES,
  extentAddress,
  type Layout,
  type MetadataRanges,
  ownerSlotAddress,
  regionCount,
  slotAddress,
} from '../format/layout.ts'
import type { Entry, Metadata } from '../format/metadata.ts'
import { missingLegs, type VolumeGeneration } from '../mirror/leg-state.ts'
import { OwnerSync, type SyncProgress, syncProgress } from '../mirror/owner-sync.ts'
import { type StaleLog, staleLogOn } from '../mirror/stale-log.ts'
import { decide } from './decide.ts'
import { changesHolders } from './decide-attachments.ts'
import { volumeFull } from './decide-extents.ts'
import { type EffectContext, readsZero, runEffect } from './effects.ts'
import { type ExtentChange, evidenceOf, extentChanges } from './extent-changes.ts'
import { type HostEffect, isHostEffect, runHostEffect } from './host-effects.ts'
import { JournalWriter } from './journal-writer.ts'
import { isRedundant } from './load.ts'
import { loadVolume } from './load-volume.ts'
import { allInSync, legBehind, ownerLegs, syncState } from './owner-legs.ts'
import type { VolumeOwnerOptions } from './owner-options.ts'
import { refuse } from './refusal.ts'
import type { VolumeBody, VolumeKind, VolumeReply, VolumeRequest } from './request.ts'
import { Scrubs } from './scrubs.ts'
import { emptySlots, type OwnerLeg, settle } from './settle.ts'
import { type Effect, endEffect, forget, type OwnerState, ownerState, startEffect, takeEntries } from './state.ts'
import { StillWork } from './still-work.ts'

/** Requests that are not answered yet; one more is refused with `owner-busy`. */
export const MAX_PENDING = 4096
/** Extents zeroed at the same time. */
export const MAX_ZEROING = 4

interface Pending {
  readonly request: VolumeRequest
  readonly resolve: (reply: VolumeReply<VolumeKind>) => void
  readonly reject: (error: StellwerkError) => void
  /** What it was last decided to wait for. */
  waitsFor?: string
}

/** What one journal write covers. */
interface Round {
  readonly payload: Payload
  /** Begun when the record is durable: until then an extent that it frees is still whose it was. */
  readonly effects: Effect[]
  readonly answers: { readonly pending: Pending; readonly answer: () => void }[]
  readonly changes: ExtentChange[]
  slotsChanged: boolean
  changesHolders: boolean
}

export type { VolumeOwnerOptions } from './owner-options.ts'

export class VolumeOwner {
  readonly #options: VolumeOwnerOptions
  readonly #state: OwnerState
  readonly #writer: JournalWriter
  readonly #context: EffectContext
  /** Not decided yet, and decided to wait for an effect; each in the order in which they came. */
  #queue: Pending[] = []
  #waiting: Pending[] = []
  readonly #effectQueue: Exclude<Effect, HostEffect>[] = []
  #effectsRunning = 0
  /** An effect has ended since those that wait were last looked at; the storage had no room for zeroing or for a copy. */
  #news = false
  #full = false
  #running: Promise<void> | null = null
  #round: Round | null = null
  #ended: StellwerkError | null = null
  #idle: (() => void) | null = null
  readonly #stillWork = new StillWork()
  /** What is on the legs is being read: nothing of the metadata is written. */
  #still = false
  /** Comparing the legs, on demand. */
  readonly scrubs: Scrubs
  readonly #sync: OwnerSync | null
  /** What it grants while a leg misses it, in the owner's own slot. */
  readonly #missed: StaleLog | null

  private constructor(
    options: VolumeOwnerOptions,
    state: OwnerState,
    writer: JournalWriter,
    legs: readonly OwnerLeg[],
    generation: VolumeGeneration,
  ) {
    this.#options = options
    this.#state = state
    this.#writer = writer
    const { layout } = state.metadata
    const behind = legBehind(generation)
    const inSync = legs.filter(leg => leg.role === 'in-sync').length
    this.#context = { legs, inSync, layout, ownerEpoch: options.ownerEpoch, behind }
    const { timers, clock, log } = options.env
    const bytesPerSecond = options.resyncBytesPerSecond ?? (() => Number.POSITIVE_INFINITY)
    this.scrubs = new Scrubs({
      state,
      legs,
      generation,
      options,
      bytesPerSecond,
      whileStill: work => this.#whileStill(work),
      news: () => this.#tellNews(),
    })
    this.#sync =
      state.sync === null || timers === undefined || clock === undefined
        ? null
        : new OwnerSync({
            state,
            legs,
            bytesPerSecond,
            env: { timers, clock, log },
            news: () => this.#tellNews(),
          })
    this.#missed =
      missingLegs(generation).length === 0
        ? null
        : staleLogOn(legs, {
            volumeId: layout.volumeId,
            slotOffset: ownerSlotAddress(layout),
            regionCount: regionCount(layout),
          })
  }

  /**
   * Reads the volume, makes durable what the predecessor left, and marks the journal with the owner's epoch. Rejects as
   * `loadVolume` does.
   */
  static async open(options: VolumeOwnerOptions): Promise<VolumeOwner> {
    assert(options.legs.length > 0, 'a volume without legs')
    const generation = options.generation ?? allInSync(options.legs)
    const legs = ownerLegs(options.legs, generation)
    const { best, all } = await loadVolume(options, legs)
    const { metadata, layout } = best
    recordRecovered(options, metadata)
    await settle(best, all, legs, generation.legs.length)
    if (options.emptySlots === true && !canary('forced-marks-kept')) await emptySlots(legs, metadata, layout)
    const writer = new JournalWriter(legs, best, options.ownerEpoch)
    if (!isRedundant(best)) await writer.checkpointBoth(metadata)
    else if (writer.checkpointDue) await writer.checkpoint(metadata)
    const { newest } = await findClusterCopy(best.leg.device, layout, SPARED_IO)
    const cluster = newest ?? { version: 0, value: null }
    const state = ownerState(metadata, cluster, generation.number, syncState(generation))
    const entry: Entry = { type: 'owner', epoch: options.ownerEpoch }
    takeEntries(state, [entry])
    const payload = new Payload()
    payload.add(entry)
    await writer.append(payload)
    const owner = new VolumeOwner(options, state, writer, legs, generation)
    await options.onRanges?.(owner.ranges())
    owner.#sync?.start()
    return owner
  }

  get layout(): Layout {
    return this.#state.metadata.layout
  }

  get ownerEpoch(): number {
    return this.#options.ownerEpoch
  }

  ranges(): MetadataRanges {
    const { layout, slots } = this.#state.metadata
    return {
      metadata: { offset: 0, length: layout.dataOffset },
      slots: [...slots].map(([host, slot]) => ({ host, offset: slotAddress(layout, slot), length: layout.slotBytes })),
    }
  }

  /** Rejects with a refusal (refusal.ts). An answer is durable. */
  handle<K extends VolumeKind>(kind: K, body: VolumeBody<K>): Promise<VolumeReply<K>> {
    return new Promise<VolumeReply<K>>((resolve, reject) => {
      if (this.#ended !== null) return reject(this.#ended)
      if (this.#queue.length + this.#waiting.length >= MAX_PENDING) {
        return reject(refuse('owner-busy', 'the volume owner has too many requests', { where: this.#options.volume }))
      }
      this.#queue.push({
        request: { kind, body } as unknown as VolumeRequest,
        resolve: resolve as (reply: VolumeReply<VolumeKind>) => void,
        reject,
      })
      this.#wake()
    })
  }

  /** Proves the volume while it is open: between two journal writes, with everything else waiting for as long as it takes. */
  check(): Promise<CheckReport> {
    if (this.#ended !== null) return Promise.reject(this.#ended)
    const { expected = {}, volume } = this.#options
    // A leg that is catching up is not expected to be right.
    const legs = this.#context.legs.slice(0, this.#context.inSync)
    const report = this.#stillWork.check(volume, () => checkStandingStill(legs, expected, this.#state.metadata))
    this.#wake()
    return report
  }

  #whileStill<T>(work: () => Promise<T>): Promise<T> {
    if (this.#ended !== null) return Promise.reject(this.#ended)
    const done = this.#stillWork.ask(this.#options.volume, work)
    this.#wake()
    return done
  }

  /** Of a leg that is catching up; null: none is. */
  get sync(): SyncProgress | null {
    return syncProgress(this.#state, this.#sync)
  }

  /** Answers what can be answered, refuses the rest. The legs stay open: they are their opener's. */
  async close(): Promise<void> {
    this.#ended ??= refuse('owner-closed', 'the volume owner has been closed', { where: this.#options.volume })
    this.scrubs.stop()
    await this.#running
    await this.#sync?.stop()
    await this.scrubs.idle()
    this.#effectQueue.length = 0
    if (this.#effectsRunning > 0) {
      await new Promise<void>(resolve => {
        this.#idle = resolve
      })
    }
    this.#rejectAll(this.#ended)
  }

  #wake(): void {
    this.#running ??= this.#run().catch(error => {
      this.#running = null
      this.#fail(error)
      if (error instanceof AssertionFailure) throw error
    })
  }

  async #run(): Promise<void> {
    // One turn later: requests that arrive together share a journal write.
    await null
    while (this.#ended === null && (this.#queue.length > 0 || this.#news || this.#stillWork.pending)) {
      if (this.#stillWork.pending) {
        await this.#standStill()
        continue
      }
      const nothing = { effects: [], answers: [], changes: [], slotsChanged: false, changesHolders: false }
      const round: Round = { payload: new Payload(), ...nothing }
      this.#round = round
      this.#decideAll(round)
      if (round.payload.entryCount > 0) {
        await this.#noteMissed(round.changes)
        await this.#writer.append(round.payload)
        await this.#publish(round)
      }
      this.#begin(round.effects)
      this.#round = null
      for (const { answer } of round.answers) answer()
      this.#sync?.wake()
      if (this.#writer.checkpointDue) await this.#writer.checkpoint(this.#state.metadata)
    }
    // In the same turn as the loop's last look: what comes from now on starts it again.
    this.#running = null
  }

  async #standStill(): Promise<void> {
    this.#still = true
    try {
      if (this.#effectsRunning > 0) {
        await new Promise<void>(resolve => {
          this.#idle = resolve
        })
      }
      await this.#stillWork.run()
    } finally {
      this.#still = false
      this.#startQueued()
    }
  }

  /** Synchronous: between a decision and its entry in memory nothing happens. Gives the answers to be sent afterwards. */
  #decideAll(round: Round): void {
    const { payload, answers } = round
    const candidates = this.#news ? [...this.#waiting, ...this.#queue] : this.#queue
    const still: Pending[] = this.#news ? [] : this.#waiting
    const full = this.#full
    this.#queue = []
    this.#news = false
    this.#full = false
    let extentsAwaited = still.some(pending => pending.waitsFor === 'extents')
    for (const [i, pending] of candidates.entries()) {
      if (payload.recordBytes > maxRecordBytes(this.layout) - BLOCK_BYTES) {
        // They are looked at again, the waiting ones first, as if there had been news.
        this.#queue = candidates.slice(i)
        break
      }
      if (extentsAwaited && pending.request.kind === 'volume.allocate') {
        still.push(pending)
        continue
      }
      const decision = decide(this.#state, pending.request)
      switch (decision.type) {
        case 'refused':
          forget(this.#state, decision.forget ?? {})
          answers.push({ pending, answer: () => pending.reject(decision.error) })
          break
        case 'wait':
          // Who asked asks again, a little later each time: begun again at once it would fail as fast as it can.
          if (full && (decision.for === 'extents' || (decision.for === 'copy' && decision.effects.length > 0))) {
            answers.push({ pending, answer: () => pending.reject(volumeFull(this.#state)) })
            break
          }
          this.#take(decision.effects, round)
          pending.waitsFor = decision.for
          extentsAwaited ||= decision.for === 'extents'
          still.push(pending)
          break
        case 'done':
          for (const entry of decision.entries) {
            payload.add(entry)
            this.#change(round, entry)
            round.slotsChanged ||= entry.type === 'slot-assigned'
            round.changesHolders ||= changesHolders(entry)
          }
          if (decision.synced !== undefined) this.#state.sync?.synced.add(decision.synced)
          takeEntries(this.#state, decision.entries)
          this.#take(decision.effects, round)
          answers.push({ pending, answer: () => pending.resolve(decision.reply) })
      }
    }
    this.#waiting = still
    if (round.changesHolders && still.some(pending => pending.waitsFor === 'reservation')) this.#tellNews()
  }

  /** Extents granted while a leg is away are nowhere on it: before anybody has them, that is written down. */
  async #noteMissed(changes: readonly ExtentChange[]): Promise<void> {
    const { behind, layout } = this.#context
    if (this.#missed === null || behind === null || canary('grant-not-missed')) return
    const perExtent = layout.extentBytes / layout.regionBytes
    const regions = changes.flatMap(change => {
      if (change.kind !== 'granted' && change.kind !== 'copied') return []
      const first = extentAddress(layout, change.extent) / layout.regionBytes
      return Array.from({ length: perExtent }, (_, i) => first + i)
    })
    if (regions.length > 0) await this.#missed.mark(behind, regions)
  }

  /** The round is durable: what must be known elsewhere before anybody is answered. */
  async #publish(round: Round): Promise<void> {
    const { env, volume, onRanges } = this.#options
    if (round.slotsChanged) await onRanges?.(this.ranges())
    for (const change of round.changes) {
      const { disk } = change
      if (change.kind !== 'granted') {
        const { kind, body } = evidenceOf(change)
        env.trace.emit({ level: 'decision', kind, volume, disk, body })
        continue
      }
      const { extent, offset } = change
      const zero = env.trace.on('io') ? await readsZero(this.#context, extent) : null
      env.trace.emit({ level: 'decision', kind: 'extent.granted', volume, disk, body: { extent, zero, offset } })
    }
  }

  /** What an entry does to extents: told when it is durable, and kept apart from grants while it must be. */
  #change(round: Round, entry: Entry): void {
    const changes = extentChanges(this.#state, entry)
    for (const change of changes) {
      round.changes.push(change)
      if (change.kind === 'freed' && change.left === 0) this.#state.sync?.freed.add(change.extent)
    }
  }

  /** Decided: later decisions of the round see them as under way. */
  #take(effects: readonly Effect[], round: Round): void {
    for (const effect of effects) startEffect(this.#state, effect)
    round.effects.push(...effects)
  }

  #begin(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (!isHostEffect(effect)) {
        this.#effectQueue.push(effect)
        continue
      }
      void runHostEffect(this.#options.hosts ?? null, effect).then(outcome => {
        endEffect(this.#state, effect, outcome)
        this.#effectEnded(0)
      })
    }
    this.#startQueued()
  }

  #startQueued(): void {
    while (this.#effectsRunning < MAX_ZEROING && !this.#still) {
      const effect = this.#effectQueue.shift()
      if (effect === undefined) return
      this.#effectsRunning += 1
      runEffect(this.#context, effect).then(
        outcome => {
          endEffect(this.#state, effect, outcome)
          if (!outcome.ok && outcome.full && this.#waiting.length > 0) this.#full = true
          this.#effectEnded()
        },
        error => {
          this.#fail(error)
          this.#effectEnded()
        },
      )
    }
  }

  /** `counted`: hosts are asked beside what is done to the volume. */
  #effectEnded(counted = 1): void {
    this.#effectsRunning -= counted
    if (this.#effectsRunning === 0) this.#idle?.()
    if (this.#ended !== null) return
    this.#startQueued()
    this.#tellNews()
  }

  #tellNews(): void {
    if (this.#ended !== null || this.#waiting.length === 0) return
    this.#news = true
    this.#wake()
  }

  #fail(error: unknown): void {
    if (this.#ended !== null) return
    this.#ended = new StellwerkError('owner-failed', `the volume owner has ended: ${errorMessage(error)}`, {
      retryable: true,
      where: this.#options.volume,
      hint: 'the next owner answers',
      cause: error,
    })
    this.#options.env.log.error({ volume: this.#options.volume, code: errorCode(error) }, this.#ended.message)
    this.#rejectAll(this.#ended)
    this.#options.onEnd?.(this.#ended)
  }

  #rejectAll(error: StellwerkError): void {
    this.#stillWork.rejectAll(error)
    const undecided = [...this.#waiting, ...this.#queue]
    const unanswered = this.#round?.answers.map(({ pending }) => pending) ?? []
    this.#waiting = []
    this.#queue = []
    for (const pending of [...unanswered, ...undecided]) pending.reject(error)
  }
}

/**
 * The predecessor may have died between its journal and its records: from here on the records are whole again. As long as
 * the volume is large, so only where everything is recorded.
 */
function recordRecovered({ env, volume }: VolumeOwnerOptions, { disks, layout, references }: Metadata): void {
  if (!env.trace.on('io')) return
  const extents: [number, string, number, number][] = []
  const parents: [string, string][] = []
  for (const disk of disks.values()) {
    if (disk.parent !== null) parents.push([disk.id, disk.parent])
    for (const [index, extent] of disk.map)
      extents.push([extent, disk.id, index * layout.extentBytes, references[extent]!])
  }
  env.trace.emit({ level: 'decision', kind: 'extent.recovered', volume, body: { extents, parents } })
}
