// The host itself, as an actor: it beats to the coordinator, holds the host's epoch and leases, follows the cluster's map,
// spawns a VM's actor for each order, and when its epoch is refused kills everything before it says that it is clean.

import { digestOfMachines } from '@stellwerk/protocol/machines-digest.ts'
import {
  type Beat,
  type BeatReply,
  type ClusterMap,
  isOver,
  type ReportedMachine,
  type VmOrder,
} from '@stellwerk/protocol/messages/cluster.ts'
import { PROFILES, type Settings } from '@stellwerk/protocol/settings.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { AgentConfig } from './agent-config.ts'
import type { StorageLinks } from './hba/storage-links.ts'
import type { ExportHypervisor } from './hypervisor/export/hypervisor.ts'
import type { RightToRun } from './lease/right-to-run.ts'
import type { ReceiveOrder } from './migration/incoming-migration.ts'
import type { Peers } from './peers.ts'
import type { RunGate } from './vm/run-gate.ts'
import { STOP_GRACE_MAX_MS, type StopOrder } from './vm/stop-order.ts'
import { COORDINATOR, VmActor } from './vm/vm-actor.ts'
import type { VmParts } from './vm/vm-parts.ts'
import type { HostVolumes } from './volume/host-volumes.ts'

/** Final states kept until the coordinator says that it has seen them. */
const MAX_FINISHED = 10_000
/** Ended migrations the coordinator has yet to take note of; of one that was dropped it asks again. */
const MAX_DONE = 1_000
/** A change of a machine's state is reported at once, but not more often than this. */
const SOON_MS = 10
/** A path counts as up while its last answer is not older than so many heartbeats. */
export const MISSED_PROBES = 2.5

export interface HostParts {
  readonly env: Environment
  readonly config: AgentConfig
  readonly system: ActorSystem
  readonly right: RightToRun
  readonly gate: RunGate
  readonly links: () => StorageLinks
  readonly peers: Peers
  readonly volumes: () => HostVolumes
  readonly vmParts: () => VmParts
  readonly exports: ExportHypervisor
}

