// What volume owners ask of this host about the disks it has: barriers for snapshots, and to take note of a new size.

import type { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import type { Body } from '@stellwerk/protocol/messages/family.ts'
import type { volumeDisksFamily } from '@stellwerk/protocol/messages/volume-disks.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

type Messages = (typeof volumeDisksFamily)['messages']

export class HeldDisks implements Behavior {
  readonly #system: ActorSystem
  readonly #diskOf: (volume: string, disk: string) => CsvDisk | null

  constructor(system: ActorSystem, diskOf: (volume: string, disk: string) => CsvDisk | null) {
    this.#system = system
    this.#diskOf = diskOf
  }

  receive(message: Message, context: ActorContext): void {
    if (message.re !== undefined) return
    try {
      this.#take(message)
    } catch (error) {
      if (!(error instanceof StellwerkError)) throw error
      context.fail(message, error)
    }
  }

  #take(message: Message): void {
    switch (message.kind) {
      case 'disk.barrier': {
        // The answer takes as long as the writes in flight.
        this.#held(message.body as Body<Messages, 'disk.barrier'>)
          .barrier()
          .then(
            () => this.#system.reply(message, {}),
            (error: unknown) => this.#system.fail(message, error),
          )
        return
      }
      case 'disk.resized': {
        const body = message.body as Body<Messages, 'disk.resized'>
        this.#held(body).resized(body.sizeBytes, body.mapVersion)
        this.#system.reply(message, {})
        return
      }
      default:
        throw new StellwerkError('unknown-kind', `nothing here takes ${message.kind}`)
    }
  }

  /** Exactly as the owner knows it to be held: another instance's answer would mean nothing. */
  #held({ volume, disk, epoch, hostEpoch }: Body<Messages, 'disk.barrier'>): CsvDisk {
    const held = this.#diskOf(volume, disk)
    if (held !== null && held.heldAt.epoch === epoch && held.heldAt.hostEpoch === hostEpoch) return held
    throw new StellwerkError('not-attached', `disk ${disk} is not open here at placement epoch ${epoch}`, {
      where: disk,
      retryable: true,
      hint: 'try again when its VM runs',
    })
  }
}
