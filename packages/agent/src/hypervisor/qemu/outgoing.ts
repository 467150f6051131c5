// The source's side of a live migration by QEMU's own pre-copy: QEMU goes round by round as long as it is told that no pause
// is short enough; when the switch is ordered any pause will do, and it stops before it hands its disks over
// (`pause-before-switchover`), which is where `released` is made durable.

import type { ByteStream, Environment, Json, Timer } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { CopyProgress, MigrationPolicy, Outgoing, Released, RoundProgress } from '../hypervisor.ts'
import { createPipe } from '../precopy/pipe.ts'
import { outgoingSocket } from './command-line.ts'
import type { QemuMachine } from './machine.ts'
import type { QmpEvent } from './qmp.ts'
import { PLAIN_PIECE_BYTES, StreamSender } from './stream-sender.ts'
import { encodeTrailer } from './trailer.ts'

const PAGE_BYTES = 4096
/** QEMU's own measure of what it has sent and dirtied is renewed this often. */
const LOOK_MS = 100
/** ms: QEMU decides by itself only for next to nothing. With 0 it would not look for dirtied pages again before it switches. */
const DOWNTIME_LEAST = 1
/** ms; the longest that QEMU takes. */
const DOWNTIME_ANY = 2_000_000
/** Bytes a second: more than any link carries. */
const BANDWIDTH_MAX = 2 ** 40
/**
 * Where next to nothing is left QEMU stops the guest for the switch by itself, and waits for its last requests; these may wait for
 * what the migration itself holds up (an extent that is given back while the disk is reserved). So long it is let.
 */
const STALL_MS = 2_000
/** Nothing was taken for so many looks: whoever is to take it hangs, or is not there. Counted, as this process may have slept itself. */
const STUCK_LOOKS = 150
/** After this many times the policy's rounds a guest is given up: a throttled one, and one that QEMU sees no reason to throttle. */
const HOPELESS_FACTOR = 2
const UNTHROTTLED_FACTOR = 4

interface Statistics {
  readonly round: number
  readonly totalBytes: number
  readonly remainingBytes: number
  readonly sentBytes: number
  readonly pages: number
  readonly dirtyBytesPerSecond: number
  readonly bytesPerSecond: number
  readonly throttle: number
}

type Phase = 'copying' | 'releasing' | 'released' | 'ended'

export class QemuOutgoing implements Outgoing {
  readonly stream: ByteStream
  readonly converged: Promise<void>
  readonly #env: Environment
  readonly #machine: QemuMachine
  readonly #policy: MigrationPolicy
  readonly #detached: () => void
  readonly #writer: ByteStream
  readonly #sender: StreamSender
  readonly #tellConverged = Promise.withResolvers<void>()
  /** QEMU's word that the guest is paused and its disks are not handed over yet; or that it will not come to that. */
  readonly #atSwitch = Promise.withResolvers<void>()
  /** QEMU's word that its migration is over, however; and the end of what it sent. */
  readonly #over = Promise.withResolvers<void>()
  readonly #streamEnded = Promise.withResolvers<void>()
  readonly #failure = Promise.withResolvers<never>()
  readonly #unlisten: () => void
  #begun: Promise<void>
  #onProgress: (progress: RoundProgress) => void = () => undefined
  #phase: Phase = 'copying'
  #paused = false
  #completed = false
  #failedByItself = false
  /** QEMU was told to migrate. */
  #migrating = false
  #stall: Timer | null = null
  #round = 0
  /** Those that were told of. */
  #rounds = 0
  #looking: Promise<void> = Promise.resolve()
  /** What QEMU said at the last look. */
  #last: Statistics | null = null
  /** The switch is waited for: there may be nothing to send. */
  #isConverged = false
  /** Looks that have found as much sent as the one before. */
  #stuckLooks = 0