interface MigrationDone {
  readonly migration: string
  readonly vm: string
  readonly statistics: { readonly [name: string]: number }
}

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
  readonly #followers = new Map<string, ActorContext>()
  /** By migration: it may be asked for more than once. */
  readonly #done = new Map<string, MigrationDone>()
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
        links()
          .relay(storage, kind, body, this.settings.requestMs)
          .then(
            reply => system.reply(message, { body: reply }),
            (error: unknown) => system.fail(message, error),
          )
        return
      }
      case 'owner.relay': {
        const { owner, volume, kind, body } = message.body as {
          owner: string
          volume: string
          kind: string
          body: object
        }
        system.ask(context.self, `${owner}/owner/${volume}`, kind, body, this.settings.requestMs).then(
          reply => system.reply(message, { body: reply }),
          (error: unknown) => system.fail(message, error),
        )
        return
      }
      case 'export.where':
        context.reply(message, this.#parts.exports.where((message.body as { vm: string }).vm))
        return
      case 'console.follow':
        this.#followers.set(message.from, context)
        context.reply(message, { host: this.#parts.config.host, machines: [...this.#machines.values()] })
        return
      default:
        context.fail(message, new StellwerkError('unknown-kind', `an agent does not take ${message.kind}`))
    }
  }

  // --- beats, leases, epochs -------------------------------------------------------------------------------------------------

  #heartbeat(context: ActorContext): void {
    const { heartbeatMs } = this.settings
    const { peers, links, config } = this.#parts
    links().probeAll(heartbeatMs * 2)
    const beat = { host: config.host, incarnation: config.incarnation, epoch: this.epoch }
    for (const peer of peers.names) context.send(`${peer}/agent`, 'cluster.peer-beat', beat)
    this.#beat(context)
    this.#tellDone(context)
    context.after(heartbeatMs, 'host.heartbeat', null)
  }

  #join(context: ActorContext): void {
    const { config, env } = this.#parts
    const body = {
      host: config.host,
      incarnation: config.incarnation,
      guardian: config.guardian,
      control: { ...config.listen },
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

  #beat(context: ActorContext): void {
    if (!this.#joined) return
    const { env, config, links, peers, system, volumes } = this.#parts
    const withinMs = this.settings.heartbeatMs * MISSED_PROBES
    const machines = [...this.#machines.values()].sort((a, b) => (a.vm < b.vm ? -1 : 1))
    const body: Beat = {
      host: config.host,
      incarnation: config.incarnation,
      epoch: this.epoch,
      clean: this.#clean,
      mapVersion: this.map?.version ?? 0,
      memoryBytes: config.memoryBytes,
      peers: peers.views(),
      storages: links().reachable(withinMs),
      paths: links().states(withinMs),
      volumes: volumes().owned(),
      digest: digestOfMachines(machines),
      machines: this.#wantMachines ? machines : null,
    }
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
    const { env, right, gate, config, volumes } = this.#parts
    this.#fenced = true
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
    if (this.#beatSoon) return
    this.#beatSoon = true
    this.#context?.after(SOON_MS, 'host.beat', null)
  }

  // --- the map ---------------------------------------------------------------------------------------------------------------

  #follow(map: ClusterMap): void {
    if (this.map !== null && map.version < this.map.version) return
    this.map = map
    this.settings = map.settings
    if (this.epoch > 0) this.#parts.right.lengthen(map.settings.leaseMs)
    const { peers, links, volumes } = this.#parts
    peers.follow(map.hosts)
    links().follow(map.storages)
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

  /** An order is for one host epoch, one incarnation, and no older than what was seen of this VM. */
  #admitOrder(order: VmOrder): void {
    const { config } = this.#parts
    const refuse = (code: string, why: string): never => {
      throw new StellwerkError(code, `VM "${order.vm}" at placement epoch ${order.epoch}: ${why}`, {
        where: config.host,
      })
    }
    if (order.incarnation !== config.incarnation)
      refuse('wrong-incarnation', `meant for incarnation ${order.incarnation}`)
    if (this.#fenced || order.hostEpoch !== this.epoch) refuse('wrong-epoch', `meant for epoch ${order.hostEpoch}`)
    if (this.#stopping !== null) refuse('stopping', 'this agent is being stopped')
    if (order.epoch <= (this.#epochs.get(order.vm) ?? 0)) refuse('stale-order', 'a newer placement was seen here')
    if (this.#alive.has(order.vm)) refuse('busy', 'an older instance is still here')
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
    if (known !== undefined && known.epoch > target.epoch) return
    if (known?.epoch === target.epoch && this.#alive.has(target.vm)) {
      this.#toVm(target.vm, 'vm.end', { graceMs: target.graceMs })
      return
    }
    if (known !== undefined && known.epoch === target.epoch) return
    if (this.#alive.has(target.vm)) return
    // Its start never came: from here on it would come too late.
    this.#epochs.set(target.vm, Math.max(target.epoch, this.#epochs.get(target.vm) ?? 0))
    this.report({ vm: target.vm, epoch: target.epoch, state: 'stopped', why: 'it had not been started here' })
  }

  #forget(target: { vm: string; epoch: number }): void {
    const known = this.#machines.get(target.vm)
    if (known?.epoch === target.epoch && !this.#alive.has(target.vm)) {
      this.#machines.delete(target.vm)
      this.#wantMachines = true
    }
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
    this.#alive.delete(vm)
    if (this.#machines.get(vm)?.epoch === epoch) this.#machines.delete(vm)
    this.#wantMachines = true
    this.beatSoon()
    this.#context?.send(this.#context.self, 'host.settled', null)
  }

  #dropOldestFinished(): void {
    for (const vm of this.#machines.keys()) {
      if (this.#alive.has(vm)) continue
      this.#machines.delete(vm)
      return
    }
  }

  console(vm: string, epoch: number, line: string): void {
    const { config } = this.#parts
    for (const [follower, context] of this.#followers) {
      context.send(follower, 'console.line', { vm, epoch, host: config.host, line: line.slice(0, 4096) })
    }
  }

  unfollow(follower: string): void {
    this.#followers.delete(follower)
  }

  reportDone(done: MigrationDone): void {
    this.#keepDone(done)
    if (this.#context !== null) this.#tellDone(this.#context)
  }

  #keepDone(done: MigrationDone): void {
    const known = this.#done.get(done.migration)
    if (known !== undefined && Object.keys(done.statistics).length === 0) return
    this.#done.set(done.migration, done)
    const [oldest] = this.#done.keys()
    if (this.#done.size > MAX_DONE && oldest !== undefined) this.#done.delete(oldest)
  }

  #tellDone(context: ActorContext): void {
    const { config, system } = this.#parts
    const all = [...this.#done.values()]
    this.#done.clear()
    for (const done of all) {
      const body = { ...done, host: config.host, incarnation: config.incarnation }
      system.ask(context.self, COORDINATOR, 'migration.done', body, this.settings.requestMs).then(
        () => undefined,
        () => {
          this.#keepDone(done)
        },
      )
    }
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
