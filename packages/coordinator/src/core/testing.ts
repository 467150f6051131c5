// A bench for the core: feeds it inputs, keeps the store as the shell would, answers orders as a test wishes, and can
// start the coordinator anew from what was durable. For tests only.

import { lunId } from '@stellwerk/protocol/lun-id.ts'
import { digestOfMachines } from '@stellwerk/protocol/machines-digest.ts'
import type { AccessReport, Beat, PathReport, ReportedMachine } from '@stellwerk/protocol/messages/cluster.ts'
import { PROFILES } from '@stellwerk/protocol/settings.ts'
import type { Json, Store, StoreChange, TraceEvent } from '@stellwerk/runtime/environment.ts'
import { outlineOf } from '../replay/outline.ts'
import { toPlain } from '../replay/plain.ts'
import type { CoreRecord } from '../replay/replay.ts'
import { snapshotOf } from '../snapshot.ts'
import type { Command } from './commands.ts'
import { type Input, step } from './core.ts'
import { load } from './load.ts'
import type { Effect } from './output.ts'
import type { CoordinatorState } from './state.ts'

class TestStore implements Store {
  readonly values = new Map<string, Json>()
  get(key: string): Json | undefined {
    return this.values.get(key)
  }
  entries(prefix: string): (readonly [string, Json])[] {
    return [...this.values].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1))
  }
  commit(changes: readonly StoreChange[]): void {
    for (const change of changes) {
      if ('put' in change) this.values.set(change.put, structuredClone(change.value) as Json)
      else this.values.delete(change.delete)
    }
  }
}

const STORAGES = ['san-a', 'san-b']

export interface BenchHost {
  incarnation: number
  epoch: number
  clean: boolean
  beating: boolean
  machines: ReportedMachine[]
  /** Ms since it heard the others. */
  peers: { host: string; heardAgoMs: number }[]
  storages: string[]
  access: AccessReport[]
  paths: PathReport[]
  qemu?: Beat['qemu']
  /** Machines that earlier agents have left. */
  survivors?: { readonly vm: string; readonly epoch: number }[]
  forwards?: Beat['forwards']
}

/** A LUN that was never raised. */
const UNMARKED = { generation: 0, generationId: null, legs: {} }

export class Bench {
  readonly store = new TestStore()
  readonly hosts = new Map<string, BenchHost>()
  readonly traces: TraceEvent[] = []
  readonly orders: { key: string; host: string; message: string; body: unknown }[] = []
  state: CoordinatorState
  now = 1_000
  /** The placement epoch of the cluster's first VM. */
  firstEpoch = 0
  /** `storage/lun` → the generation that it was raised to last. */
  readonly marks = new Map<string, { generation: number; generationId: string | null; legs: object }>()
  /** What the owner of a volume says of a leg that catches up. */
  sync: { done: boolean; disks: number; synced: number; copiedBytes?: number; totalBytes?: number } | null = null
  /** What owners say of a scrub. */
  scrub: Beat['volumes'][number]['scrub'] = null
  /** What storages know of a host; absent: what this coordinator has told them. */
  readonly storageMarks = new Map<string, { admitted: number; fenced: number }>()
  /** Age of the host's last sign as each storage tells it; null: unknown. */
  lastSeenMs: (host: string, storage: string) => number | null = () => 100_000
  /** What the owners say of their volumes. */
  ownersSay: { readonly state: string; readonly why?: string } = { state: 'serving' }
  /** Hosts are on the guest network. */
  hasGuestNetwork = false
  /** Whether an owner that the map names no more ends at once. */
  endsOwning: (volume: string) => boolean = () => true
  /** Keys of orders that are not answered by the bench: the test does it, or nobody. */
  holdBack: (key: string) => boolean = () => false
  /** What a decider would put on record of its core, for replays. */
  readonly recorded: CoreRecord[] = []
  readonly replies = new Map<number, { body?: unknown; refused?: string; message?: string; hint?: string }>()
  #request = 0
  #runs = 0
  readonly #servedVolumes = new Map<string, { host: string; epoch: number }>()

  readonly #external: readonly string[]

  /** `external`: NBD servers beside the two storages. */
  constructor(external: readonly string[] = []) {
    this.#external = external
    this.state = this.#load()
    this.input({ kind: 'tick' })
  }

