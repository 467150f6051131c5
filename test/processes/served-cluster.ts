// A cluster of `coordinator serve`, `storage serve` and `agent serve`, as of machines of their own: three hosts, two storages,
// two fabrics that can be pulled out. Not a test itself.

import { readFileSync, writeFileSync } from 'node:fs'
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
const PORTS = 1 + HOSTS.length + STORAGES.length * 5
export const TOKEN = '0123456789abcdef'
const COMMON = { cluster: 'served', token: TOKEN, logLevel: 'error' } as const

/** An NBD server of another make, reached over `fabric-0`. */
export interface ExternalServer {
  readonly name: string
  readonly port: number
  readonly exports: readonly { readonly lun: string; readonly export: string }[]
}

export class ServedCluster {
  readonly fabrics = { 'fabric-0': new Fabric(), 'fabric-1': new Fabric() }
  /** By the name of what is served: of a host it is its guardian. */
  readonly served = new Map<string, Running>()
  readonly #stellwerk: Stellwerk

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
  }

  /** Resolves when every process serves, hosts as soon as they have started; commands of `stellwerk` find it from then on. */
  async start(settings: Partial<Settings>, external: readonly ExternalServer[] = []): Promise<ApiClient> {
    const ports = await freePorts(this.#stellwerk, PORTS)
    const at = (network: string) => ({ network, host: HOST, port: ports.shift() ?? 0 })
    const listen = at('cluster')
    const storages = STORAGES.map(name => ({
      name,
      portals: FABRICS.map(at),
      control: [at('cluster'), ...FABRICS.map(at)],
    }))
    const reached: object[] = []
    for (const { name, portals, control } of storages) {
      reached.push({ name, portals: await this.#over(portals), control: await this.#over(control) })
    }
    const served = storages.map(storage => this.#serve('storage', storage.name, storage))
    for (const { name, port, exports } of external) {
      reached.push({
        name,
        portals: await this.#over([{ network: 'fabric-0', host: HOST, port }]),
        external: { exports },
      })
    }
    const coordinator = { profile: 'production', settings, listen, api: { port: 0 }, storages: reached }
    const line = await this.#serve('coordinator', 'coordinator', coordinator)
    await Promise.all(served)
    const agents = HOSTS.map(host =>
      this.#serve('agent', host, { host, coordinator: listen, listen: at('cluster'), memoryBytes: GIB }),
    )
    await Promise.all(agents)
    const port = Number(/"port":(\d+)/.exec(line)?.[1])
    const token = readFileSync(join(this.#stellwerk.directory, 'coordinator', 'api-token'), 'utf8').trim()
    Object.assign(this.#stellwerk.environment, { STELLWERK_API: `http://${HOST}:${port}`, STELLWERK_TOKEN: token })
    return new ApiClient({ host: HOST, port, token })
  }

  async close(): Promise<void> {
    for (const fabric of Object.values(this.fabrics)) await fabric.close()
  }

  #serve(program: string, name: string, config: object): Promise<string> {
    const file = `${name}.json`
    const text = JSON.stringify({ ...COMMON, directory: name, ...config })
    writeFileSync(join(this.#stellwerk.directory, file), text)
    const running = this.#stellwerk.start(program, 'serve', '--config', file)
    this.served.set(name, running)
    return running.said(/ (serves|starts): /)
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
