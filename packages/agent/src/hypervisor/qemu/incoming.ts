// The target's side of a live migration: a QEMU that waits for the stream (`-incoming defer`) and, once it has it, for the
// commit. Until then it neither runs nor touches its disks (`late-block-activate`). A stream that is damaged ends this QEMU,
// and nothing else.

import type { ByteStream, CommandExit, Compute } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Commit, Incoming, Loaded, Machine } from '../hypervisor.ts'
import { INCOMING_SOCKET } from './command-line.ts'
import type { PortHandover } from './console.ts'
import type { QemuMachine } from './machine.ts'
import { lastWords } from './qemu-process.ts'
import { StreamReceiver } from './stream-receiver.ts'
import { decodeTrailer } from './trailer.ts'

export class QemuIncoming implements Incoming {
  readonly #compute: Compute
  readonly #machine: QemuMachine
  #state: 'waiting' | 'loading' | 'loaded' | 'over' = 'waiting'
  readonly #failure = Promise.withResolvers<never>()
  #port: PortHandover | null = null

  constructor(compute: Compute, machine: QemuMachine) {
    this.#compute = compute
    this.#machine = machine
    // Whoever loads hears of it; without a load nobody has to.
    this.#failure.promise.catch(() => undefined)
    machine.qemu.onExit(exit => this.#failure.reject(endOf(exit)))
  }

  async load(stream: ByteStream): Promise<Loaded> {
    this.#state = 'loading'
    try {
      const loaded = await Promise.race([this.#load(stream), this.#failure.promise])
      this.#state = 'loaded'
      return loaded
    } catch (error) {
      this.#state = 'over'
      stream.destroy()
      throw error
    }
  }

  async #load(stream: ByteStream): Promise<Loaded> {
    const { qmp, qemu } = this.#machine
    const on = (...names: string[]) => names.map(capability => ({ capability, state: true }))
    await qmp.execute('migrate-set-capabilities', { capabilities: on('events', 'late-block-activate') })
    const complete = Promise.withResolvers<void>()
    this.#failure.promise.catch(complete.reject)
    // The load has failed by then, with the same error.
    complete.promise.catch(() => undefined)
    const unlisten = this.#machine.onQemuEvent(({ event, data }) => {
      if (event === 'MIGRATION' && data['status'] === 'completed') complete.resolve()
    })
    await qmp.execute('migrate-incoming', { uri: `unix:${INCOMING_SOCKET}` })
    const into = await qemu.sockets.dial(INCOMING_SOCKET)
    try {
      await qemu.seal()
      const { stateChecksum, trailer } = await new StreamReceiver(this.#compute, stream, into).run()
      const { handedOver, port } = decodeTrailer(trailer)
      into.end()
      await complete.promise
      this.#port = port
      return { stateChecksum, trailer: handedOver }
    } finally {
      unlisten()
      into.destroy()
    }
  }

  async run(commit: Commit): Promise<Machine> {
    if (this.#state !== 'loaded') {
      throw new StellwerkError('bad-migration-state', `there is nothing to run: the stream is ${this.#state}`, {
        where: commit.vm,
      })
    }
    if (commit.vm !== this.#machine.life.vm) {
      throw new StellwerkError('wrong-commit', `a commit for ${commit.vm} cannot run ${this.#machine.life.vm}`)
    }
    this.#state = 'over'
    this.#machine.arrive(commit.placementEpoch)
    this.#machine.start()
    if (this.#port !== null) this.#machine.console.precede(this.#port)
    return this.#machine
  }

  async discard(): Promise<void> {
    this.#state = 'over'
    await this.#machine.kill()
  }
}

/** A QEMU that ends by itself did not like what it read; one that was killed says nothing of it. */
function endOf(exit: CommandExit): StellwerkError {
  return new StellwerkError(exit.signal === null ? 'corrupt-data' : 'qemu-failed', lastWords(exit))
}
