// A VM on this host: opens its disks, starts it when it may run, freezes and thaws it with the leases, stops it, kills it
// when it is fenced. Its migration lives in ../migration/. Work that takes time reports back by messages to itself.

import type { ReportedMachine, VmOrder } from '@stellwerk/protocol/messages/cluster.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { describeError, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { LeftMachineFacts, Machine, MachineEvent, MachineNotice, MachineSpec } from '../hypervisor/hypervisor.ts'
import { IncomingMigration, type ReceiveOrder } from '../migration/incoming-migration.ts'
import { OutgoingMigration, type SendOrder } from '../migration/outgoing-migration.ts'
import type { DiskSet } from '../volume/disk-set.ts'
import { ActorTasks, TASK } from './actor-tasks.ts'
import { CoordinatorLine } from './coordinator-line.ts'
import { Evidence } from './evidence.ts'
import { gateIn } from './gated.ts'
import { giveInput, type InputOrder, type KeysOrder, obeyGuestOrder } from './guest-orders.ts'
import { GuestShutdown } from './guest-shutdown.ts'
import { passWords } from './guest-words.ts'
import { MachineReports } from './machine-reports.ts'
import { Opening } from './opening.ts'
import { StandingStill } from './standing-still.ts'
import type { VmParts } from './vm-parts.ts'
import { type Ending, type Phase, SHUTDOWN_LATE } from './vm-phase.ts'
import { VmPorts } from './vm-ports.ts'

export class VmActor implements Behavior {
  readonly parts: VmParts
  readonly order: VmOrder
  readonly evidence: Evidence
  readonly instance: string
  readonly opening: Opening
  readonly network: VmPorts
  readonly coordinator: CoordinatorLine
  readonly #receive: ReceiveOrder | null
  /** What is to be taken over. */
  readonly #left: LeftMachineFacts | null
  readonly #still: StandingStill
  readonly #reports: MachineReports
  readonly #tasks: ActorTasks
  #phase: Phase
  #disks: DiskSet | null = null
  #machine: Machine | null = null
  #outgoing: OutgoingMigration | null = null
  #incoming: IncomingMigration | null = null
  #fenced = false
  /** What it is to end as; the first reason counts. */
  #ending: Ending | null = null
  #freezing = false
  /** Why it runs when it is thawed next. */
  #thawedTo: 'thaw' | 'resume' = 'thaw'
  /** A migration ends before the guest is asked. */
  readonly #shutdown = new GuestShutdown()
  #context: ActorContext | null = null

  constructor(parts: VmParts, order: VmOrder, receive: ReceiveOrder | null) {
    this.parts = parts
    this.order = order
    this.#receive = receive
    this.#left = order.adopts === undefined ? null : parts.left.find(order.vm)
    this.instance = this.#left?.instance ?? parts.env.random.id()
    this.evidence = new Evidence(parts, order, this.instance)
    this.network = new VmPorts(parts.port, order)
    this.coordinator = new CoordinatorLine(parts, order.vm)
    this.#reports = new MachineReports(order, parts.report)
    this.#tasks = new ActorTasks(order.vm, parts.env.log, () => this.#phase === 'over')
    this.#still = new StandingStill(this.evidence, why => this.#report('frozen', why))
    this.#phase = receive === null ? 'opening' : 'incoming'
    this.opening = new Opening(parts, order, why => this.#report(receive === null ? 'starting' : 'incoming', why))
  }

  get phase(): Phase {
    return this.#phase
  }

  /** For what it does to itself later: `then` runs as a message of this actor, in order with the others. */
  task<T>(work: Promise<T>, then: (value: T) => void, failed: (error: unknown) => void): void {
    this.#tasks.run(work, then, failed)
  }

  #soon(run: () => void): void {
    this.task(Promise.resolve(), run, () => undefined)
  }

  started(context: ActorContext): void {
    this.#context = context
    this.coordinator.open(context)
    this.#tasks.open(context)
    if (this.#receive !== null) {
      this.#report('incoming', null)
      this.#incoming = new IncomingMigration(this, this.#receive)
      return
    }
    this.#report('starting', null)
    this.task(
      this.opening.attach(),
      disks => this.#opened(disks),
      error => this.#fail(`${this.opening.failure}: ${errorMessage(error)}`),
    )
  }

  receive(message: Message, context: ActorContext): void {
    if (message.kind === TASK) {
      ;(message.body as () => void)()
      return
    }
    if (message.re !== undefined) return
    try {
      this.#take(message, context)
    } catch (error) {
      // A refused order is the asker's affair; anything else is a bug.
      if (!(error instanceof StellwerkError)) throw error
      context.fail(message, error)
    }
  }

