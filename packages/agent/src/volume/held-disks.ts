// What volume owners ask of this host about the disks it has: barriers for snapshots, to take note of a new size, and
// to compare what they hold for a scrub.

import type { CsvDisk } from '@stellwerk/csv/disk/csv-disk.ts'
import { scrubSlot } from '@stellwerk/csv/disk/scrub-part.ts'
import type { Body } from '@stellwerk/protocol/messages/family.ts'
import type { volumeDisksFamily } from '@stellwerk/protocol/messages/volume-disks.ts'
import type { volumeScrubFamily } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { HostVolumes } from './host-volumes.ts'
import type { OpenVolume } from './open-volume.ts'

type Messages = (typeof volumeDisksFamily)['messages']
type Scrub = (typeof volumeScrubFamily)['messages']

export class HeldDisks implements Behavior {
  readonly #system: ActorSystem
  readonly #volumes: Pick<HostVolumes, 'disk' | 'openVolume'>

  constructor(system: ActorSystem, volumes: Pick<HostVolumes, 'disk' | 'openVolume'>) {
    this.#system = system
    this.#volumes = volumes
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
        const held = this.#held(message.body as Body<Messages, 'disk.barrier'>)
        this.#answer(
          message,
          held.barrier().then(() => ({})),
        )
        return
      }
      case 'disk.resized': {
        const body = message.body as Body<Messages, 'disk.resized'>
        this.#held(body).resized(body.sizeBytes, body.mapVersion)
        this.#system.reply(message, {})
        return
      }
      case 'disk.scrub': {
        const body = message.body as Body<Scrub, 'disk.scrub'>
        this.#answer(message, this.#scrub(body, this.#held(body)))
        return
      }
      case 'disk.scrub-slot': {
        const { volume, goodLeg } = message.body as Body<Scrub, 'disk.scrub-slot'>
        const open = this.#volumes.openVolume(volume)
        if (open === null) this.#system.reply(message, { open: false, findings: [] })
        else this.#answer(message, this.#scrubSlot(open, goodLeg))
        return
      }
      default:
        throw new StellwerkError('unknown-kind', `nothing here takes ${message.kind}`)
    }
  }

  #answer(message: Message, work: Promise<object>): void {
    work.then(
      reply => this.#system.reply(message, reply),
      (error: unknown) => this.#system.fail(message, error),
    )
  }

  async #scrub({ volume, ...part }: Body<Scrub, 'disk.scrub'>, held: CsvDisk): Promise<object> {
    const findings = await held.scrub(part)
    const busy = this.#volumes.openVolume(volume)?.busy ?? false
    return { there: findings !== null, busy, findings: findings ?? [] }
  }

  async #scrubSlot({ volume }: OpenVolume, goodLeg: string | null): Promise<object> {
    if (volume === null) {
      throw new StellwerkError('not-open-yet', 'the volume is being opened here', { retryable: true })
    }
    return { open: true, findings: await scrubSlot(volume, goodLeg) }
  }

  /** Exactly as the owner knows it to be held: another instance's answer would mean nothing. */
  #held({ volume, disk, epoch, hostEpoch }: Body<Messages, 'disk.barrier'>): CsvDisk {
    const held = this.#volumes.disk(volume, disk)
    if (held !== null && held.heldAt.epoch === epoch && held.heldAt.hostEpoch === hostEpoch) return held
    throw new StellwerkError('not-attached', `disk ${disk} is not open here at placement epoch ${epoch}`, {
      where: disk,
      retryable: true,
      hint: 'try again when its VM runs',
    })
  }
}
