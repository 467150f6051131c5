// One scrub of a volume, driven by its owner: first the metadata, while the owner stands still; then the slots; then each
// extent in use. What a host holds that host compares, under the range locks of its guests' writes; the owner compares what
// nobody writes in place: shared extents, and disks that nobody holds. While an extent is compared it changes hands to
// nobody (`OwnerState.comparing`). Nothing of a scrub is durable: a new owner has to be asked again.

import { type ScrubHost, type ScrubLeg, scrubLegs } from '@stellwerk/block/mirror/scrub.ts'
import type { PartFinding, ScrubFinding, ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { MAX_SCRUB_FINDINGS } from '@stellwerk/protocol/messages/volume-scrub.ts'
import { AssertionFailure } from '@stellwerk/runtime/assert.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { BLOCK_BYTES, extentAddress, slotAddress } from '../format/layout.ts'
import type { Disk, Holder } from '../format/metadata.ts'
import type { OwnerState } from '../owner/state.ts'
import { type MetadataScrub, type Placed, scrubIdleSlot, scrubMetadata } from './scrub-metadata.ts'
import { isSame, isSurelyOver, type UnsureExtents } from './unsure-extents.ts'

/** Of requests that a scrub makes: an error there is a finding, not the end of a leg. */
export const SCRUB_ORIGIN = 'scrub'
const SCRUB_IO = { origin: SCRUB_ORIGIN, deadlineAt: null }
/** After a question that was not answered. */
const RETRY_MS = 500
/** What could not be compared for so long is left out, and told. */
const GIVE_UP_MS = 30_000
const SLOT_TRIES = 4

/** The owner's way to the hosts that have disks. Every call ends in bounded time. */
export interface ScrubHosts {
  part(
    holder: Holder,
    disk: string,
    part: { index: number; extent: number; offset: number; length: number; goodLeg: string | null },
  ): Promise<{ there: boolean; busy: boolean; findings: PartFinding[] }>
  slot(host: string, goodLeg: string | null): Promise<{ open: boolean; findings: PartFinding[] }>
}

export interface OwnerScrubOptions {
  readonly id: string
  readonly volume: string
  readonly state: OwnerState
  readonly legs: readonly ScrubLeg[]
  readonly goodLeg: string | null
  /** Shared by all scrubs of one owner. */
  readonly extents: UnsureExtents
  readonly hosts: ScrubHosts | null
  readonly bytesPerSecond: () => number
  readonly env: Pick<Environment, 'trace' | 'log' | 'timers' | 'clock'>
  readonly whileStill: <T>(work: () => Promise<T>) => Promise<T>
  /** Something that waited may go on. */
  readonly news: () => void
}

export class OwnerScrub {
  readonly #options: OwnerScrubOptions
  readonly #findings: ScrubFinding[] = []
  #state: ScrubReport['state'] = 'running'
  #why: string | null = null
  #doneBytes = 0
  #totalBytes = 0
  #repaired = 0
  #unresolved = 0
  #skipped = 0
  #ended = false
  #over = false
  /** What the owner itself is reading or writing. */
  #own: Promise<unknown> = Promise.resolve()
  readonly #extents: UnsureExtents
  /** Disks whose holder does not answer, and why: the rest of what that one holds is left out. */
  readonly #givenUp = new Map<string, { readonly holder: Holder; readonly why: string }>()

  constructor(options: OwnerScrubOptions) {
    this.#options = options
    this.#extents = options.extents
  }

  /** It has ended, and asks and compares nothing any more. */
  get over(): boolean {
    return this.#over
  }

  get report(): ScrubReport {
    const { id, legs, goodLeg } = this.#options
    return {
      scrub: id,
      state: this.#state,
      why: this.#why,
      legs: legs.map(leg => leg.id),
      goodLeg,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      repaired: this.#repaired,
      unresolved: this.#unresolved,
      skipped: this.#skipped,
      findings: [...this.#findings],
      more: this.#repaired + this.#unresolved + this.#skipped - this.#findings.length,
    }
  }

  start(): void {
    void this.#run()
  }

  /** What is being compared at this moment is compared to its end. */
  cancel(): void {
    this.#ended = true
    this.#end('failed', 'an operator has cancelled it')
  }

  stop(): void {
    this.#ended = true
    this.#end('failed', 'the volume has another owner or generation now: begin it again')
  }

  /** Nothing is read or written here any more. Hosts may still be at what they were asked. */
  async idle(): Promise<void> {
    await this.#own.catch(() => undefined)
  }

  async #run(): Promise<void> {
    const { state, goodLeg, legs } = this.#options
    const { layout, references } = state.metadata
    const work = extentsInUse(state)
    this.#totalBytes = work.length * layout.extentBytes
    this.#trace('scrub.began', null, { goodLeg, legs: legs.map(leg => leg.id), bytes: this.#totalBytes })
    try {
      await this.#metadata()
      for (const [host, slot] of [...state.metadata.slots].sort(([, a], [, b]) => a - b)) await this.#slot(host, slot)
      for (const [extent, index] of work) {
        for (let at = 0; at < layout.extentBytes && !this.#ended; at += layout.regionBytes) {
          if (references[extent] === 0) break
          await this.#region(extent, index, at)
        }
        this.#doneBytes += layout.extentBytes
      }
      this.#end('done', null)
    } catch (error) {
      if (error instanceof AssertionFailure) throw error
      this.#end('failed', errorMessage(error).slice(0, 1_000))
    }
    this.#over = true
  }

  #end(state: 'done' | 'failed', why: string | null): void {
    if (this.#state !== 'running') return
    this.#state = state
    this.#why = why
    const { repaired, unresolved, skipped, doneBytes } = this.report
    this.#trace('scrub.ended', null, { state, why, repaired, unresolved, skipped, bytes: doneBytes })
  }

  // --- metadata and slots ----------------------------------------------------------------------------------------------

  #of(): MetadataScrub {
    const { state, legs, goodLeg } = this.#options
    const { layout, slots } = state.metadata
    return { legs, layout, taken: new Set(slots.values()), goodLeg, host: this.#host() }
  }

  #host(): ScrubHost {
    const { env, volume } = this.#options
    return {
      io: SCRUB_IO,
      stands: () => {
        if (this.#ended) throw new Error('the scrub has ended')
      },
      failed: (leg, why) => env.log.warn({ volume, leg }, `found by a scrub: ${why}`),
    }
  }

  async #metadata(): Promise<void> {
    const found = await this.#options.whileStill(() => this.#mine(scrubMetadata(this.#of())))
    for (const each of found) this.#took(each, null)
  }

  async #slot(host: string, slot: number): Promise<void> {
    const { state, hosts, goodLeg, whileStill, news } = this.#options
    const where = `slot ${slot}, of ${host}`
    const address = slotAddress(state.metadata.layout, slot)
    // Whoever is not at work here does not begin before this is over.
    state.comparingSlots.add(host)
    let why = 'this owner reaches no hosts'
    try {
      for (let tries = 1; tries <= SLOT_TRIES && !this.#ended && hosts !== null; tries += 1) {
        try {
          const answer = await hosts.slot(host, goodLeg)
          const found = answer.open
            ? answer.findings.map(each => ({ ...each, where }))
            : await whileStill(() => this.#mine(scrubIdleSlot(this.#of(), where, address)))
          for (const each of found) this.#took(each, null)
          return
        } catch (error) {
          why = `${host} was asked: ${errorMessage(error)}`
        }
        await this.#pause(RETRY_MS)
      }
      if (!this.#ended) this.#leftOut(where, null, address, address, state.metadata.layout.slotBytes, why)
    } finally {
      state.comparingSlots.delete(host)
      news()
    }
  }

  // --- extents ---------------------------------------------------------------------------------------------------------

  async #region(extent: number, index: number, at: number): Promise<void> {
    const { state, env, hosts } = this.#options
    const { layout, references } = state.metadata
    const address = extentAddress(layout, extent) + at
    const since = env.clock.now()
    while (!this.#ended) {
      this.#extents.settle()
      if (this.#extents.isBusy(extent)) {
        await this.#pause(RETRY_MS)
        continue
      }
      const startedAt = env.clock.now()
      const disk = mapper(state, extent, index)
      // Given back meanwhile.
      if (disk === null) return
      // Whoever is to have it may have it by now, and writes.
      const holder = disk.holder ?? disk.reserved
      if (holder === null || references[extent]! > 1) {
        await this.#compareHere(extent, index, address, disk)
        return this.#pace(startedAt)
      }
      const before = this.#givenUp.get(disk.id)
      let why = before !== undefined && isSame(before.holder, holder) ? before.why : null
      why ??= hosts === null ? 'this owner reaches no hosts' : null
      if (why === null) {
        const answer = await this.#askHost(hosts!, holder, disk, { extent, index, at })
        if (typeof answer !== 'string') return answer.busy ? this.#pace(startedAt) : undefined
        if (env.clock.now() - since > GIVE_UP_MS) {
          why = answer
          this.#givenUp.set(disk.id, { holder, why })
        }
      }
      if (why !== null) {
        const offset = index * layout.extentBytes + at
        return this.#leftOut(`disk ${disk.name}`, disk, offset, address, layout.regionBytes, why)
      }
      await this.#pause(RETRY_MS)
    }
  }

  /** Guests have the rest of the time that a region may take. */
  async #pace(startedAt: number): Promise<void> {
    const { state, env, bytesPerSecond } = this.#options
    const share = (state.metadata.layout.regionBytes / bytesPerSecond()) * 1_000 - (env.clock.now() - startedAt)
    if (share > 0) await this.#pause(share)
  }

  /** Nobody writes there in place, and nobody gets to before it is over. */
  async #compareHere(extent: number, index: number, address: number, disk: Disk): Promise<void> {
    const { state, legs, goodLeg } = this.#options
    const options = { block: BLOCK_BYTES, goodLeg }
    this.#extents.began(extent)
    try {
      const found = await this.#mine(scrubLegs(legs, address, state.metadata.layout.regionBytes, options, this.#host()))
      for (const each of found) this.#tookOf({ ...each, legs: [...each.legs] }, disk, extent, index)
    } finally {
      this.#extents.ceased(extent)
    }
  }

  /** Why it was not compared, or how busy its host is. */
  async #askHost(
    hosts: ScrubHosts,
    holder: Holder,
    disk: Disk,
    { extent, index, at }: { extent: number; index: number; at: number },
  ): Promise<{ busy: boolean } | string> {
    const { state, goodLeg } = this.#options
    const length = state.metadata.layout.regionBytes
    this.#extents.began(extent)
    this.#extents.asked(extent, { disk: disk.id, holder, index, at })
    try {
      const answer = await hosts.part(holder, disk.id, { index, extent, offset: at, length, goodLeg })
      this.#extents.answered(extent)
      for (const each of answer.findings) this.#tookOf(each, disk, extent, index)
      return answer.there ? { busy: answer.busy } : `${holder.host} does not have that extent`
    } catch (error) {
      if (isSurelyOver(error)) this.#extents.answered(extent)
      return `${holder.host} was asked: ${errorMessage(error)}`
    } finally {
      this.#extents.ceased(extent)
    }
  }

  // --- findings --------------------------------------------------------------------------------------------------------

  #tookOf(found: PartFinding, disk: Disk, extent: number, index: number): void {
    const { layout } = this.#options.state.metadata
    const offset = index * layout.extentBytes + found.offset - extentAddress(layout, extent)
    this.#took({ ...found, where: `disk ${disk.name}` } as Placed, disk.id, offset)
  }

  #took({ offset: address, ...found }: Placed, disk: string | null, offset = address): void {
    this.#keep({ ...found, legs: [...found.legs], disk, offset, address })
  }

  #leftOut(where: string, disk: Disk | null, offset: number, address: number, length: number, why: string): void {
    const finding = { kind: 'not-compared', legs: [], repaired: null } as const
    const last = this.#findings.at(-1)
    const told = why.slice(0, 1_000)
    if (last?.kind === 'not-compared' && last.where === where && last.address + last.length === address) {
      this.#findings[this.#findings.length - 1] = { ...last, length: last.length + length, why: told }
      return
    }
    this.#keep({ ...finding, legs: [], where, disk: disk?.id ?? null, offset, address, length, why: told })
  }

  #keep(finding: ScrubFinding): void {
    if (finding.kind === 'not-compared') this.#skipped += 1
    else if (finding.repaired === null) this.#unresolved += 1
    else this.#repaired += 1
    if (this.#findings.length < MAX_SCRUB_FINDINGS) this.#findings.push(finding)
    this.#trace('scrub.found', finding.disk, { ...finding, legs: [...finding.legs] })
  }

  #trace(kind: string, disk: string | null, body: object): void {
    const { env, volume, id } = this.#options
    const of = disk === null ? {} : { disk }
    env.trace.emit({ level: 'decision', kind, volume, ...of, body: { scrub: id, ...body } as never })
  }

  #mine<T>(work: Promise<T>): Promise<T> {
    this.#own = work
    return work
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => this.#options.env.timers.after(ms, resolve))
  }
}

/** Each extent once, with its index: all that share one have it at the same. In the order of disks. */
function extentsInUse({ metadata }: OwnerState): [number, number][] {
  const found = new Map<number, number>()
  for (const disk of [...metadata.disks.values()].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    for (const [index, extent] of [...disk.map].sort(([a], [b]) => a - b))
      if (!found.has(extent)) found.set(extent, index)
  }
  return [...found]
}

/** A disk that has the extent now; one that is held before others. */
function mapper({ metadata }: OwnerState, extent: number, index: number): Disk | null {
  let found: Disk | null = null
  for (const disk of metadata.disks.values()) {
    if (disk.map.get(index) !== extent) continue
    if (disk.holder !== null) return disk
    found ??= disk
  }
  return found
}
