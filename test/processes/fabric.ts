// A fabric that can be pulled out: all that hosts send to storages over it passes through here. Not a test itself.

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

const ADDRESS = '127.0.0.1'

export class Fabric {
  readonly #servers = new Set<Server>()
  readonly #sockets = new Set<Socket>()
  #state: 'up' | 'down' | 'silent' = 'up'

  /** The port at which hosts find what listens on `port`. */
  async carry(port: number): Promise<number> {
    const server = createServer(near => this.#join(near, port))
    this.#servers.add(server)
    await new Promise<void>(resolve => server.listen(0, ADDRESS, resolve))
    return (server.address() as AddressInfo).port
  }

  /** Every connection is reset, and no new one is made. */
  down(): void {
    this.#state = 'down'
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  /** Nothing passes, and nobody is told. What is on its way arrives when it is up again. */
  silence(): void {
    this.#state = 'silent'
    for (const socket of this.#sockets) socket.pause()
  }

  up(): void {
    this.#state = 'up'
    for (const socket of this.#sockets) socket.resume()
  }

  async close(): Promise<void> {
    this.down()
    await Promise.all([...this.#servers].map(server => new Promise(resolve => server.close(resolve))))
  }

  #join(near: Socket, port: number): void {
    if (this.#state === 'down') {
      near.resetAndDestroy()
      return
    }
    const far = connect({ port, host: ADDRESS })
    this.#pass(near, far)
    this.#pass(far, near)
  }

  #pass(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.setNoDelay(true)
    from.on('data', chunk => {
      if (!to.write(chunk)) from.pause()
    })
    to.on('drain', () => {
      if (this.#state === 'up') from.resume()
    })
    if (this.#state === 'silent') from.pause()
    // Either end's end is the other's, behind what was on its way; an error of a program that was killed is one too.
    from.on('error', () => from.destroy())
    from.on('close', () => {
      this.#sockets.delete(from)
      to.destroySoon()
    })
  }
}
