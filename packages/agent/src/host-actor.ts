// The host itself, as an actor: it beats to the coordinator, holds the host's epoch and leases, follows the cluster's map,
// spawns a VM's actor for each order, and when its epoch is refused kills everything before it says that it is clean.

import {
  type BeatReply,
  type ClusterMap,
  isOver,
  type OwnerRelay,
  type ReportedMachine,
  type VmOrder,
} from '@stellwerk/protocol/messages/cluster.ts'
import { PROFILES, type Settings } from '@stellwerk/protocol/settings.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { COORDINATOR } from './coordinator-name.ts'
import { answerCheck } from './hba/external-export.ts'
import { beatOf } from './host-beat.ts'
import type { HostParts } from './host-parts.ts'
import { DoneReports, type MigrationDone } from './migration/done-reports.ts'
import type { ReceiveOrder } from './migration/incoming-migration.ts'
import { admitOrder } from './vm/admit-order.ts'
import { STOP_GRACE_MAX_MS, type StopOrder } from './vm/stop-order.ts'
import { VmActor } from './vm/vm-actor.ts'
import { type LegLost, reportLegLost } from './volume/leg-reports.ts'

/** Final states kept until the coordinator says that it has seen them. */
const MAX_FINISHED = 10_000
/** Between beats of a host that waits for its epoch with machines of an earlier agent. */
const WAITING_MS = 50
/** A change of a machine's state is reported at once, but not more often than this. */
const SOON_MS = 10

export class HostActor implements Behavior {
  readonly #parts: HostParts
  settings: Settings = PROFILES.lab
  epoch = 0
  map: ClusterMap | null = null
  #joined = false
  /** Our epoch was refused; everything is being killed, or has been. */
  #fenced = false
  #clean = false
  #beatSoon = false
  #wantMachines = true
  #stopping: (() => void) | null = null
  readonly #machines = new Map<string, ReportedMachine>()
  /** The newest placement epoch seen of each VM: an older order is late. */
  readonly #epochs = new Map<string, number>()
  readonly #alive = new Set<string>()
  /** Requests passed on to a VM's actor, by the seq they were passed on with. */
  readonly #forwarded = new Map<number, Message>()
  readonly #done = new DoneReports()
  #context: ActorContext | null = null

  constructor(parts: HostParts) {
    this.#parts = parts
  }

