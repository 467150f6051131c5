// One QEMU as a machine. QEMU says by events whether the guest executes; what is wanted follows from the machine's own
// life and its right to run, and `#settle` brings the one to the other, one command after the other.

import { assert } from '@stellwerk/runtime/assert.ts'
import { canary } from '@stellwerk/runtime/canary.ts'
import type { CommandExit, Timer } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type {
  Dead,
  GuestFiles,
  Machine,
  MachineEvent,
  MachineSpec,
  MachineState,
  MigrationPolicy,
  NetworkPort,
  Outgoing,
  SerialPort,
} from '../hypervisor.ts'
import { Lifecycle } from '../lifecycle.ts'
import { type HypervisorOptions, stepEvidence } from '../options.ts'
import { beingSwitched, consoleBusy, hasEnded } from '../refusals.ts'
import { SerialConsole } from './console.ts'
import { GuestAgent } from './guest-agent.ts'
import type { GuestDisk } from './guest-disk.ts'
import { GuestNic } from './guest-nic.ts'
import { Notices } from './notices.ts'
import { QemuOutgoing } from './outgoing.ts'
import { lastWords, type QemuProcess } from './qemu-process.ts'
import type { Qmp, QmpEvent } from './qmp.ts'
import { SilenceWatch } from './silence-watch.ts'

/** The guest is stopped so long before its right to run ends: QEMU takes a moment to obey. */
const STOP_AHEAD_MS = 100
/** How often the right to run is looked at while the guest executes. */
const WATCH_MS = 25
/** An operating system that was not up yet, or stood still, has not heard the power button: it is pressed again. */
const POWER_BUTTON_MS = 3_000
/** Run states that nothing leads out of. */
const FINAL_STATES: readonly string[] = ['internal-error', 'guest-panicked', 'watchdog', 'shutdown']
/** After a request failed the machine stands still so long, then tries again. */
const DISK_RETRY_MS = 500
/** The word of QEMU (qmp_cont) between the end of a migration and its own state; and how long it is given. */
const NOT_FINALIZED = /not finalized/
const FINALIZE_MS = 10

export interface MachineIdentity {
  epoch: number
  readonly instance: string
}

export class QemuMachine implements Machine {
  readonly qemu: QemuProcess
  readonly life: Lifecycle
  readonly #options: HypervisorOptions
  readonly #spec: MachineSpec
  readonly #identity: MachineIdentity
  readonly #disks: readonly GuestDisk[]
  readonly console: SerialConsole
  readonly #agent: GuestAgent | null
  /** By QEMU's own word; and how often it has said it. */
  #executes = false
  #changes = 0
  /** The end of the right to run is near, or here: stopped until there is a new one. */
  #lapsed = false
  #settling: Promise<void> = Promise.resolve()
  #watch: Timer | null = null
  #retry: Timer | null = null
  #button: Timer | null = null
  #shutdownSeen: string | null = null
  #panicSeen = false
  #outgoing: QemuOutgoing | null = null
  readonly #notices: Notices
  readonly #silence: SilenceWatch
  readonly #qemuListeners = new Set<(event: QmpEvent) => void>()

