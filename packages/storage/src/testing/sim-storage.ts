// For tests: a storage subsystem in a simulation, and a host that talks to it. The scenario runs as a program of the
// client's host, since only programs have an environment; what it throws fails the test.

import { connectNbd, type NbdClient } from '@stellwerk/block/nbd/client.ts'
import { storageFamily } from '@stellwerk/protocol/messages/storage.ts'
import type { Session } from '@stellwerk/protocol/session.ts'
import { dialSession } from '@stellwerk/protocol/session-handshake.ts'
import type { Address, Environment, TraceRecord } from '@stellwerk/runtime/environment.ts'
import { Simulation, type SimulationOptions } from '@stellwerk/runtime/sim/simulation.ts'
import { formatExportName, type HostClaim } from '../admission/export-name.ts'
import { claimOf } from '../admission/testing.ts'
import type { StorageBody, StorageKind, StorageReply } from '../control.ts'
import { type StorageConfig, type StorageServer, startStorage } from '../server.ts'

export const SAN = 'san-a'
export const LUN = 'csv1'
const PORTAL: Address = { network: 'fabric-0', host: SAN, port: 3260 }
const CONTROL: Address = { network: 'cluster', host: SAN, port: 3261 }
const TOKEN = 'token'

export const CONFIG: StorageConfig = {
  name: SAN,
  cluster: 'test',
  credential: TOKEN,
  portals: [PORTAL, { ...PORTAL, network: 'fabric-1' }],
  control: [CONTROL, { ...CONTROL, network: 'fabric-0' }, { ...CONTROL, network: 'fabric-1' }],
}

export class SimStorage {
  readonly sim: Simulation
  readonly records: TraceRecord[] = []
  /** What the storage's start rejected with, the newest last. */
  readonly startErrors: unknown[] = []
  server: StorageServer | null = null
  #env: Environment | null = null

  constructor(options: Partial<SimulationOptions> = {}) {
    this.sim = new Simulation({ seed: 1, ...options })
    this.sim.onRecord(record => {
      if (record.kind.startsWith('storage.')) this.records.push(record)
    })
    this.sim.program('storage', async env => {
      this.server = await startStorage(env, CONFIG).catch(error => {
        this.startErrors.push(error)
        return null
      })
    })
    this.start()
  }

  get disk() {
    return this.sim.host(SAN).disk
  }

  /** Of the client's process. */
  get env(): Environment {
    if (this.#env === null) throw new Error('only within run()')
    return this.#env
  }

  start(): void {
    this.server = null
    this.sim.host(SAN).spawn('storage', SAN)
  }

  /** SIGKILL and a new start. */
  restart(): void {
    this.sim.process(SAN)?.kill()
    this.start()
  }

  /** Power loss and a new start. */
  powerCycle(unsynced: 'lost' | 'torn' | 'kept' = 'lost'): void {
    this.sim.host(SAN).crash({ unsynced })
    this.sim.host(SAN).powerOn()
    this.start()
  }

  /** Runs the scenario on `host-a` to its end, at most a simulated minute. */
  async run(scenario: (self: this) => Promise<void>): Promise<void> {
    let outcome: { readonly error: unknown } | 'done' | null = null
    this.sim.program('scenario', async env => {
      this.#env = env
      try {
        await this.ready()
        await scenario(this)
        outcome = 'done'
      } catch (error) {
        outcome = { error }
      }
    })
    this.sim.host('host-a').spawn('scenario', 'host-a/scenario')
    await this.sim.runUntil(() => outcome !== null, 60_000)
    const ended = outcome as { readonly error: unknown } | 'done' | null
    if (ended === null) throw new Error('the scenario did not end within a minute')
    if (ended !== 'done') throw ended.error
  }

  sleep(ms: number): Promise<void> {
    return new Promise(resolve => void this.env.timers.after(ms, resolve))
  }

  /** The storage is up (again). */
  async ready(): Promise<void> {
    while (this.server === null && this.startErrors.length === 0) await this.sleep(1)
  }

  async session(address: Address = CONTROL): Promise<Session> {
    const identity = { cluster: 'test', node: 'host-a', role: 'agent', incarnation: 1, credential: TOKEN } as const
    return dialSession(this.env, address, 'control', identity)
  }

  /** Over a control link of its own. */
  async order<K extends StorageKind>(kind: K, body: StorageBody<K>): Promise<StorageReply<K>> {
    const session = await this.session()
    try {
      return (await storageFamily.request(session, kind as never, body as never, 30_000)) as StorageReply<K>
    } finally {
      session.close()
    }
  }

  /** A LUN of one MiB and hosts admitted at epoch 1. */
  async setUp(hosts: readonly string[] = ['a'], sizeBytes = 1024 * 1024, open = false): Promise<void> {
    await this.order('storage.create-lun', { lun: LUN, sizeBytes, open })
    for (const host of hosts) await this.order('storage.admit', { host, epoch: 1, term: 1 })
  }

  async connect(claim: HostClaim | null, lun = LUN, network: 'fabric-0' | 'fabric-1' = 'fabric-0'): Promise<NbdClient> {
    return this.connectTo(formatExportName({ lun, claim }), network)
  }

  async connectTo(exportName: string, network: 'fabric-0' | 'fabric-1' = 'fabric-0'): Promise<NbdClient> {
    const stream = await this.env.network.dialStream({ ...PORTAL, network })
    return connectNbd(stream, { exportName, timers: this.env.timers })
  }

  /** As host `a` with what setUp gave it. */
  connectAs(host = 'a', rest: Partial<Omit<HostClaim, 'host'>> = {}): Promise<NbdClient> {
    return this.connect(claimOf(host, rest))
  }

  of(kind: string): TraceRecord[] {
    return this.records.filter(record => record.kind === kind)
  }
}

export const IO = { origin: 'test', deadlineAt: null } as const

export function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value)
}

/** What the promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code: string; outcome?: string }> {
  try {
    await promise
  } catch (error) {
    return error as Error & { code: string; outcome?: string }
  }
  throw new Error('it should have failed')
}

/** Writes take this long; nothing else does. */
export function slowWrites(storage: SimStorage, delayMs = 500): void {
  storage.disk.fault({ operation: 'write', verdict: { delayMs } })
}