  #take(message: Message, context: ActorContext): void {
    switch (message.kind) {
      case 'vm.right-changed':
        this.#evaluate()
        break
      case 'vm.end':
        this.#stop((message.body as { graceMs: number }).graceMs)
        break
      case 'vm.stop-due':
        if (this.#shutdown.over(this.parts.env.clock.now())) this.#end(SHUTDOWN_LATE)
        break
      case 'vm.fenced':
        this.#fence()
        break
      case 'vm.input':
      case 'console.keys':
        context.reply(message, giveInput(message.body as InputOrder | KeysOrder, this.#machine, this.#phase))
        return
      case 'vm.notice':
        this.evidence.notice(message.body as MachineNotice)
        break
      case 'vm.reset':
      case 'vm.freeze-files':
      case 'vm.thaw-files':
        this.#obeyed(message, context)
        return
      case 'migration.send':
        this.#send(message.body as SendOrder)
        break
      case 'migration.switch':
        this.#outgoing?.switchOver((message.body as { migration: string }).migration)
        break
      case 'migration.commit':
      case 'migration.abort': {
        const { migration } = message.body as { migration: string }
        const outcome = message.kind === 'migration.commit' ? 'committed' : 'aborted'
        if (this.#outgoing?.id === migration) this.#outgoing.outcome(migration, outcome)
        else if (this.#incoming?.id === migration) this.#incoming.outcome(migration, outcome)
        else this.coordinator.reportDone(migration, {})
        break
      }
      default:
        context.fail(message, new StellwerkError('unknown-kind', `a VM does not take ${message.kind}`))
        return
    }
    if (message.deadlineAt !== null) context.reply(message, {})
  }

  #obeyed(message: Message, context: ActorContext): void {
    this.task(
      obeyGuestOrder(message, this.#machine, { epoch: this.order.epoch, phase: this.#phase }, this.evidence),
      answer => context.reply(message, answer),
      error => context.fail(message, error),
    )
  }

  // --- starting ------------------------------------------------------------------------------------------------------------

  #opened(disks: DiskSet): void {
    this.#takeDisks(disks)
    if (this.#fenced || this.#ending !== null) {
      this.#finish()
      return
    }
    this.task(
      this.opening.create(this.machineSpec(), disks, this.network.ports, () => this.phase === 'over'),
      machine => {
        this.#machine = machine
        machine.onEvent(event => this.#heard(event))
        if (this.order.adopts !== undefined) this.parts.left.taken(this.order.vm)
        if (this.#fenced || this.#ending !== null) return this.#finish()
        this.#phase = 'standing'
        this.gateIn(disks)
        this.#evaluate()
      },
      error => this.#fail(`it cannot be created: ${describeError(error)}`),
    )
  }

  #takeDisks(disks: DiskSet): void {
    this.#disks = disks
    this.#still.watch(disks, () => this.#soon(() => this.#evaluate()))
  }

  machineSpec(): MachineSpec {
    return { vm: this.order.vm, ...this.order.spec, identity: { epoch: this.order.epoch, instance: this.instance } }
  }

  gateIn(disks: Pick<DiskSet, 'storages'>): void {
    const context = this.#context
    gateIn(this.parts.gate, this.order, disks, this.evidence, this.#left, () => {
      if (this.#phase !== 'over') context?.send(context.self, 'vm.right-changed', null)
    })
  }

  #heard(event: MachineEvent): void {
    switch (event.kind) {
      case 'notice':
        this.#context?.send(this.#context.self, 'vm.notice', event)
        break
      case 'guest':
        if (this.#phase !== 'over') this.#reports.guest(event.facts)
        break
      case 'frozen':
        this.#soon(() => this.#evaluate(true))
        break
      case 'halted':
      case 'crashed': {
        const state = event.kind === 'halted' && this.#shutdown.asked ? 'stopped' : event.kind
        this.evidence.halted(event.kind)
        this.#soon(() => this.#end({ state, why: event.reason }))
        break
      }
      default:
        passWords(event, this.parts, this.order, this.evidence)
    }
  }

  // --- running and standing still --------------------------------------------------------------------------------------------

  /** Compares what it does with what it may do. `held`: it stands still by itself, though the right may have come back by now. */
  #evaluate(held = false): void {
    if (this.#fenced) return
    // A machine that was received and committed, but had no right to run at that moment, is not ours yet.
    this.#incoming?.mayRunNow()
    const machine = this.#machine
    if (machine === null || this.#ending !== null) return
    const may = this.parts.gate.mayExecute(this.order.vm)
    if (this.#phase === 'standing' && may) {
      this.#phase = 'running'
      this.evidence.runs(this.order.adopts === undefined ? 'start' : 'adopt')
      machine.start()
      this.#reportRunning()
    } else if (this.#phase === 'running' && (held || !may)) {
      this.#freeze(machine, 'the right to run is gone')
    } else if (this.#phase === 'running' && this.#still.critical !== null) {
      this.#freeze(machine, this.#still.critical)
    } else if (this.#phase === 'frozen') {
      this.#still.frozen()
      if (this.#still.critical === null) this.#thaw(machine)
    }
  }

  #freeze(machine: Machine, why: string): void {
    if (this.#freezing) return
    this.#freezing = true
    this.task(
      machine.freeze(why),
      () => {
        this.#freezing = false
        if (this.#phase !== 'running' || this.#ending !== null || this.#fenced) return
        this.#phase = 'frozen'
        this.evidence.halted('frozen')
        this.parts.gate.setFrozen(this.order.vm, true)
        this.#still.frozen()
        this.#evaluate()
      },
      error => this.#fail(`it cannot be frozen: ${errorMessage(error)}`),
    )
  }

  /** First the lease, then the guardian's word on the new deadline, then the thaw. */
  #thaw(machine: Machine): void {
    const { gate } = this.parts
    const { vm } = this.order
    const isLeased = gate.leased(vm)
    gate.setFrozen(vm, !isLeased)
    if (!isLeased || !gate.mayExecute(vm)) return
    this.#phase = 'running'
    this.evidence.runs(this.#thawedTo)
    this.#thawedTo = 'thaw'
    machine.thaw()
    this.#reportRunning()
  }

  #reportRunning(): void {
    this.network.up()
    this.#still.runs()
    this.#report(this.#outgoing === null ? 'running' : 'outgoing', null)
  }

  // --- migration -------------------------------------------------------------------------------------------------------------

  #send(order: SendOrder): void {
    if (this.#outgoing?.id === order.migration) return
    const { vm, epoch } = this.order
    if (this.#phase !== 'running' || order.epoch !== epoch || this.#machine === null || this.#disks === null) {
      throw new StellwerkError('not-running', `VM "${vm}" is ${this.#phase} here, at placement epoch ${epoch}`)
    }
    if (this.#outgoing !== null) throw new StellwerkError('migrating', `VM "${vm}" is being sent already`)
    this.#outgoing = new OutgoingMigration(this, this.#machine, this.#disks, order)
    this.#reportRunning()
  }

  /** The switch-over has paused it: from here on leases neither freeze nor thaw it, and it has no deadline. */
  paused(): void {
    this.network.down()
    this.evidence.halted('released')
    if (this.#phase !== 'running' && this.#phase !== 'frozen') return
    this.#phase = 'released'
    this.parts.gate.setFrozen(this.order.vm, true)
  }

  /** The source stands still for good, unless the migration is aborted. */
  released(): void {
    if (this.#phase === 'released') this.#report('released', null)
  }

  /** The migration out was aborted; `paused`: by its switch-over the machine was, and it is held now as if frozen. */
  sendingEnded(paused: boolean): void {
    this.#outgoing = null
    if (this.#ending !== null || this.#fenced) {
      this.#finish()
      return
    }
    if (paused) {
      if (this.#phase !== 'released') this.evidence.halted('frozen')
      this.#phase = 'frozen'
      this.#thawedTo = 'resume'
      this.parts.gate.setFrozen(this.order.vm, true)
    }
    if (this.#phase === 'running') this.#reportRunning()
    this.#askGuest()
    this.#evaluate()
  }

  /** The machine is somebody else's: what is left of it here goes without a word. */
  handedOver(): void {
    this.#outgoing = null
    this.#letGo()
  }

  arrived(machine: Machine, disks: DiskSet): void {
    this.#incoming = null
    this.#machine = machine
    this.#takeDisks(disks)
    this.#phase = 'running'
    machine.onEvent(event => this.#heard(event))
    if (this.#ending !== null || this.#fenced) {
      this.#finish()
      return
    }
    this.#reportRunning()
    this.#evaluate()
  }

  /** The migration in was aborted: there never was a machine here. */
  receivingEnded(): void {
    this.#incoming = null
    this.#letGo()
  }

  // --- ending ----------------------------------------------------------------------------------------------------------------

  #fail(why: string): void {
    this.parts.env.log.warn({ vm: this.order.vm }, why)
    // It was told to end while it opened: what was waited for has failed, and nothing else comes back.
    if (this.#phase === 'opening' && this.#ending !== null) this.#finish()
    else this.#end({ state: 'failed', why })
  }

  /** The guest is given time to end by itself; what can't be asked, or has no time, ends at once. */
  #stop(graceMs: number): void {
    if (this.#ending !== null || this.#fenced || this.#phase === 'over') return
    const lives = this.#phase === 'running' || this.#phase === 'frozen' || this.#phase === 'released'
    if (graceMs <= 0 || !lives || this.#machine === null) {
      this.#end({ state: 'stopped', why: null })
      return
    }
    if (!this.#shutdown.begin(this.parts.env.clock.now() + graceMs)) return
    this.#context?.after(graceMs, 'vm.stop-due', null)
    this.#report('stopping', 'its guest is to shut down')
    if (this.#outgoing !== null) this.#outgoing.cancel('the VM is being stopped')
    this.#askGuest()
  }

  #askGuest(): void {
    if (this.#machine === null || this.#outgoing !== null || !this.#shutdown.ask()) return
    if (!this.#machine.shutdown()) this.#end({ state: 'stopped', why: null })
  }

  #end(ending: Ending): void {
    if (this.#ending !== null || this.#fenced || this.#phase === 'over') return
    this.#ending = ending
    this.opening.cancel()
    this.#report('stopping', ending.why)
    // What is being opened, sent or received ends at its next step and comes back here.
    if (this.#outgoing !== null) this.#outgoing.cancel('the VM is being stopped')
    else if (this.#incoming !== null) this.#incoming.cancel('the VM is being stopped')
    else if (this.#phase !== 'opening' || this.#disks !== null || ending.state === 'failed') this.#finish()
  }

  /** Our epoch is refused: nothing of it may go on, and nobody is asked. */
  #fence(): void {
    if (this.#fenced || this.#phase === 'over') return
    this.#fenced = true
    this.opening.cancel()
    this.#outgoing?.dropped()
    const discarded = this.#incoming?.dropped() ?? null
    this.#outgoing = null
    this.#incoming = null
    const end = (): void => (this.#phase !== 'opening' || this.#disks !== null ? this.#finish() : this.#letGo())
    if (discarded === null) end()
    else this.task(discarded, end, end)
  }

  #finish(): void {
    if (this.#phase === 'over') return
    this.#phase = 'stopping'
    this.network.down()
    const [machine, killed] = [this.#machine, this.#killed()]
    // Fenced disks refuse what is in flight; otherwise it is let finish.
    if (!this.#fenced) this.#report('draining', this.#ending?.why ?? null)
    if (this.#fenced) this.#disks?.drop()
    else this.#disks?.abandon()
    this.task(
      killed,
      () => {
        if (machine !== null) this.evidence.halted('killed')
        this.parts.gate.unregister(this.order.vm)
        this.#giveBack()
      },
      error => this.#unkillable(error),
    )
  }

  /** Resolves when nothing executes, also of what was to be taken over and has not been. */
  #killed(): Promise<unknown> {
    if (this.#machine !== null) return this.#machine.kill()
    return this.order.adopts === undefined ? Promise.resolve() : this.parts.left.end(this.order.vm)
  }

  #unkillable(error: unknown): never {
    this.parts.env.log.error({ vm: this.order.vm }, `it cannot be killed: ${errorMessage(error)}`)
    throw error
  }

  #giveBack(): void {
    const ending = this.#ending ?? { state: 'failed' as const, why: 'its host was fenced' }
    const over = (): void => this.#over(ending)
    if (this.#fenced || this.#disks === null) {
      over()
      return
    }
    this.task(this.#disks.detach(), over, error => {
      this.parts.env.log.warn({ vm: this.order.vm }, `its disks were not detached: ${errorMessage(error)}`)
      over()
    })
  }

  #over(ending: Ending): void {
    this.#phase = 'over'
    this.#report(ending.state, ending.why)
    this.#context?.stop()
  }

  /** Kills what is here and leaves no report: the VM lives elsewhere, or never lived here. */
  #letGo(): void {
    if (this.#phase === 'over') return
    this.#phase = 'stopping'
    this.network.down()
    this.opening.cancel()
    const killed = this.#killed()
    this.#disks?.drop()
    this.task(
      killed,
      () => {
        this.#phase = 'over'
        this.parts.gate.unregister(this.order.vm)
        this.parts.gone(this.order.vm, this.order.epoch)
        this.#context?.stop()
      },
      error => this.#unkillable(error),
    )
  }

  #report(state: ReportedMachine['state'], why: string | null): void {
    if (this.#shutdown.begun && (state === 'running' || state === 'frozen')) {
      this.#report('stopping', why ?? 'its guest is to shut down')
      return
    }
    this.#reports.say(state, why)
  }
}