  constructor(
    options: HypervisorOptions,
    spec: MachineSpec,
    identity: MachineIdentity,
    qemu: QemuProcess,
    disks: readonly GuestDisk[],
    ports: readonly NetworkPort[],
  ) {
    this.#options = options
    this.#spec = spec
    this.#identity = identity
    this.qemu = qemu
    this.#disks = disks
    this.life = new Lifecycle(spec.vm)
    this.console = new SerialConsole(qemu.console, options.env.timers, options.env.random.id(), {
      line: line => this.#said({ kind: 'console', line, said: options.env.trace.stamp() }),
      prompt: text => this.#said({ kind: 'prompt', text }),
      output: (bytes, port) => this.#said({ kind: 'output', bytes, port }),
    })
    const runs = (): boolean => this.life.runs && !this.#lapsed
    const mayPass = (): boolean => this.mayPass()
    qemu.nics.forEach((stream, index) => {
      const port = ports[index]
      if (port !== undefined) new GuestNic(port, stream, runs, mayPass)
    })
    this.#notices = new Notices(options.env.clock, notice => this.life.tell(notice))
    this.#agent = this.#agentOf(qemu)
    qemu.qmp.onEvent(event => this.#heard(event))
    qemu.onExit(exit => void this.#exited(exit))
    this.#silence = this.#watchSilence()
  }

  get qmp(): Qmp {
    return this.qemu.qmp
  }

  get state(): MachineState {
    return this.life.state
  }

  get files(): GuestFiles | undefined {
    return this.#agent?.files
  }

  onEvent(f: (event: MachineEvent) => void): void {
    this.life.onEvent(f)
  }

  onQemuEvent(f: (event: QmpEvent) => void): () => void {
    this.#qemuListeners.add(f)
    return () => this.#qemuListeners.delete(f)
  }

  /**
   * Of a machine that an earlier agent has left: what it is in is found out, and what was under way is ended. Rejects with
   * `qemu-failed` where nothing leads out of it.
   */
  found(): Promise<void> {
    return this.insist('say what it is in', this.#found())
  }

  async #found(): Promise<void> {
    await this.#endMigration()
    const changes = this.#changes
    const { status, running } = (await this.qmp.execute('query-status')) as { status: string; running: boolean }
    if (this.#changes === changes) this.#executes = running
    await this.#agent?.find(this.qmp)
    if (!FINAL_STATES.includes(status) && status !== 'inmigrate') return
    throw new StellwerkError('qemu-failed', `QEMU has stopped it for good: ${status}`, { where: `vm ${this.life.vm}` })
  }

  /** Its stream has ended with the agent that took it. */
  async #endMigration(): Promise<void> {
    const underWay = async (): Promise<boolean> => {
      const { status } = (await this.qmp.execute('query-migrate')) as { status?: string }
      return status !== undefined && !['none', 'completed', 'failed', 'cancelled'].includes(status)
    }
    for (let isFirst = true; await underWay(); isFirst = false) {
      // Refused, it is over by now.
      if (isFirst) await this.qmp.execute('migrate_cancel').catch(() => undefined)
      await new Promise<void>(resolve => void this.#options.env.timers.after(FINALIZE_MS, resolve))
    }
  }

  /** A received machine takes its epoch from the commit. */
  arrive(epoch: number): void {
    this.#identity.epoch = epoch
  }

  start(): void {
    // It may have ended while it waited for its commit or its lease: then its end is told, and there is nothing to start.
    if (this.life.dead) return
    this.life.start()
    this.wanted()
  }

  async freeze(_why: string): Promise<void> {
    this.life.hold()
    // At once: what QEMU is busy with may be just these requests.
    this.holdDisks()
    this.wanted()
    await this.#settling
  }

  thaw(): void {
    this.life.unhold()
    this.#lapsed = false
    this.wanted()
  }

  input(line: string): void {
    this.#type(Buffer.from(`${line}\n`, 'utf8'))
  }

  get port(): SerialPort {
    return { life: this.console.life, type: keys => this.#type(keys) }
  }

  #type(keys: Uint8Array): void {
    if (this.life.dead) throw hasEnded(this.life.vm)
    if (this.#outgoing?.hasBegunSwitch === true) throw beingSwitched(this.life.vm)
    if (!this.console.type(keys)) throw consoleBusy(this.life.vm)
  }

  /** QEMU waits for the guest's requests before it resets its disks, as it does when it stops: they are answered by errors first. */
  reset(pulled: () => void = () => undefined): Promise<void> {
    const done = this.#settling.then(() => this.#reset(pulled))
    // Whoever asked for it hears why not.
    this.#settling = done.catch(() => undefined)
    this.wanted()
    return done
  }

  async #reset(pulled: () => void): Promise<void> {
    if (this.life.dead) throw hasEnded(this.life.vm)
    if (this.#outgoing?.hasPaused === true) throw beingSwitched(this.life.vm)
    const { promise: begunAnew, resolve } = Promise.withResolvers<void>()
    const unlisten = this.onQemuEvent(({ event, data }) => {
      // The guest may begin anew by itself at that moment, which is not what was asked for.
      if (event === 'RESET' && data['reason'] === 'host-qmp-system-reset') resolve()
    })
    this.holdDisks()
    pulled()
    try {
      await this.insist('take a reset', this.qmp.execute('system_reset'))
      // Only then are its disks served again: what it asked for before is not asked for any more.
      await this.insist('reset its guest', Promise.race([begunAnew, this.qmp.ended]))
    } finally {
      unlisten()
    }
  }

  /** The power button, and the agent in the guest where one answers: an operating system that listens to either shuts down. */
  shutdown(): boolean {
    if (this.life.dead) return false
    if (this.#button === null) this.#pressButton()
    return true
  }

  #pressButton(): void {
    if (this.#executes) {
      this.#agent?.shutdown()
      this.#command('system_powerdown')
    }
    this.#button = this.#options.env.timers.after(POWER_BUTTON_MS, () => this.#pressButton())
  }

  kill(): Promise<Dead> {
    return this.life.death(async () => {
      if (this.life.die()) this.#stop()
      this.qemu.kill()
      await this.qemu.gone
      await Promise.all(this.#disks.map(disk => disk.settled()))
    })
  }

  send(policy: MigrationPolicy): Outgoing {
    assert(this.#outgoing === null, `${this.life.vm} is being sent already`)
    const outgoing = new QemuOutgoing(this.#options.env, this, policy, () => {
      if (this.#outgoing === outgoing) this.#outgoing = null
    })
    this.#outgoing = outgoing
    return outgoing
  }

  /** What a migration asks: the disks have nothing under way any more. */
  async drained(): Promise<void> {
    await Promise.all(this.#disks.map(disk => disk.settled()))
  }

  /** Their requests fail until the machine goes on. */
  holdDisks(): void {
    for (const disk of this.#disks) disk.hold()
  }

  /** Resolves when QEMU does what was wanted of it when this was asked. */
  settled(): Promise<void> {
    return this.#settling
  }

  /** Whether a request or a word may pass. Who may not run is stopped here. */
  mayPass(): boolean {
    if (!this.life.runs || this.#lapsed) return false
    if (!this.#options.mayExecute(this.life.vm)) {
      this.#lostRight()
      return false
    }
    if (this.#options.env.trace.on('io')) this.#options.evidence(stepEvidence(this.#spec, this.#identity))
    return true
  }

  // --- executing or not ----------------------------------------------------------------------------------------------

  /** Something may be wanted otherwise now. */
  wanted(): void {
    this.#settling = this.#settling.then(() => this.#settle())
  }

  async #settle(): Promise<void> {
    if (this.life.dead) return
    this.#judgeRight()
    const run = this.life.runs && !this.#lapsed
    this.#watchRight()
    for (const disk of this.#disks) {
      if (run) disk.admit()
      else disk.hold()
    }
    // It stays here: what was kept for its target is heard.
    if (run) this.console.unhold()
    if (run === this.#executes || this.#outgoing?.hasPaused === true) return
    try {
      // Its event comes before its answer.
      await this.insist(run ? 'go on' : 'stand still', this.qmp.execute(run ? 'cont' : 'stop'))
      if (run) this.console.resume()
      else if (this.#executes) await this.#disobeyed('it said that it had stopped, and goes on')
    } catch (error) {
      // On its way to a switch QEMU does not let a guest go on; what comes of the migration is told, and looked at then.
      const isRefused = run && errorCode(error) === 'qmp-refused'
      if (isRefused && this.#outgoing !== null) this.#tryAgain(DISK_RETRY_MS)
      // It says that a migration is over a moment before it is.
      else if (isRefused && NOT_FINALIZED.test(errorMessage(error))) this.#tryAgain(FINALIZE_MS)
      else await this.#disobeyed(errorCode(error) === 'qmp-closed' ? null : errorMessage(error))
    }
  }

  /** Nobody knows what it is in, or whether it goes on: it is ended, and only then has anybody an answer. */
  async #disobeyed(why: string | null): Promise<void> {
    this.qemu.kill()
    await this.qemu.gone
    // Null: it is gone, or will not talk; how it ended is told by its exit.
    if (why !== null) this.#end({ kind: 'crashed', reason: `QEMU did not obey: ${why}` })
  }

  #judgeRight(): void {
    if (!this.life.runs) return
    const { env } = this.#options
    if (!this.#options.mayExecute(this.life.vm)) {
      this.life.hold()
      this.life.tell({ kind: 'frozen', reason: 'no lease' })
      return
    }
    this.#lapsed = this.#options.until(this.life.vm) - env.clock.now() <= STOP_AHEAD_MS
  }

  #lostRight(): void {
    this.life.hold()
    this.holdDisks()
    this.life.tell({ kind: 'frozen', reason: 'no lease' })
    this.wanted()
  }

  #watchRight(): void {
    this.#watch?.cancel()
    this.#watch = null
    if (!this.life.runs) return
    this.#watch = this.#options.env.timers.after(WATCH_MS, () => {
      const near = this.#options.until(this.life.vm) - this.#options.env.clock.now() <= STOP_AHEAD_MS
      if (near !== this.#lapsed || !this.#options.mayExecute(this.life.vm)) this.wanted()
      else this.#watchRight()
    })
  }

  // --- what QEMU and the guest say -----------------------------------------------------------------------------------

  #agentOf({ dialAgent }: QemuProcess): GuestAgent | null {
    if (dialAgent === null) return null
    const agent = new GuestAgent({
      ...{ env: this.#options.env, vm: this.life.vm, dial: dialAgent },
      runs: () => this.#executes && this.life.runs,
      mayPass: () => this.mayPass(),
      told: facts => this.life.tell({ kind: 'guest', facts }),
    })
    this.onQemuEvent(event => agent.heard(event))
    return agent
  }

  /** What it says without a right is not heard, as if the host had died a moment ago. */
  #said(event: MachineEvent): void {
    if (this.mayPass() || canary('late-word-heard')) this.life.tell(event)
  }

  #heard(event: QmpEvent): void {
    this.#notices.heard(event)
    switch (event.event) {
      case 'STOP':
        this.#changes += 1
        this.#executes = false
        if (this.life.runs && !this.#lapsed && this.#outgoing === null) void this.#stoppedByItself()
        break
      case 'RESUME':
        this.#changes += 1
        this.#executes = true
        // Not asked for: an aborted migration lets the guest go on by itself.
        this.wanted()
        break
      case 'BLOCK_IO_ERROR':
        if (event.data['action'] === 'stop') this.#tryAgain(DISK_RETRY_MS)
        break
      case 'GUEST_PANICKED':
        this.#broken('its operating system has panicked')
        break
      case 'WATCHDOG':
        this.#broken('its watchdog was not fed')
        break
      case 'SHUTDOWN':
        this.#shutdownSeen = String(event.data['reason'] ?? 'shutdown')
        break
    }
    for (const listener of this.#qemuListeners) listener(event)
  }

  /** By the guest's own word, or for want of one: QEMU has stopped it, and it is not to go on. */
  #broken(reason: string): void {
    this.#panicSeen = true
    this.#end({ kind: 'crashed', reason })
    this.qemu.kill()
  }

  /** Nobody asked for it: a disk that failed, or a processor that can't go on. */
  async #stoppedByItself(): Promise<void> {
    const answer = await this.qmp.execute('query-status').catch(() => null)
    const status = String((answer as { status?: string } | null)?.status)
    if (this.life.dead || this.#executes) return
    if (FINAL_STATES.includes(status)) {
      this.qemu.kill()
      this.#end({ kind: 'crashed', reason: `QEMU has stopped it for good: ${status}` })
    } else this.#tryAgain(DISK_RETRY_MS)
  }

  /** A disk that fails holds the guest up, and is tried again: the guest itself never hears of it. */
  #tryAgain(afterMs: number): void {
    if (this.#retry !== null) return
    this.#retry = this.#options.env.timers.after(afterMs, () => {
      this.#retry = null
      this.wanted()
    })
  }

  /** What nothing of the guest's can hold up, since its disks are held or it is only let go on: a QEMU that does not come to it is ended. */
  insist<T>(on: string, done: Promise<T>): Promise<T> {
    return this.#silence.insist(on, done)
  }

  #watchSilence(): SilenceWatch {
    return new SilenceWatch(this.#options.env.timers, {
      isExpected: () => !this.#executes || this.#shutdownSeen !== null,
      ask: () => this.qmp.execute('query-status'),
      // Into a switch that nobody has ordered it comes by itself.
      waits: () => {
        if (this.#outgoing?.isSwitching === false) this.holdDisks()
      },
      answers: () => this.wanted(),
      ends: why => {
        if (canary('hang-unseen')) return false
        // On its way into an ordered one it may wait for the guest's requests, until that is held: whoever ordered it hears of it.
        const outgoing = this.life.held ? null : this.#outgoing
        const mayWait = outgoing?.isSwitching === true
        if (mayWait) outgoing.giveUp(why)
        else void this.#disobeyed(why)
        return !mayWait
      },
    })
  }

  #command(command: string): void {
    this.qmp.execute(command).catch((error: unknown) => {
      const { log } = this.#options.env
      log.warn({ vm: this.life.vm, code: errorCode(error) }, `QEMU did not take ${command}: ${errorMessage(error)}`)
    })
  }

  async #exited(exit: CommandExit): Promise<void> {
    // Its last words come before its end.
    await Promise.all([this.console.ended, this.qmp.ended])
    if (this.#shutdownSeen === 'guest-shutdown') this.#end({ kind: 'halted', reason: 'the guest has powered off' })
    else if (!this.#panicSeen) this.#end({ kind: 'crashed', reason: lastWords(exit) })
  }

  #end(event: MachineEvent): void {
    if (!this.life.die()) return
    this.#stop()
    this.life.tell(event)
  }

  /** It is dead: nothing of it passes any more. */
  #stop(): void {
    this.#watch?.cancel()
    this.#retry?.cancel()
    this.#button?.cancel()
    this.#silence.stop()
    this.#agent?.end()
    for (const disk of this.#disks) disk.refuse()
    this.#outgoing?.machineEnded(new StellwerkError('stream-lost', 'the machine has ended', { where: this.life.vm }))
  }
}
