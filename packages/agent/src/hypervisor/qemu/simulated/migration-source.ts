// The simulated QEMU's pre-copy as the source: rounds until what is left takes no longer than the downtime limit by the
// bandwidth that it measures, then the switch, in front of which it pauses if it was told to. States and their order follow
// migration/migration.c of QEMU 7.2.

import type { ByteStream, Environment, Json } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { Shadow } from '../../precopy/shadow.ts'
import { PAGE_BYTES } from '../../precopy/state-checksum.ts'
import type { SimulatedMachine } from './machine.ts'
import { pageHead, streamEnd, streamHeader } from './migration-stream.ts'
import { type Arguments, type MainLoop, refusal } from './monitor.ts'

type Status = 'setup' | 'active' | 'pre-switchover' | 'device' | 'completed' | 'failed' | 'cancelling' | 'cancelled'

/** QEMU measures what it sends so often, and what is dirtied so often (BUFFER_DELAY, migration_bitmap_sync). */
const BANDWIDTH_MS = 100
const DIRTY_RATE_MS = 1_000
/** What is sent in one go. */
const CHUNK_MS = 4
const DRAIN_LOOK_MS = 1
/** From the word that a migration is over to the state of the machine, at most. */
const FINALIZE_MAX_MS = 3
const BROKEN_PIPE = 'Unable to write to socket: Broken pipe'
/** How a processor is held up (cpu-throttle-initial, -increment, the most): percent. */
const THROTTLE = { initial: 20, increment: 10, most: 99 }

export interface SourceParts {
  readonly env: Environment
  readonly loop: MainLoop
  readonly machine: SimulatedMachine
  readonly event: (event: string, data?: Arguments) => void
  readonly capabilities: ReadonlySet<string>
  /** `downtime-limit`, ms; may change on the way. */
  readonly downtimeMs: () => number
  /** What its processor and the link carry. */
  readonly pagesPerMs: number
}

export class MigrationSource {
  readonly #parts: SourceParts
  readonly #shadow: Shadow
  readonly #continued = Promise.withResolvers<void>()
  status: Status = 'setup'
  #why: string | null = null
  #stream: ByteStream | null = null
  #broken = false
  #wake: (() => void) | null = null
  /** Whether the machine was executing when it was stopped for the switch; null: it was not stopped. */
  #executed: boolean | null = null
  #left: number[] = []
  #syncs = 0
  #pages = 0
  #bytes = 0
  #bytesPerMs = 0
  #measured = { at: 0, bytes: 0 }
  #dirtied = { at: 0, pages: 0, sent: 0, perSecond: 0, tooMany: 0 }

  constructor(parts: SourceParts) {
    this.#parts = parts
    this.#shadow = new Shadow(parts.machine.memory)
    this.#tell('setup')
  }

  get over(): boolean {
    return this.status === 'completed' || this.status === 'failed' || this.status === 'cancelled'
  }

  /** Connects, and migrates. */
  async run(connect: () => Promise<ByteStream>): Promise<void> {
    try {
      const stream = await connect()
      if (this.#stopped()) {
        stream.destroy()
        return
      }
      this.#stream = stream
      stream.onDrain(() => this.#wake?.())
      stream.onClose(() => this.#lost())
      this.#tell('active')
      await this.#precopy(stream)
    } catch (error) {
      // What is none of the world's errors is a bug of this.
      if (!(error instanceof StellwerkError)) throw error
      await this.#failed(errorMessage(error))
    }
  }

  /** The command `migrate-continue`. */
  continue(state: Json): void {
    if (state !== this.status) throw refusal(`Migration not in expected state: ${this.status}`)
    this.#continued.resolve()
  }

  /** The command `migrate_cancel`; its outcome is told by events. */
  cancel(): void {
    if (this.over || this.status === 'cancelling') return
    this.#tell('cancelling')
    this.#stream?.destroy()
    this.#wake?.()
    this.#continued.resolve()
    // Its machine goes on before that is told.
    void this.#parts.loop.run(() => {
      this.#finish('cancelled')
      this.#tell('cancelled')
    })
  }

  get statistics(): Json {
    const { machine } = this.#parts
    return {
      status: this.status,
      ram: {
        total: machine.memory.length,
        remaining: this.#left.length * PAGE_BYTES,
        transferred: this.#bytes,
        normal: this.#pages,
        duplicate: 0,
        'dirty-sync-count': this.#syncs,
        'dirty-pages-rate': this.#dirtied.perSecond,
        mbps: (this.#bytesPerMs * 8) / 1000,
      },
      ...(machine.throttle > 0 ? { 'cpu-throttle-percentage': Math.round(machine.throttle * 100) } : {}),
      ...(this.#why === null ? {} : { 'error-desc': this.#why }),
    }
  }

  // --- rounds --------------------------------------------------------------------------------------------------------

  async #precopy(stream: ByteStream): Promise<void> {
    this.#write(stream, [streamHeader()])
    const now = this.#parts.env.clock.now()
    this.#measured.at = now
    this.#dirtied.at = now
    this.#sync()
    do {
      while (this.#left.length * PAGE_BYTES > this.#threshold()) {
        await this.#send(stream)
        if (this.#stopped()) return
      }
      this.#sync()
    } while (this.#left.length * PAGE_BYTES > this.#threshold())
    await this.#switch(stream)
  }

  #threshold(): number {
    return this.#bytesPerMs * this.#parts.downtimeMs()
  }

  /** A look at what differs from what was sent. */
  #sync(): void {
    const dirty: number[] = []
    this.#shadow.scan(0, this.#shadow.pages, dirty)
    this.#dirtied.pages += Math.max(0, dirty.length - this.#left.length)
    this.#left = dirty
    this.#syncs += 1
    this.#measureDirtied()
    if (this.#parts.capabilities.has('events')) this.#parts.event('MIGRATION_PASS', { pass: this.#syncs })
  }

  async #send(stream: ByteStream): Promise<void> {
    const { pagesPerMs } = this.#parts
    const pages = this.#left.splice(0, Math.max(1, Math.round(CHUNK_MS * pagesPerMs)))
    const parts = pages.flatMap(page => [pageHead(page), this.#taken(page)])
    const isFull = !this.#write(stream, parts)
    if (isFull) await this.#woken()
    if (this.#stopped()) return
    await this.#pass(pages.length / pagesPerMs)
    this.#measure()
  }

  /** Or until it is woken. */
  #pass(ms: number): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
      this.#parts.env.timers.after(ms, resolve)
    })
  }

  #taken(page: number): Buffer {
    const bytes = Buffer.allocUnsafe(PAGE_BYTES)
    this.#shadow.take(page, bytes, 0)
    this.#pages += 1
    return bytes
  }

