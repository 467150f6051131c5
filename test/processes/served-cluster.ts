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
import type { Stellwerk } from './stellwerk.ts'

const HOST = '127.0.0.1'
export const HOSTS = ['host-a', 'host-b', 'host-c'] as const
export const STORAGES = ['san-a', 'san-b'] as const
export const FABRICS = ['fabric-0', 'fabric-1'] as const
const PORTS = 1 + HOSTS.length + STORAGES.length * 5
const COMMON = { cluster: 'served', token: '0123456789abcdef', logLevel: 'error' } as const

export class ServedCluster {
  readonly fabrics = { 'fabric-0': new Fabric(), 'fabric-1': new Fabric() }
  readonly #stellwerk: Stellwerk

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
  }

  /** Resolves when every process serves; commands of `stellwerk` find it from then on. */
  async start(settings: Partial<Settings>): Promise<ApiClient> {
    const ports = await this.#ports()
    const at = (network: string) => ({ network, host: HOST, port: ports.shift() ?? 0 })
    const listen = at('cluster')
    const storages = STORAGES.map(name => ({
      name,
      portals: FABRICS.map(at),
      control: [at('cluster'), ...FABRICS.map(at)],
    }))
    const reached = []
    for (const { name, portals, control } of storages) {
      reached.push({ name, portals: await this.#over(portals), control: await this.#over(control) })
    }
    const served = storages.map(storage => this.#serve('storage', storage.name, storage))
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
    return this.#stellwerk.start(program, 'serve', '--config', file).said(/ serves: /)
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

  async #ports(): Promise<number[]> {
    const { directory } = this.#stellwerk
    const env = createEnvironment({ name: 'test', directory, store: memoryStore(), logLevel: 'silent' })
    const ports = await findPorts(env, HOST, PORTS)
    await env.close()
    return ports
  }
}
