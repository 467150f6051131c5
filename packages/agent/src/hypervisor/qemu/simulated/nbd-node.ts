// The simulated QEMU's block node of the driver `nbd`: a client that connects again when its server has gone away, and issues
// again what had no answer. Meanwhile requests wait: `reconnect-delay` is longer than anybody lets a machine be without its agent.
// Source: block/nbd.c and nbd/client-connection.c of QEMU 7.2.

import { connectNbd, type NbdClient } from '@stellwerk/block/nbd/client.ts'
import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { PassingDevice } from '../../passing-device.ts'
import type { DiskArgument } from './arguments.ts'

/** Between two attempts: the first and the longest, doubled each time. */
const RETRY_MS = 1_000
const RETRY_MAX_MS = 16_000

export class NbdNode extends PassingDevice {
  readonly #env: Environment
  readonly #argument: DiskArgument
  readonly #dial: (socket: string) => Promise<ByteStream>
  #client: NbdClient
  #connecting: Promise<void> | null = null

  private constructor(
    env: Environment,
    argument: DiskArgument,
    dial: (socket: string) => Promise<ByteStream>,
    client: NbdClient,
  ) {
    super(client)
    this.#env = env
    this.#argument = argument
    this.#dial = dial
    this.#client = client
  }

  /** The first connection has to succeed: QEMU does not start without. */
  static async open(
    env: Environment,
    argument: DiskArgument,
    dial: (socket: string) => Promise<ByteStream>,
  ): Promise<NbdNode> {
    return new NbdNode(env, argument, dial, await connect(env, argument, dial))
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  protected async pass<T>(request: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#client.error !== null) await this.#reconnected()
      try {
        return await request()
      } catch (error) {
        if (this.#client.error === null) throw error
      }
    }
  }

  /** One attempt after the other, for all that wait. */
  #reconnected(): Promise<void> {
    this.#connecting ??= this.#reconnect().finally(() => {
      this.#connecting = null
    })
    return this.#connecting
  }

  async #reconnect(): Promise<void> {
    for (let waitMs = RETRY_MS; ; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
      try {
        this.#client = await connect(this.#env, this.#argument, this.#dial)
        this.disk = this.#client
        return
      } catch (error) {
        this.#env.log.debug({ disk: this.#argument.name }, `not connected again: ${errorMessage(error)}`)
      }
      await new Promise<void>(resolve => void this.#env.timers.after(waitMs, resolve))
    }
  }
}

async function connect(
  env: Environment,
  { name, socket }: DiskArgument,
  dial: (socket: string) => Promise<ByteStream>,
): Promise<NbdClient> {
  return connectNbd(await dial(socket), { exportName: name, timers: env.timers })
}