  #write(stream: ByteStream, parts: readonly Uint8Array[]): boolean {
    for (const part of parts) this.#bytes += part.length
    return stream.write(parts)
  }

  #woken(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }

  #measure(): void {
    const now = this.#parts.env.clock.now()
    const passed = now - this.#measured.at
    if (passed < BANDWIDTH_MS) return
    this.#bytesPerMs = (this.#bytes - this.#measured.bytes) / passed
    this.#measured = { at: now, bytes: this.#bytes }
  }

  /** More than half as much dirtied as sent, twice: the guest is slowed down (auto-converge). */
  #measureDirtied(): void {
    const { env, capabilities, machine } = this.#parts
    const now = env.clock.now()
    const { at, pages, sent, tooMany } = this.#dirtied
    if (now - at < DIRTY_RATE_MS) return
    const times = tooMany + (pages * PAGE_BYTES * 2 > this.#bytes - sent ? 1 : 0)
    const slow = times >= 2
    if (slow && capabilities.has('auto-converge')) {
      const percent = machine.throttle * 100
      machine.throttle = Math.min(THROTTLE.most, percent === 0 ? THROTTLE.initial : percent + THROTTLE.increment) / 100
    }
    const perSecond = Math.round((pages * 1000) / (now - at))
    this.#dirtied = { at: now, pages: 0, sent: this.#bytes, perSecond, tooMany: slow ? 0 : times }
  }

  // --- the switch ----------------------------------------------------------------------------------------------------

  async #switch(stream: ByteStream): Promise<void> {
    const { loop, machine, capabilities } = this.#parts
    let failure: string | null = null
    await loop.run(async () => {
      if (this.#stopped()) return
      this.#executed = machine.state === 'running'
      failure = await machine.stop('finish-migrate')
      machine.state = 'finish-migrate'
    })
    if (this.#stopped()) return
    if (failure !== null) {
      await this.#failed(failure)
      return
    }
    if (capabilities.has('pause-before-switchover')) {
      this.#tell('pre-switchover')
      await this.#continued.promise
      if (this.#stopped()) return
      this.#tell('device')
      if (this.#broken) {
        await this.#failed(BROKEN_PIPE)
        return
      }
    }
    const dirty: number[] = []
    this.#shadow.scan(0, this.#shadow.pages, dirty)
    this.#left = []
    this.#write(stream, [...dirty.flatMap(page => [pageHead(page), this.#taken(page)]), streamEnd(machine.deviceState)])
    while (stream.bufferedBytes > 0 && !this.#broken && !this.#stopped()) await this.#pass(DRAIN_LOOK_MS)
    if (this.#stopped()) return
    if (this.#broken) await this.#failed(BROKEN_PIPE)
    else await this.#end('completed')
    stream.end()
  }

  /** Nothing is sent any more, whatever it was that ended it. */
  #stopped(): boolean {
    return this.over || this.status === 'cancelling'
  }

  #lost(): void {
    this.#broken = true
    this.#wake?.()
    // In front of the switch QEMU writes nothing, and does not notice.
    if (this.status === 'active' || this.status === 'device') void this.#failed(BROKEN_PIPE)
  }

  async #failed(why: string): Promise<void> {
    if (this.#stopped()) return
    this.#why = why
    await this.#end('failed')
  }

  /** The migration's thread says so, and only then takes the lock of the main loop. */
  async #end(status: 'completed' | 'failed'): Promise<void> {
    const { env, loop } = this.#parts
    this.#tell(status)
    await new Promise<void>(resolve => env.timers.after(FINALIZE_MAX_MS * env.random.float(), resolve))
    await loop.run(() => this.#finish(status))
  }

  /** In the main loop. A machine that was stopped for a switch that does not come goes on by itself. */
  #finish(status: 'completed' | 'failed' | 'cancelled'): void {
    const { machine } = this.#parts
    machine.throttle = 0
    this.#wake?.()
    this.#continued.resolve()
    if (this.#executed === null) return
    if (status !== 'completed' && this.#executed) machine.start()
    else machine.state = 'postmigrate'
  }

  #tell(status: Status): void {
    this.status = status
    if (this.#parts.capabilities.has('events')) this.#parts.event('MIGRATION', { status })
  }
}
