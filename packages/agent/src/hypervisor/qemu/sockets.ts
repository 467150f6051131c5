// The sockets between the agent and one QEMU, in the machine's directory. Where QEMU begins, the agent listens, so that nothing
// has to be waited for by trying; where QEMU listens, an agent that comes later can connect, too.

import type { Address, ByteStream, Environment, Listener } from '@stellwerk/runtime/environment.ts'

export class MachineSockets {
  readonly #env: Pick<Environment, 'network' | 'files'>
  /** Among the process's files. */
  readonly #directory: string
  readonly #listeners: Listener[] = []

  constructor(env: Pick<Environment, 'network' | 'files'>, directory: string) {
    this.#env = env
    this.#directory = directory
  }

  address(name: string): Address {
    return { network: 'local', host: this.#env.files.locate(`${this.#directory}/${name}`), port: 0 }
  }

  /** Listens; `connected` resolves with the first connection, and later ones are dropped. */
  async expect(name: string): Promise<{ readonly connected: Promise<ByteStream>; close(): Promise<void> }> {
    const { promise, resolve } = Promise.withResolvers<ByteStream>()
    let taken = false
    const listener = await this.#env.network.listenStream(this.address(name), stream => {
      if (taken) {
        stream.destroy()
        return
      }
      taken = true
      resolve(stream)
    })
    this.#listeners.push(listener)
    // QEMU may be another user.
    await this.#env.files.handOver(`${this.#directory}/${name}`)
    return { connected: promise, close: () => listener.close() }
  }

  dial(name: string): Promise<ByteStream> {
    return this.#env.network.dialStream(this.address(name))
  }

  async close(): Promise<void> {
    await Promise.all(this.#listeners.splice(0).map(listener => listener.close()))
  }
}
