// A cluster of `coordinator serve`, `storage serve` and `agent serve`, as of machines of their own: three hosts, two storages
// that can be lost and replaced, two fabrics that can be pulled out. Not a test itself.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Settings } from '@stellwerk/protocol/settings.ts'
import { createEnvironment } from '@stellwerk/runtime/node/environment.ts'
import { memoryStore } from '@stellwerk/runtime/node/memory-store.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { ApiClient } from 'stellwerk/api-client/client.ts'
import { findPorts } from 'stellwerk/cluster/ports.ts'
import { Fabric } from './fabric.ts'
import type { Running, Stellwerk } from './stellwerk.ts'

const HOST = '127.0.0.1'
export const HOSTS = ['host-a', 'host-b', 'host-c'] as const
export const STORAGES = ['san-a', 'san-b'] as const
export const FABRICS = ['fabric-0', 'fabric-1'] as const
const PORTS_PER_STORAGE = 3 + FABRICS.length
const PORTS = 2 + HOSTS.length + STORAGES.length * PORTS_PER_STORAGE
const TOKEN = '0123456789abcdef'
const COMMON = { cluster: 'served', token: TOKEN, logLevel: 'error' } as const

/** An NBD server of another make, reached over `fabric-0`. */
export interface ExternalServer {
  readonly name: string
  readonly port: number
  readonly exports: readonly { readonly lun: string; readonly export: string }[]
}

/** Gives an address of its own on that network. */
type Addresses = (network: string) => { readonly network: string; readonly host: string; readonly port: number }

/** As the coordinator is told of it. */
interface StorageEntry extends Partial<Record<'portals' | 'control', readonly object[]>> {
  readonly name: string
  readonly external?: object
}

export class ServedCluster {
  readonly fabrics = { 'fabric-0': new Fabric(), 'fabric-1': new Fabric() }
  /** By the name of what is served: of a host it is its guardian. */
  readonly served = new Map<string, Running>()
  readonly #stellwerk: Stellwerk
  /** The coordinator's configuration, but for the storages. */
  #coordinator: object = {}
  #storages: readonly StorageEntry[] = []

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
  }

  /** Resolves when every process serves, hosts as soon as they have started; commands of `stellwerk` find it from then on. */
  async start(settings: Partial<Settings>, external: readonly ExternalServer[] = []): Promise<ApiClient> {
    const ports = await freePorts(this.#stellwerk, PORTS)
    const at = (network: string) => ({ network, host: HOST, port: ports.shift() ?? 0 })
    const listen = at('cluster')
    const { port } = at('api')
    this.#coordinator = { profile: 'production', settings, listen, api: { port } }
    const storages = STORAGES.map(name => this.#serveStorage(name, at))
    const others = external.map(async server => ({
      name: server.name,
      portals: await this.#over([{ network: 'fabric-0', host: HOST, port: server.port }]),
      external: { exports: server.exports },
    }))
    this.#storages = await Promise.all([...storages, ...others])
    await this.#serveCoordinator()
    const agents = HOSTS.map(host =>
      this.#serve('agent', host, { host, coordinator: listen, listen: at('cluster'), memoryBytes: GIB }),
    )
    await Promise.all(agents)
    const token = readFileSync(join(this.#stellwerk.directory, 'coordinator', 'api-token'), 'utf8').trim()
    Object.assign(this.#stellwerk.environment, {
      STELLWERK_API: `http://${HOST}:${port}`,
      STELLWERK_TOKEN: token,
      STELLWERK_JOIN_TOKEN: TOKEN,
    })
    return new ApiClient({ host: HOST, port, token })
  }

  /** kill -9, and what it had is gone for good. */
  async loseStorage(name: string): Promise<void> {
    await this.#kill(name)
    rmSync(join(this.#stellwerk.directory, name), { recursive: true })
  }

  /** A blank one in the place of one that was lost, with its name and its addresses. */
  async startBlank(name: string): Promise<void> {
    await this.#startAgain('storage', name)
  }

  /** Another storage takes the place of one that was lost: the coordinator is killed, and started with that one instead. */
  async replaceStorage(lost: string, name: string): Promise<void> {
    const ports = await freePorts(this.#stellwerk, PORTS_PER_STORAGE)
    const added = await this.#serveStorage(name, network => ({ network, host: HOST, port: ports.shift() ?? 0 }))
    this.#storages = [...this.#storages.filter(storage => storage.name !== lost), added]
    await this.#kill('coordinator')
    await this.#serveCoordinator()
  }

  async close(): Promise<void> {
    for (const fabric of Object.values(this.fabrics)) await fabric.close()
  }

  async #serveStorage(name: string, at: Addresses): Promise<StorageEntry> {
    const portals = FABRICS.map(at)
    const control = [at('cluster'), ...FABRICS.map(at)]
    await this.#serve('storage', name, { name, portals, control })
    return { name, portals: await this.#over(portals), control: await this.#over(control) }
  }

  async #serveCoordinator(): Promise<void> {
    await this.#serve('coordinator', 'coordinator', { ...this.#coordinator, storages: this.#storages })
  }

  async #kill(name: string): Promise<void> {
    const running = this.served.get(name)
    running?.process.kill('SIGKILL')
    await running?.ended
  }

  async #serve(program: string, name: string, config: object): Promise<void> {
    const text = JSON.stringify({ ...COMMON, directory: name, ...config })
    writeFileSync(join(this.#stellwerk.directory, `${name}.json`), text)
    await this.#startAgain(program, name)
  }

  async #startAgain(program: string, name: string): Promise<void> {
    const running = this.#stellwerk.start(program, 'serve', '--config', `${name}.json`)
    this.served.set(name, running)
    await running.said(/ (serves|starts): /)
  }

  /** Where hosts find these: those on a fabric through it. */
  #over<T extends { readonly network: string; readonly port: number }>(addresses: readonly T[]): Promise<T[]> {
    return Promise.all(
      addresses.map(async address => {
        const { network, port } = address
        if (network !== 'fabric-0' && network !== 'fabric-1') return address
        return { ...address, port: await this.fabrics[network].carry(port) }
      }),
    )
  }
}

export async function freePorts({ directory }: Stellwerk, count: number): Promise<number[]> {
  const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
  const ports = await findPorts(env, HOST, count)
  await env.close()
  return ports
}