  get standing(): 'waiting' | 'admitted' | 'fenced' {
    if (this.#fenced) return 'fenced'
    return this.#joined && this.epoch > 0 ? 'admitted' : 'waiting'
  }

  /** As they are reported, ended ones that nobody has taken note of included. */
  get machines(): readonly ReportedMachine[] {
    return [...this.#machines.values()]
  }

  started(context: ActorContext): void {
    this.#context = context
    this.#heartbeat(context)
  }

  receive(message: Message, context: ActorContext): void {
    if (message.re !== undefined) {
      this.#answered(message, context)
      return
    }
    try {
      this.#take(message, context)
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      context.fail(message, error)
    }
  }

  #take(message: Message, context: ActorContext): void {
    const { peers, links, system } = this.#parts
    switch (message.kind) {
      case 'host.heartbeat':
        this.#heartbeat(context)
        return
      case 'host.beat':
        this.#beatSoon = false
        this.#beat(context)
        return
      case 'host.refused': {
        const { epoch, why } = message.body as { epoch: number; why: string }
        if (epoch === this.epoch) this.#fence(why)
        return
      }
      case 'host.coordinator-up':
        this.#join(context)
        return
      case 'host.settled':
        this.#settle()
        return
      case 'cluster.peer-beat':
        peers.heard((message.body as { host: string }).host)
        return
      case 'cluster.map':
        this.#follow(message.body as ClusterMap)
        context.reply(message, {})
        return
      case 'vm.start':
        this.#start(message.body as VmOrder)
        context.reply(message, {})
        return
      case 'migration.receive':
        this.#receive(message.body as ReceiveOrder)
        context.reply(message, {})
        return
      case 'vm.stop':
        this.#stopVm(message.body as StopOrder)
        context.reply(message, {})
        return
      case 'vm.forget':
        this.#forget(message.body as { vm: string; epoch: number })
        context.reply(message, {})
        return
      case 'vm.input':
      case 'console.keys':
      case 'vm.reset':
      case 'vm.freeze-files':
      case 'vm.thaw-files':
      case 'migration.send':
      case 'migration.switch':
        this.#forward(message, context)
        return
      case 'migration.commit':
      case 'migration.abort': {
        const { vm, migration } = message.body as { vm: string; migration: string }
        if (this.#alive.has(vm)) this.#forward(message, context)
        else {
          this.reportDone({ migration, vm, statistics: {} })
          context.reply(message, {})
        }
        return
      }
      case 'storage.relay': {
        const { storage, kind, body } = message.body as { storage: string; kind: string; body: unknown }
        this.#passOn(message, links().relay(storage, kind, body, this.settings.requestMs))
        return
      }
      case 'storage.check-export':
        answerCheck(this.#parts, this.map, this.settings.ioDeadlineMs, message)
        return
      case 'owner.relay': {
        const { owner, volume, kind, body } = message.body as OwnerRelay
        this.#passOn(message, system.ask(context.self, `${owner}/owner/${volume}`, kind, body, this.settings.requestMs))
        return
      }
      case 'export.where':
        context.reply(message, this.#parts.exports.where((message.body as { vm: string }).vm))
        return
      case 'console.follow':
        this.#followConsole(message, context)
        return
      default:
        context.fail(message, new StellwerkError('unknown-kind', `an agent does not take ${message.kind}`))
    }
  }

  #passOn(message: Message, answer: Promise<unknown>): void {
    const { system } = this.#parts
    answer.then(
      reply => system.reply(message, { body: reply }),
      (error: unknown) => system.fail(message, error),
    )
  }

  // --- beats, leases, epochs -------------------------------------------------------------------------------------------------

  #heartbeat(context: ActorContext): void {
    const { heartbeatMs } = this.settings
    const { peers, links, config } = this.#parts
    links().probeAll(heartbeatMs * 2)
    const beat = { host: config.host, incarnation: config.incarnation, epoch: this.epoch }
    for (const peer of peers.names) context.send(`${peer}/agent`, 'cluster.peer-beat', beat)
    this.#beat(context)
    this.#done.tell(this.#parts, this.settings.requestMs)
    context.after(heartbeatMs, 'host.heartbeat', null)
  }

  #join(context: ActorContext): void {
    const { config, env } = this.#parts
    const body = {
      host: config.host,
      incarnation: config.incarnation,
      guardian: config.guardian,
      ...(config.advertised ?? {
        control: config.listen,
        ...(config.guest === undefined ? {} : { guest: config.guest }),
      }),
      memoryBytes: config.memoryBytes,
    }
    this.#joined = false
    this.#parts.system.ask(context.self, COORDINATOR, 'cluster.join', body, this.settings.requestMs).then(
      reply => {
        this.settings = (reply as { settings: Settings }).settings
        this.#joined = true
        this.#wantMachines = true
        this.beatSoon()
      },
      (error: unknown) => {
        env.log.warn({}, `joining failed: ${String(error)}`)
        env.timers.after(this.settings.heartbeatMs, () => context.send(context.self, 'host.coordinator-up', null))
      },
    )
  }