  #load(): CoordinatorState {
    const at = { portals: [], control: [] }
    const storages = [
      ...STORAGES.map(name => ({ name, ...at })),
      ...this.#external.map(name => ({ name, ...at, external: { exports: [] } })),
    ]
    const state = load(this.store, 'test', PROFILES.lab, storages, this.now, this.now, `run-${++this.#runs}`)
    this.#record('snapshot', snapshotOf(state))
    return state
  }

  #record(kind: CoreRecord['kind'], value: Json): void {
    this.recorded.push({ kind, value, at: `#${this.recorded.length + 1}` })
  }

  /** The process dies and another takes over from what was durable. */
  restart(): void {
    this.state = this.#load()
    this.input({ kind: 'tick' })
    for (const [name, host] of this.hosts) if (host.beating) this.join(name)
  }

  join(name: string, incarnation = this.hosts.get(name)?.incarnation ?? 1): BenchHost {
    const known = this.hosts.get(name)
    const fresh: BenchHost = {
      incarnation,
      epoch: 0,
      clean: false,
      beating: true,
      machines: [],
      peers: [],
      storages: [...STORAGES, ...this.#external],
      access: [],
      paths: [],
    }
    const host = known !== undefined && known.incarnation === incarnation ? known : fresh
    this.hosts.set(name, host)
    const control = { network: 'cluster', host: name, port: 1 } as const
    const guest = this.hasGuestNetwork ? { guest: { network: 'guest', host: name, port: 2 } as const } : {}
    this.input({ kind: 'agent-up', hello: { host: name, incarnation, control, ...guest, memoryBytes: 2 ** 30 } })
    return host
  }

  input(input: Input): void {
    this.#record('input', toPlain({ now: this.now, wallMs: this.now, input }))
    const output = step(this.state, input, this.now, this.now)
    const outline = outlineOf(output)
    if (outline !== null) this.#record('output', outline)
    this.store.commit(output.changes)
    for (const effect of output.effects) this.#carryOut(effect)
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'step-down':
        throw new Error(effect.why)
      case 'trace':
        this.traces.push(effect.event)
        return
      case 'reply':
        this.replies.set(effect.to, { body: effect.body })
        return
      case 'refuse':
        this.replies.set(effect.to, {
          refused: effect.code,
          message: effect.message,
          ...(effect.hint === undefined ? {} : { hint: effect.hint }),
        })
        return
      case 'storage':
        if (!this.holdBack(effect.key)) this.answer(effect.key, this.#storageSays(effect))
        return
      case 'owner':
        this.orders.push(effect)
        if (!this.holdBack(effect.key)) this.answer(effect.key, {})
        return
      case 'order':
        this.orders.push(effect)
        if (!this.holdBack(effect.key) && this.hosts.get(effect.host)?.beating) this.#obey(effect)
        return
    }
  }

  #storageSays(effect: Extract<Effect, { kind: 'storage' }>): unknown {
    const { host = '', epoch = 0 } = effect.body as { host?: string; epoch?: number }
    if (effect.message === 'storage.admit') return { storage: effect.storage, admitted: epoch, fenced: epoch - 1 }
    if (effect.message === 'storage.generation') {
      const { lun, generation, id, legs } = effect.body as { lun: string; generation: number; id: string; legs: object }
      this.marks.set(`${effect.storage}/${lun}`, { generation, generationId: id, legs })
      return { generation, legs }
    }
    if (effect.message === 'storage.list-luns') {
      const luns = [...this.state.volumes.values()].flatMap(volume =>
        volume.legs.flatMap(leg => (leg.storage === effect.storage ? [{ lun: leg.lun, id: lunId(volume, leg) }] : [])),
      )
      return {
        luns: luns.map(shown => ({ ...shown, ...(this.marks.get(`${effect.storage}/${shown.lun}`) ?? UNMARKED) })),
      }
    }
    const known = this.state.hosts.get(host)
    const fenced = effect.message === 'storage.fence' ? epoch : (known?.epoch ?? 1) - 1
    const marks = { admitted: known?.epoch ?? 0, fenced, ...this.storageMarks.get(host) }
    return { storage: effect.storage, ...marks, lastSeenMs: this.lastSeenMs(host, effect.storage) }
  }

  #obey(effect: Extract<Effect, { kind: 'order' }>): void {
    const host = this.hosts.get(effect.host)
    if (host === undefined) return
    if (effect.message === 'cluster.map') {
      const map = effect.body as { volumes: { name: string; owner: { host: string; epoch: number } | null }[] }
      for (const { name, owner } of map.volumes) {
        if (owner !== null) this.#servedVolumes.set(name, owner)
        else if (this.endsOwning(name)) this.#servedVolumes.delete(name)
      }
    }
    if (effect.message === 'vm.start' || effect.message === 'vm.stop') {
      const { vm } = effect.body as { vm: string }
      host.survivors = host.survivors?.filter(each => each.vm !== vm) ?? []
    }
    if (effect.message === 'vm.start') {
      const { vm, epoch } = effect.body as { vm: string; epoch: number }
      host.machines = [...host.machines.filter(m => m.vm !== vm), { vm, epoch, state: 'running', why: null }]
    }
    if (effect.message === 'vm.stop') {
      const { vm, epoch } = effect.body as { vm: string; epoch: number }
      host.machines = [...host.machines.filter(m => m.vm !== vm), { vm, epoch, state: 'stopped', why: null }]
    }
    this.answer(effect.key, {})
  }

  answer(key: string, body: unknown): void {
    const { announcing, cluster, run, revisionAtStart } = this.state
    const revision = announcing.get(key.slice('run/'.length)) ?? revisionAtStart
    const taken = { term: cluster.term, run, revision }
    this.input({ kind: 'answered', key, body: key.startsWith('run/') ? { ...taken, ...(body as object) } : body })
  }

  /** One beat of every host that beats, then the tick; half a second passes. */
  round(times = 1): void {
    for (let i = 0; i < times; i++) {
      this.now += 500
      for (const [name, host] of this.hosts) if (host.beating) this.beat(name)
      this.input({ kind: 'tick' })
    }
  }

  #syncSaid(): Beat['volumes'][number]['sync'] {
    return this.sync === null ? null : { copiedBytes: 0, sinceMs: 2_000, ...this.sync }
  }

  beat(name: string): { status: string; epoch: number; leaseMs: number } {
    const host = this.hosts.get(name)
    if (host === undefined) throw new Error(`no host ${name} on the bench`)
    const volumes = [...this.#servedVolumes]
      .filter(([, owner]) => owner.host === name)
      .map(([volume, owner]) => ({
        volume,
        ownerEpoch: owner.epoch,
        ...this.ownersSay,
        generation: this.state.volumes.get(volume)?.generation ?? 0,
        sync: this.state.volumes.get(volume)?.legs.some(leg => leg.role === 'syncing') ? this.#syncSaid() : null,
        scrub: this.scrub,
      }))
    const beat: Beat = {
      host: name,
      incarnation: host.incarnation,
      epoch: host.epoch,
      clean: host.clean,
      mapVersion: this.state.liveHosts.get(name)?.mapVersion ?? 0,
      memoryBytes: 2 ** 30,
      peers: host.peers,
      storages: host.storages,
      paths: host.paths,
      access: host.access,
      volumes,
      ...(host.qemu === undefined ? {} : { qemu: host.qemu }),
      ...(host.forwards === undefined ? {} : { forwards: host.forwards }),
      digest: digestOfMachines(host.machines),
      machines: host.machines,
      ...(host.survivors === undefined ? {} : { survivors: host.survivors }),
    }
    const request = ++this.#request
    this.input({ kind: 'beat', request, beat })
    const reply = this.replies.get(request)?.body as { status: string; epoch: number; leaseMs: number }
    if (reply.status === 'wait' && reply.epoch === 0) {
      this.join(name)
      return reply
    }
    if (reply.status === 'admitted' && reply.epoch > host.epoch && (host.epoch === 0 || host.clean)) {
      host.epoch = reply.epoch
      host.clean = false
    } else if (reply.status === 'fenced') {
      host.epoch = Math.max(host.epoch, reply.epoch)
      host.machines = []
      host.clean = true
    }
    return reply
  }

  command(command: Command): { body?: unknown; refused?: string; message?: string; hint?: string } {
    const request = ++this.#request
    this.input({ kind: 'command', request, command })
    return this.replies.get(request) ?? {}
  }

  ask(input: (request: number) => Input): unknown {
    const request = ++this.#request
    this.input(input(request))
    return this.replies.get(request)?.body
  }

  /** Three hosts, a volume, a running VM. */
  static cluster(): Bench {
    const bench = new Bench()
    for (const name of ['host-a', 'host-b', 'host-c']) bench.join(name)
    bench.round(2)
    bench.command({ kind: 'volume-create', name: 'csv1', id: 'v1', sizeBytes: 2 ** 30, storages: ['san-a'] })
    bench.round(2)
    bench.createVm('web')
    bench.round(3)
    bench.firstEpoch = bench.placement('web')?.epoch ?? 0
    return bench
  }

  createVm(name: string): void {
    this.command({
      kind: 'vm-create',
      name,
      spec: { hypervisor: 'model', guest: 'ledger', memoryBytes: 2 ** 26, parameters: {} },
      disks: [{ volume: 'csv1', sizeBytes: 2 ** 20 }],
      start: true,
      priority: 0,
      host: null,
    })
  }

  placement(vm: string): { host: string; epoch: number; phase: string } | null {
    return this.state.vms.get(vm)?.placement ?? null
  }

  kindsTraced(): string[] {
    return this.traces.map(event => event.kind)
  }
}
