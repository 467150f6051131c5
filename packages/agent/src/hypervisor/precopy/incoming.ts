// The target's side of a live migration: loads the stream into memory set aside for it, and makes a machine of it only
// against the proof of a commit (rule MIG1).

import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { Commit, Incoming, Loaded, Machine } from '../hypervisor.ts'
import { type ReceivedImage, receiveImage } from './receiver.ts'

/** The machine to be, as its hypervisor prepared it. */
export interface MigrationTarget {
  readonly vm: string
  readonly memory: Buffer
  /** Checks what came beside the memory; throws `corrupt-data` where it makes no sense. Nothing runs yet. */
  accept(registers: Uint8Array): void
  run(commit: Commit): Promise<Machine>
  discard(): Promise<void>
}

type Phase = 'empty' | 'loading' | 'loaded' | 'failed' | 'running' | 'discarded'

export class PrecopyIncoming implements Incoming {
  readonly #env: Environment
  readonly #target: MigrationTarget
  #phase: Phase = 'empty'
  #stream: ByteStream | null = null

  constructor(env: Environment, target: MigrationTarget) {
    this.#env = env
    this.#target = target
  }

  async load(stream: ByteStream): Promise<Loaded> {
    if (this.#phase !== 'empty') throw this.#refuse('load')
    this.#phase = 'loading'
    this.#stream = stream
    let image: ReceivedImage
    try {
      image = await receiveImage(this.#env, stream, this.#target.memory)
      this.#throwIfDiscarded()
      this.#target.accept(image.registers)
    } catch (error) {
      this.#throwIfDiscarded()
      this.#phase = 'failed'
      throw error
    }
    this.#phase = 'loaded'
    return { stateChecksum: image.stateChecksum, trailer: image.trailer }
  }

  async run(commit: Commit): Promise<Machine> {
    if (this.#phase !== 'loaded') throw this.#refuse('run')
    if (commit.vm !== this.#target.vm) {
      throw new StellwerkError('wrong-commit', `a commit for ${commit.vm} cannot run ${this.#target.vm}`)
    }
    this.#phase = 'running'
    return this.#target.run(commit)
  }

  async discard(): Promise<void> {
    if (this.#phase === 'discarded') return
    if (this.#phase === 'running') throw this.#refuse('discard')
    this.#phase = 'discarded'
    this.#stream?.destroy()
    await this.#target.discard()
  }

  #throwIfDiscarded(): void {
    if (this.#phase === 'discarded') throw this.#refuse('load')
  }

  #refuse(what: string): StellwerkError {
    return new StellwerkError(
      'bad-migration-state',
      `cannot ${what}: what arrives of ${this.#target.vm} is ${this.#phase}`,
    )
  }
}