  legLost(lost: LegLost): void {
    if (this.epoch > 0 && !this.#fenced) reportLegLost(this.#parts, lost, this.epoch, this.settings.requestMs)
  }

  #beat(context: ActorContext): void {
    if (!this.#joined) return
    const { env, system } = this.#parts
    const body = beatOf(this.#parts, {
      ...{ epoch: this.epoch, clean: this.#clean, mapVersion: this.map?.version ?? 0, settings: this.settings },
      ...{ machines: this.machines, wholeMachines: this.#wantMachines },
    })
    this.#wantMachines = false
    const sentAt = env.clock.now()
    const epoch = this.epoch
    system.ask(context.self, COORDINATOR, 'cluster.beat', body, this.settings.requestMs).then(
      reply => this.#beatAnswered(reply as BeatReply, sentAt, epoch),
      () => {
        // No answer, no lease: what that means is judged by the clock, not here. The machines are said again.
        this.#wantMachines = true
      },
    )
  }

  #beatAnswered(reply: BeatReply, sentAt: number, epoch: number): void {
    const { right, gate } = this.#parts
    if (reply.wantMachines) {
      this.#wantMachines = true
      this.beatSoon()
    }
    // Who is left here does not run for long: the new epoch is to be heard of at once.
    if (reply.status !== 'admitted' && this.#parts.left.all().length > 0) this.#beatIn(WAITING_MS)
    if (reply.status === 'fenced') {
      if (reply.epoch >= this.epoch) {
        // Clean is said of the epoch that was fenced, which a restored coordinator may have raised.
        this.epoch = reply.epoch
        this.#fence(`the coordinator has fenced epoch ${reply.epoch}`)
      }
      return
    }
    if (reply.status === 'wait' && reply.epoch === 0 && this.#context !== null) {
      // The coordinator does not know this session for an agent's: it is told again.
      this.#join(this.#context)
      return
    }
    if (reply.status !== 'admitted') return
    if (reply.epoch !== this.epoch) {
      this.#adopt(reply.epoch)
      return
    }
    if (this.#fenced || epoch !== this.epoch || reply.leaseMs === 0) return
    right.granted(sentAt, reply.leaseMs)
    gate.rightChanged()
  }

  /** A new epoch, given by the coordinator: only where nothing of an older one is left. */
  #adopt(epoch: number): void {
    const fresh = this.epoch === 0
    if (epoch < this.epoch || (!fresh && !this.#clean)) {
      if (epoch > this.epoch) this.#fence(`the coordinator has admitted epoch ${epoch}`)
      return
    }
    this.epoch = epoch
    // Orders of the old epoch are refused by it: what was seen of VMs under it need not be remembered.
    this.#epochs.clear()
    this.#fenced = false
    this.#clean = false
    this.#parts.right.admit(this.settings.leaseMs)
    this.#parts.volumes().admitted(epoch)
    this.#parts.links().probeAll(this.settings.heartbeatMs * 2)
    this.beatSoon()
  }

  /** Whatever runs here is killed; only then may anything be said. */
  #fence(why: string): void {
    if (this.#fenced) return
    const { env, right, gate, config, volumes, forwards } = this.#parts
    this.#fenced = true
    forwards().follow([])
    right.fence()
    gate.rightChanged()
    env.log.warn({ epoch: this.epoch }, `fenced: ${why}`)
    env.trace.emit({ level: 'decision', kind: 'host.fenced', host: config.host, body: { epoch: this.epoch, why } })
    for (const vm of this.#alive) this.#toVm(vm, 'vm.fenced', null)
    volumes()
      .fenced()
      .then(() => this.#context?.send(this.#context.self, 'host.settled', null))
    this.#settle()
  }

  #settle(): void {
    if (this.#stopping !== null && this.#alive.size === 0) this.#stopping()
    if (!this.#fenced || this.#clean || this.#alive.size > 0 || !this.#parts.volumes().idle) return
    this.#clean = true
    this.#machines.clear()
    this.#wantMachines = true
    this.beatSoon()
  }

  beatSoon(): void {
    this.#beatIn(SOON_MS)
  }

  #beatIn(ms: number): void {
    if (this.#beatSoon) return
    this.#beatSoon = true
    this.#context?.after(ms, 'host.beat', null)
  }

  // --- the map ---------------------------------------------------------------------------------------------------------------

  #follow(map: ClusterMap): void {
    if (this.map !== null && map.version < this.map.version) return
    this.map = map
    this.settings = map.settings
    if (this.epoch > 0) this.#parts.right.lengthen(map.settings.leaseMs)
    const { peers, links, volumes, redirects, luns, network, forwards } = this.#parts
    peers.follow(map.hosts)
    network().follow(map)
    forwards().follow(map.forwards ?? [])
    links().follow(map.storages)
    redirects().follow(map)
    luns().follow(map)
    volumes().follow(map)
  }

  // --- orders ----------------------------------------------------------------------------------------------------------------

  #start(order: VmOrder): void {
    const known = this.#machines.get(order.vm)
    if (known?.epoch === order.epoch) return
    this.#admitOrder(order)
    this.#spawn(order, null)
  }

  #receive(receive: ReceiveOrder): void {
    const { order } = receive
    const known = this.#machines.get(order.vm)
    if (known?.epoch === order.epoch) return
    this.#admitOrder(order)
    this.#spawn(order, receive)
  }

  #admitOrder(order: VmOrder): void {
    const { host, incarnation } = this.#parts.config
    admitOrder(order, {
      ...{ host, incarnation, epoch: this.#fenced ? null : this.epoch, stopping: this.#stopping !== null },
      ...{ seen: this.#epochs.get(order.vm) ?? 0, alive: this.#alive.has(order.vm) },
    })
  }

  #spawn(order: VmOrder, receive: ReceiveOrder | null): void {
    const { system, config, vmParts } = this.#parts
    this.#epochs.set(order.vm, order.epoch)
    this.#alive.add(order.vm)
    system.spawn(`${config.host}/vm/${order.vm}`, new VmActor(vmParts(), order, receive))
  }

  #stopVm(target: StopOrder): void {
    if (target.incarnation !== this.#parts.config.incarnation) {
      throw new StellwerkError('wrong-incarnation', `meant for incarnation ${target.incarnation}`)
    }
    const known = this.#machines.get(target.vm)
    const { left } = this.#parts
    const found = left.find(target.vm)
    if (known !== undefined && known.epoch > target.epoch) {
      // Of an earlier placement, whose machine nobody wants.
      if (found?.epoch === target.epoch) void left.end(target.vm)
      return
    }
    if (known?.epoch === target.epoch && this.#alive.has(target.vm)) {
      this.#toVm(target.vm, 'vm.end', { graceMs: target.graceMs })
      return
    }
    if (known !== undefined && known.epoch === target.epoch) return
    if (this.#alive.has(target.vm)) return
    // Its start never came: from here on it would come too late.
    this.#epochs.set(target.vm, Math.max(target.epoch, this.#epochs.get(target.vm) ?? 0))
    const stopped = (why: string): void => this.report({ vm: target.vm, epoch: target.epoch, state: 'stopped', why })
    if (found === null) stopped('it had not been started here')
    else void left.end(target.vm).then(() => stopped('what an earlier agent had left of it was ended'))
  }

  #forget(target: { vm: string; epoch: number }): void {
    const known = this.#machines.get(target.vm)
    if (known?.epoch === target.epoch && !this.#alive.has(target.vm)) {
      this.#machines.delete(target.vm)
      this.#parts.consoles.left(target.vm)
      this.#wantMachines = true
    }
  }

  #followConsole(message: Message, context: ActorContext): void {
    const { config, consoles } = this.#parts
    const { vm } = message.body as { vm?: string }
    const followed = consoles.follow(message.from, vm ?? null, context)
    const port = vm !== undefined && this.#alive.has(vm) ? followed : null
    context.reply(message, { host: config.host, machines: this.machines, ...(port === null ? {} : { port }) })
  }

  /** The VM's actor answers in the host's place. */
  #forward(message: Message, context: ActorContext): void {
    const { vm } = message.body as { vm: string }
    if (!this.#alive.has(vm)) throw new StellwerkError('unknown-vm', `VM "${vm}" is not on this host`)
    const seq = context.request(
      `${this.#parts.config.host}/vm/${vm}`,
      message.kind,
      message.body,
      this.settings.requestMs,
    )
    this.#forwarded.set(seq, message)
  }

  #answered(message: Message, context: ActorContext): void {
    const asked = this.#forwarded.get(message.re ?? -1)
    if (asked === undefined) return
    this.#forwarded.delete(message.re ?? -1)
    if (message.error === undefined) context.reply(asked, message.body)
    else context.fail(asked, new StellwerkError(message.error.code, message.error.message))
  }