  constructor(env: Environment, machine: QemuMachine, policy: MigrationPolicy, detached: () => void) {
    this.#env = env
    this.#machine = machine
    this.#policy = policy
    this.#detached = detached
    const pipe = createPipe(`migration of ${machine.life.vm}`, PLAIN_PIECE_BYTES)
    this.stream = pipe.reader
    this.#writer = pipe.writer
    this.#sender = new StreamSender(env, pipe.writer, () => this.#resume())
    this.converged = this.#tellConverged.promise
    // Told by what waits for them, if anything does.
    this.#tellConverged.promise.catch(() => undefined)
    this.#failure.promise.catch(() => undefined)
    this.#unlisten = machine.onQemuEvent(event => this.#heard(event))
    pipe.writer.onClose(() => this.#fail(new StellwerkError('stream-lost', 'the stream was dropped')))
    this.#begun = this.#begin()
    this.#begun.catch(error => this.#fail(error))
  }

  /** It was told to switch: until it has paused its guest it may wait for what that has asked for, and answers nobody. */
  get isSwitching(): boolean {
    return this.#phase === 'releasing'
  }

  /** It was told to switch, or has paused its guest for it: what the guest is given now it may read there, or never. */
  get hasBegunSwitch(): boolean {
    return this.#paused || this.#phase === 'releasing' || this.#phase === 'released'
  }

  /** The guest does not execute, and is not to: QEMU is in the middle of the switch. */
  get hasPaused(): boolean {
    return this.#paused
  }

  /** Whoever ordered the switch hears why, and aborts it. */
  giveUp(why: string): void {
    this.#fail(
      new StellwerkError('migration-stuck', `QEMU does not come to its switch: ${why}`, {
        where: this.#machine.life.vm,
      }),
    )
  }

  onProgress(f: (progress: RoundProgress) => void): void {
    this.#onProgress = f
  }

  progress(): CopyProgress | null {
    const last = this.#last
    if (last === null || last.totalBytes === 0) return null
    return {
      round: Math.max(1, this.#rounds),
      totalBytes: last.totalBytes,
      leftBytes: last.remainingBytes,
      pagesSent: last.pages,
      sentBytes: last.sentBytes,
      bytesPerSecond: last.bytesPerSecond,
      dirtyBytesPerSecond: last.dirtyBytesPerSecond,
    }
  }

  async #begin(): Promise<void> {
    const { qmp, qemu } = this.#machine
    // One of an earlier migration may still be about to go.
    const name = outgoingSocket(this.#env.random.id())
    const socket = await qemu.sockets.expect(name)
    const on = (...names: string[]): Json => names.map(capability => ({ capability, state: true }))
    await qmp.execute('migrate-set-capabilities', {
      capabilities: on('events', 'pause-before-switchover', 'auto-converge'),
    })
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': DOWNTIME_LEAST, 'max-bandwidth': BANDWIDTH_MAX })
    await qmp.execute('migrate', { uri: `unix:${name}` })
    this.#migrating = true
    const stream = await Promise.race([socket.connected, this.#failure.promise])
    // Connected once: the next migration listens anew.
    this.#relay(stream, () => socket.close())
    this.#look()
  }

  #relay(stream: ByteStream, over: () => Promise<void>): void {
    stream.onData(chunk => {
      if (!this.#sender.take(chunk)) stream.pause()
    })
    const ended = (): void => {
      stream.destroy()
      this.#streamEnded.resolve()
      void over()
    }
    stream.onEnd(ended)
    stream.onClose(ended)
    this.#resume = () => stream.resume()
  }

  #resume: () => void = () => undefined

  #heard({ event, data }: QmpEvent): void {
    if (event === 'STOP' && this.#phase !== 'copying') this.#paused = true
    else if (event === 'STOP') this.#watchStall()
    if (event === 'RESUME') this.#stall?.cancel()
    if (event === 'MIGRATION_PASS' && this.#phase === 'copying') this.#lookNow()
    if (event !== 'MIGRATION') return
    switch (data['status']) {
      case 'pre-switchover':
        this.#stall?.cancel()
        this.#paused = true
        this.#atSwitch.resolve()
        // Nothing was left to copy: it paused without being told to.
        this.#converge()
        break
      case 'completed':
        this.#completed = true
        this.#over.resolve()
        break
      case 'failed':
      case 'cancelled':
        this.#paused = false
        this.#failedByItself = true
        this.#atSwitch.resolve()
        this.#over.resolve()
        void this.#failed(String(data['status']))
    }
  }

  /** With its requests failed QEMU gives the switch up, or comes to it; nothing else gets it out of its wait. */
  #watchStall(): void {
    this.#stall?.cancel()
    this.#stall = this.#env.timers.after(STALL_MS, () => {
      // A switch that was ordered waits for them, and is the coordinator's to give up.
      if (this.#phase === 'copying' || this.#phase === 'ended') this.#machine.holdDisks()
    })
  }

  /** QEMU knows more of a failure than its event says. */
  async #failed(status: string): Promise<void> {
    const answer = await this.#machine.qmp.execute('query-migrate').catch(() => null)
    const reason = (answer as { 'error-desc'?: string } | null)?.['error-desc']
    this.#fail(new StellwerkError('stream-lost', `QEMU's migration has ${status}: ${reason ?? 'it gives no reason'}`))
  }

  // --- rounds --------------------------------------------------------------------------------------------------------

  /** As often as QEMU renews its statistics, and at the end of each round. */
  #look(): void {
    if (this.#phase !== 'copying') return
    const sentBytes = this.#last?.sentBytes
    this.#lookNow()
    this.#env.timers.after(LOOK_MS, () => {
      const isStuck = !this.#isConverged && this.#last !== null && this.#last.sentBytes === sentBytes
      this.#stuckLooks = isStuck ? this.#stuckLooks + 1 : 0
      if (this.#stuckLooks >= STUCK_LOOKS) this.#fail(this.#stuck())
      this.#look()
    })
  }

