// The source's side of a live migration: rounds while the guest runs, the last round while it is paused. It knows pages,
// not guests; the machine is reached through `MigrationSource`.

import { crc32 } from 'node:zlib'
import { assert } from '@stellwerk/runtime/assert.ts'
import type { Environment, Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { CopyProgress, MigrationPolicy, Outgoing, Released, RoundProgress } from '../hypervisor.ts'
import { forecastRound, INITIAL_FORECAST } from './forecast.ts'
import { BATCH_PAGES } from './format.ts'
import { createPipe } from './pipe.ts'
import { PageSender } from './sender.ts'
import { Shadow } from './shadow.ts'
import { PAGE_BYTES } from './state-checksum.ts'

/** While the guest runs, the event loop gets its turn after this much was compared, */
const SCAN_SLICE_PAGES = (16 * MIB) / PAGE_BYTES
/** or this much was sent. */
const SEND_SLICE_PAGES = (2 * MIB) / PAGE_BYTES
/** So little is looked at as a whole once more: in simulation a page missed shows where it was missed. */
const SMALL_MEMORY_BYTES = MIB
/** Once converged, rounds go on at this pace until the switch, so that the last one stays short. */
export const IDLE_ROUND_MS = 25

/** What a machine lets a migration do with it. */
export interface MigrationSource {
  readonly vm: string
  /** The guest's memory itself, live. */
  readonly memory: Buffer
  /** The guest loses this share of its time (0: none). */
  throttle(share: number): void
  /** When it resolves the guest executes nothing, and what was in flight is done and in its memory. */
  pause(): Promise<void>
  /** State that is not memory; read while paused. */
  registers(): Uint8Array
  resume(): void
  /** The migration is over, either way. */
  detached(): void
}

type Phase = 'rounds' | 'releasing' | 'released' | 'ended'

export class PrecopyOutgoing implements Outgoing {
  readonly stream
  readonly converged: Promise<void>
  readonly #env: Environment
  readonly #source: MigrationSource
  readonly #policy: MigrationPolicy
  readonly #shadow: Shadow
  readonly #sender: PageSender
  #phase: Phase = 'rounds'
  #paused = false
  #round = 0
  /** Of the round under way: what it began with, how many pages had been sent by then, and when that was. */
  #begun: { readonly pages: number; readonly sent: number; readonly at: number } | null = null
  #measured = { bytesPerSecond: 0, dirtyBytesPerSecond: 0 }
  #onProgress: (progress: RoundProgress) => void = () => undefined
  #tellConverged: { resolve: () => void; reject: (error: unknown) => void }
  #roundsDone: Promise<void>
  #wakeIdle: (() => void) | null = null
  readonly #destroyStream: () => void
  #failure: unknown = null

  constructor(env: Environment, source: MigrationSource, policy: MigrationPolicy) {
    this.#env = env
    this.#source = source
    this.#policy = policy
    // No frame is made before its predecessor was taken: what waits on the way is the reader's window, and is measured.
    const pipe = createPipe(`migration of ${source.vm}`, 1)
    this.stream = pipe.reader
    this.#shadow = new Shadow(source.memory)
    this.#sender = new PageSender(env, pipe.writer, this.#shadow)
    this.#destroyStream = () => pipe.writer.destroy()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.converged = promise
    this.#tellConverged = { resolve, reject }
    // Whoever does not wait for convergence learns of a failure from `release`.
    promise.catch(() => undefined)
    this.#roundsDone = this.#rounds().catch(error => {
      this.#tellConverged.reject(error)
      this.#failure = error
      this.#source.throttle(0)
    })
  }

  onProgress(f: (progress: RoundProgress) => void): void {
    this.#onProgress = f
  }

  progress(): CopyProgress | null {
    const begun = this.#begun
    if (begun === null) return null
    const { pagesSent, bytesSent } = this.#sender
    const sentNow = pagesSent - begun.sent
    const elapsedMs = this.#env.clock.now() - begun.at
    // The first round tells its own speed while it lasts; later ones are too short for that.
    const first = elapsedMs > 0 ? (sentNow * PAGE_BYTES * 1000) / elapsedMs : 0
    return {
      round: this.#round,
      totalBytes: this.#shadow.pages * PAGE_BYTES,
      leftBytes: Math.max(0, begun.pages - sentNow) * PAGE_BYTES,
      pagesSent,
      sentBytes: bytesSent,
      bytesPerSecond: this.#measured.bytesPerSecond || first,
      dirtyBytesPerSecond: this.#measured.dirtyBytesPerSecond,
    }
  }

  async release(trailer: () => Promise<Json>): Promise<Released> {
    if (this.#phase !== 'rounds') throw this.#over('release')
    this.#phase = 'releasing'
    this.#tellConverged.resolve()
    this.#wakeIdle?.()
    // The round under way ends at its next page; from here on only this function sends.
    await this.#roundsDone
    this.#throwIfOver()
    await this.#source.pause()
    this.#paused = true
    this.#throwIfOver()
    // The trailer is made durable while the last pages are found and sent; it goes out behind them.
    const durable = trailer()
    durable.catch(() => undefined)
    // What it asks of the disks is on its way before the scan takes the event loop for itself.
    await this.#turn()
    this.#throwIfOver()
    this.#round++
    const dirty: number[] = []
    this.#shadow.scan(0, this.#shadow.pages, dirty)
    this.#begun = { pages: dirty.length, sent: this.#sender.pagesSent, at: this.#env.clock.now() }
    await this.#sender.sendAll(this.#round, dirty)
    const behind = await durable
    this.#throwIfOver()
    const registers = this.#source.registers()
    const stateChecksum = await this.#sender.finish(this.#round, registers, behind)
    if (this.#source.memory.length <= SMALL_MEMORY_BYTES) {
      const whole = crc32(registers, crc32(this.#source.memory))
      assert(whole === stateChecksum, `what was sent of ${this.#source.vm} is not what is in its memory`)
    }
    this.#phase = 'released'
    return {
      rounds: this.#round,
      pagesSent: this.#sender.pagesSent,
      bytesSent: this.#sender.bytesSent,
      stateChecksum,
    }
  }

  async abort(beforeResume?: (stateChecksum: number) => void): Promise<void> {
    if (this.#phase === 'ended') return
    this.end(new StellwerkError('aborted', `the migration of ${this.#source.vm} was aborted`))
    await this.#roundsDone
    this.#source.throttle(0)
    if (this.#paused) {
      beforeResume?.(this.#checksumNow())
      this.#paused = false
    }
    // Also where a release was still waiting for its pause: the machine then drops that wish.
    this.#source.resume()
    this.#source.detached()
  }

  /** The machine is gone (killed, crashed): nothing resumes. */
  end(error: StellwerkError): void {
    if (this.#phase === 'ended') return
    this.#phase = 'ended'
    this.#failure ??= error
    this.#tellConverged.reject(error)
    this.#sender.fail(error)
    this.#destroyStream()
    this.#wakeIdle?.()
  }

  /** From the memory as it is, not from what was sent: an abort must notice a difference. */
  #checksumNow(): number {
    const dirty: number[] = []
    this.#shadow.scan(0, this.#shadow.pages, dirty)
    return this.#sender.checksumOf(this.#source.memory, dirty, this.#source.registers())
  }

  async #rounds(): Promise<void> {
    // The first slice waits a turn, so that the caller can subscribe before anything happens.
    await this.#turn()
    let forecast = INITIAL_FORECAST
    let settled = false
    let lastScanAt = this.#env.clock.now()
    let dirty = await this.#scan()
    while (this.#phase === 'rounds') {
      this.#round++
      const sentBefore = this.#sender.bytesSent
      const pagesBefore = this.#sender.pagesSent
      const sendStart = this.#env.clock.now()
      this.#begun = { pages: dirty.length, sent: pagesBefore, at: sendStart }
      await this.#sendRound(dirty)
      const sendMs = this.#env.clock.now() - sendStart
      if (settled && this.#phase === 'rounds') await this.#idle()
      if (this.#phase !== 'rounds') return
      const scanStart = this.#env.clock.now()
      dirty = await this.#scan()
      const now = this.#env.clock.now()
      const facts = {
        round: this.#round,
        dirtyPages: dirty.length,
        sinceLastScanMs: now - lastScanAt,
        sentBytes: (this.#sender.pagesSent - pagesBefore) * PAGE_BYTES,
        sendMs,
        scanMs: now - scanStart,
      }
      lastScanAt = now
      const next = forecastRound(forecast, this.#policy, facts)
      forecast = next.state
      this.#source.throttle(next.throttle)
      this.#measured = next
      this.#begun = { pages: dirty.length, sent: this.#sender.pagesSent, at: now }
      this.#onProgress({
        round: this.#round,
        pagesSent: this.#sender.pagesSent - pagesBefore,
        bytesSent: this.#sender.bytesSent - sentBefore,
        dirtyPages: dirty.length,
        dirtyBytesPerSecond: next.dirtyBytesPerSecond,
        bytesPerSecond: next.bytesPerSecond,
        forecastMs: next.forecastMs,
        throttle: next.throttle,
      })
      if (next.verdict === 'diverging' && !settled) throw this.#diverging(next.forecastMs)
      if (next.verdict !== 'again') {
        settled = true
        this.#tellConverged.resolve()
      }
    }
  }

  async #scan(): Promise<number[]> {
    const dirty: number[] = []
    for (let from = 0; from < this.#shadow.pages && this.#phase === 'rounds'; from += SCAN_SLICE_PAGES) {
      if (from > 0) await this.#turn()
      this.#shadow.scan(from, Math.min(from + SCAN_SLICE_PAGES, this.#shadow.pages), dirty)
    }
    return dirty
  }

  async #sendRound(dirty: readonly number[]): Promise<void> {
    let sinceTurn = 0
    for (let from = 0; from < dirty.length && this.#phase === 'rounds'; from += BATCH_PAGES) {
      await this.#sender.sendBatch(this.#round, dirty.slice(from, from + BATCH_PAGES))
      sinceTurn += BATCH_PAGES
      if (sinceTurn < SEND_SLICE_PAGES) continue
      sinceTurn = 0
      await this.#turn()
    }
  }

  #turn(): Promise<void> {
    return new Promise(resolve => this.#env.timers.after(0, resolve))
  }

  #idle(): Promise<void> {
    return new Promise(resolve => {
      const timer = this.#env.timers.after(IDLE_ROUND_MS, () => this.#wakeIdle?.())
      this.#wakeIdle = () => {
        this.#wakeIdle = null
        timer.cancel()
        resolve()
      }
    })
  }

  #throwIfOver(): void {
    if (this.#failure !== null) throw this.#failure
  }

  #over(what: string): StellwerkError {
    return new StellwerkError('migration-over', `cannot ${what}: the migration of ${this.#source.vm} is ${this.#phase}`)
  }

  #diverging(forecastMs: number): StellwerkError {
    const pause = `${Math.ceil(forecastMs)} ms against ${this.#policy.downtimeMs} ms allowed`
    return new StellwerkError('not-converging', `${this.#source.vm} dirties memory faster than it is sent: ${pause}`, {
      retryable: true,
      hint: 'allow a longer downtime, let it pause when diverging, or migrate when the guest is less busy',
    })
  }
}