  #toVm(vm: string, kind: string, body: unknown): void {
    this.#context?.send(`${this.#parts.config.host}/vm/${vm}`, kind, body)
  }

  // --- what VMs tell ---------------------------------------------------------------------------------------------------------

  report(machine: ReportedMachine): void {
    this.#machines.set(machine.vm, machine)
    const final = isOver(machine.state)
    if (final) this.#alive.delete(machine.vm)
    this.#wantMachines = true
    this.beatSoon()
    if (this.#machines.size > MAX_FINISHED) this.#dropOldestFinished()
    if (final) this.#context?.send(this.#context.self, 'host.settled', null)
  }

  gone(vm: string, epoch: number): void {
    this.#parts.consoles.left(vm)
    this.#alive.delete(vm)
    if (this.#machines.get(vm)?.epoch === epoch) this.#machines.delete(vm)
    this.#wantMachines = true
    this.beatSoon()
    this.#context?.send(this.#context.self, 'host.settled', null)
  }

  #dropOldestFinished(): void {
    const oldest = [...this.#machines.keys()].find(vm => !this.#alive.has(vm))
    if (oldest === undefined) return
    this.#machines.delete(oldest)
    this.#parts.consoles.left(oldest)
  }

  reportDone(done: MigrationDone): void {
    this.#done.keep(done)
    if (this.#context !== null) this.#done.tell(this.#parts, this.settings.requestMs)
  }

  /** Stops every machine in order; resolves when nothing runs. */
  stop(): Promise<void> {
    return new Promise(resolve => {
      this.#stopping = resolve
      const graceMs = Math.min(this.settings.stopTimeoutMs, STOP_GRACE_MAX_MS)
      for (const vm of this.#alive) this.#toVm(vm, 'vm.end', { graceMs })
      this.#settle()
    })
  }
}