  #lookNow(): void {
    this.#looking = this.#looking.then(() => this.#judge()).catch((error: unknown) => this.#fail(error))
  }

  async #judge(): Promise<void> {
    const now = await this.#statistics()
    if (this.#phase !== 'copying' || now.round === this.#round || now.round < 2) return
    // Not measured yet: nobody knows how long a pause would be. The next look will tell.
    if (now.remainingBytes > 0 && now.bytesPerSecond === 0) return
    // QEMU counts the rounds it has begun.
    this.#round = now.round
    this.#rounds += 1
    const qemuMs = now.remainingBytes === 0 ? 0 : (now.remainingBytes * 1000) / now.bytesPerSecond
    // QEMU knows nothing of what lies between it and the link. And what all of the memory shrank to says nothing of what the guest
    // has changed meanwhile; what that did in the round before does.
    const shrinksTo = this.#rounds === 1 ? 1 : this.#sender.shrinksTo
    const forecastMs = Math.max(qemuMs, this.#sender.linkMs(now.remainingBytes * shrinksTo))
    this.#onProgress({
      round: this.#rounds,
      pagesSent: now.pages,
      bytesSent: now.sentBytes,
      dirtyPages: Math.ceil(now.remainingBytes / PAGE_BYTES),
      dirtyBytesPerSecond: now.dirtyBytesPerSecond,
      bytesPerSecond: now.bytesPerSecond,
      forecastMs,
      throttle: now.throttle,
    })
    const { downtimeMs, maxRounds, whenDiverging } = this.#policy
    if (forecastMs <= downtimeMs) this.#converge()
    else if (now.round > maxRounds && whenDiverging === 'pause') this.#converge()
    else if (now.round > maxRounds * (now.throttle > 0 ? HOPELESS_FACTOR : UNTHROTTLED_FACTOR)) {
      this.#tellConverged.reject(
        new StellwerkError(
          'not-converging',
          `after ${now.round} rounds a pause would take ${Math.round(forecastMs)} ms`,
          {
            where: this.#machine.life.vm,
            hint: 'give the VM a longer downtime, or move it when it is less busy',
          },
        ),
      )
    }
  }

  #converge(): void {
    this.#isConverged = true
    this.#tellConverged.resolve()
  }

  #stuck(): StellwerkError {
    return new StellwerkError('migration-stuck', `nothing of it was taken for ${(STUCK_LOOKS * LOOK_MS) / 1_000} s`, {
      where: this.#machine.life.vm,
      hint: 'see that the target host and the network between the two are well, and move it again',
    })
  }

  async #statistics(): Promise<Statistics> {
    const answer = (await this.#machine.qmp.execute('query-migrate')) as { readonly [key: string]: Json }
    const ram = (answer['ram'] ?? {}) as { readonly [key: string]: number }
    this.#last = {
      round: ram['dirty-sync-count'] ?? 0,
      totalBytes: ram['total'] ?? 0,
      remainingBytes: ram['remaining'] ?? 0,
      sentBytes: ram['transferred'] ?? 0,
      pages: (ram['normal'] ?? 0) + (ram['duplicate'] ?? 0),
      dirtyBytesPerSecond: (ram['dirty-pages-rate'] ?? 0) * PAGE_BYTES,
      bytesPerSecond: ((ram['mbps'] ?? 0) * 1e6) / 8,
      throttle: Number(answer['cpu-throttle-percentage'] ?? 0) / 100,
    }
    return this.#last
  }

  // --- the switch ----------------------------------------------------------------------------------------------------

  async release(trailer: () => Promise<Json>): Promise<Released> {
    if (this.#phase !== 'copying') throw aborted()
    return Promise.race([this.#release(trailer), this.#failure.promise])
  }

  async #release(trailer: () => Promise<Json>): Promise<Released> {
    const { qmp, life } = this.#machine
    this.#phase = 'releasing'
    await this.#looking
    await this.#begun
    // Paused by itself it reads nothing any more, and each moment counts.
    if (!this.#paused) await this.#machine.console.read
    this.#stillReleasing()
    await qmp.execute('migrate-set-parameters', { 'downtime-limit': DOWNTIME_ANY })
    await this.#atSwitch.promise
    this.#stillReleasing()
    life.release()
    this.#machine.console.hold()
    this.#machine.wanted()
    await this.#machine.drained()
    // A request of the guest may have taken longer than the coordinator's patience: the guest runs again.
    this.#stillReleasing()
    const handedOver = await trailer()
    this.#stillReleasing()
    await qmp.execute('migrate-continue', { state: 'pre-switchover' })
    await Promise.all([this.#over.promise, this.#streamEnded.promise])
    await this.#sender.idle()
    const { sentBytes, pages } = await this.#statistics()
    this.#stillReleasing()
    this.#phase = 'released'
    // All that the guest has said was read by now: QEMU has written it before it stopped.
    this.#sender.end(encodeTrailer({ handedOver, port: this.#machine.console.handover }))
    return { rounds: this.#rounds + 1, pagesSent: pages, bytesSent: sentBytes, stateChecksum: this.#sender.checksum }
  }

  #stillReleasing(): void {
    if (this.#phase !== 'releasing') throw aborted()
    if (this.#failedByItself || this.#machine.life.dead)
      throw new StellwerkError('stream-lost', 'the migration has failed')
  }

  abort(beforeResume?: (stateChecksum: number) => void): Promise<void> {
    return this.#machine.insist('give its migration up', this.#abort(beforeResume))
  }

  async #abort(beforeResume?: (stateChecksum: number) => void): Promise<void> {
    const { life } = this.#machine
    const phase = this.#phase
    this.#phase = 'ended'
    this.#sender.discard()
    this.#resume()
    let paused = phase === 'released'
    if (!paused) {
      this.#fail(aborted())
      // A beginning that failed was told as the migration's failure.
      await this.#begun.catch(() => undefined)
      paused = phase === 'releasing' || this.#paused
      if (this.#migrating && !this.#failedByItself && !life.dead) {
        await (paused ? this.#finishIntoNothing() : this.#cancel())
      }
    }
    if (paused && !life.dead) beforeResume?.(this.#sender.checksum)
    this.#end()
    life.unrelease()
    this.#machine.wanted()
    await this.#machine.settled()
  }

  /** QEMU lets a guest go on by itself when a switch is cancelled; one that is completed stands still until it is told to. */
  async #finishIntoNothing(): Promise<void> {
    // On its way to the switch QEMU waits for the guest's requests, and answers nobody meanwhile.
    this.#machine.holdDisks()
    await this.#atSwitch.promise
    if (this.#completed) return
    // Refused, it is over already; whatever comes of it, its events say so.
    await this.#machine.qmp.execute('migrate-continue', { state: 'pre-switchover' }).catch(() => undefined)
    await this.#over.promise
  }

  async #cancel(): Promise<void> {
    // As above: what comes of it is told by events.
    await this.#machine.qmp.execute('migrate_cancel').catch(() => undefined)
    await this.#over.promise
  }

  /** The machine is gone, and with it everything that would have been sent. */
  machineEnded(error: StellwerkError): void {
    this.#fail(error)
    this.#atSwitch.resolve()
    this.#over.resolve()
    this.#streamEnded.resolve()
    this.#end()
  }

  #fail(error: unknown): void {
    this.#tellConverged.reject(error)
    this.#failure.reject(error)
    if (this.#phase !== 'released') this.#writer.destroy()
  }

  #end(): void {
    this.#stall?.cancel()
    this.#paused = false
    this.#unlisten()
    this.#detached()
  }
}

function aborted(): StellwerkError {
  return new StellwerkError('aborted', 'the migration was aborted')
}
