// A volume's owner on this host, as an actor: opens the LUN as owner (storage drains the predecessor), lays the volume out
// if it is new, replays, then answers. It ends when another epoch comes, or when it is deposed.

import type { MultipathDevice } from '@stellwerk/block/path/multipath.ts'
import { type CheckReport, isVolumeDamage } from '@stellwerk/csv/check.ts'
import { formatVolume } from '@stellwerk/csv/format/format-volume.ts'
import type { MetadataRanges } from '@stellwerk/csv/format/layout.ts'
import type { VolumeBody, VolumeKind } from '@stellwerk/csv/owner/request.ts'
import { VolumeOwner } from '@stellwerk/csv/owner/volume-owner.ts'
import type { ClusterMapStorage, ClusterMapVolume } from '@stellwerk/protocol/messages/cluster.ts'
import { type CheckAnswer, MAX_FINDINGS } from '@stellwerk/protocol/messages/volume-check.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import { describeError, errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type LunAccess, openLun } from '../hba/lun.ts'

export interface OwnerOptions {
  readonly access: LunAccess
  readonly system: ActorSystem
  readonly cluster: string
  readonly volume: ClusterMapVolume
  readonly storages: readonly ClusterMapStorage[]
  readonly hostEpoch: number
  readonly ownerEpoch: number
  readonly onChange: () => void
}

/** An owner that could not open its volume tries again after this. */
const RETRY_MS = 500
/** Where the volume itself is the reason: an operator must mend it, and each attempt reads all of its metadata. */
const DAMAGED_RETRY_MS = 5_000
const LAYOUT_MS = 2_000
const MAX_WHY = 1_000

export class OwnerService implements Behavior {
  readonly ownerEpoch: number
  readonly #options: OwnerOptions
  readonly #abort = new AbortController()
  #devices: MultipathDevice[] = []
  #owner: VolumeOwner | null = null
  #state: 'opening' | 'serving' | 'failed' | 'ended' = 'opening'
  #why: string | null = null
  #damaged = false
  #work: Promise<void> = Promise.resolve()

  constructor(options: OwnerOptions) {
    this.#options = options
    this.ownerEpoch = options.ownerEpoch
  }

  get state(): string {
    return this.#state === 'opening' && this.#damaged ? 'damaged' : this.#state
  }

  /** Why it does not serve, as far as it is known. */
  get why(): string | null {
    return this.#state === 'serving' ? null : this.#why
  }

  started(): void {
    this.#work = this.#open()
  }

  receive(message: Message, context: ActorContext): void {
    if (message.re !== undefined) return
    const { system, volume } = this.#options
    const owner = this.#owner
    if (owner === null || this.#state !== 'serving') {
      const why = `volume "${volume.name}" is ${this.state} here${this.#why === null ? '' : `: ${this.#why}`}`
      context.fail(message, new StellwerkError('owner-away', why, { retryable: true, hint: 'try again' }))
      return
    }
    if (message.kind === 'volume.check') {
      owner.check().then(
        report => system.reply(message, answerOf(report)),
        (error: unknown) => system.fail(message, error),
      )
      return
    }
    owner.handle(message.kind as VolumeKind, message.body as VolumeBody<VolumeKind>).then(
      reply => system.reply(message, reply),
      (error: unknown) => system.fail(message, error),
    )
  }

  /** Resolves when nothing is written any more. */
  async end(inOrder: boolean): Promise<void> {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#abort.abort()
    if (!inOrder) for (const device of this.#devices) device.abort('the host is fenced')
    await this.#work
    await this.#owner?.close()
    for (const device of this.#devices) device.abort('the volume is owned elsewhere')
  }

  async #open(): Promise<void> {
    const { access, volume } = this.#options
    while (this.#state === 'opening') {
      try {
        await this.#tryOpen()
        return
      } catch (error) {
        if (this.#ended()) return
        access.env.log.warn(
          { volume: volume.name, code: errorCode(error) },
          `not opened as owner: ${errorMessage(error)}`,
        )
        for (const device of this.#devices.splice(0)) device.abort('opening failed')
        if (errorCode(error) === 'stale-owner') this.#state = 'failed'
        this.#explain(describeError(error), isVolumeDamage(error))
        const pauseMs = this.#damaged ? DAMAGED_RETRY_MS : RETRY_MS
        await Promise.race([
          new Promise<void>(resolve => access.env.timers.after(pauseMs, resolve)),
          new Promise<void>(resolve => this.#abort.signal.addEventListener('abort', () => resolve(), { once: true })),
        ])
      }
    }
  }

  #explain(why: string, damaged: boolean): void {
    const told = why.slice(0, MAX_WHY)
    if (told === this.#why && damaged === this.#damaged) return
    this.#why = told
    this.#damaged = damaged
    this.#options.onChange()
  }

  /** Read anew: it changes while something is awaited. */
  #ended(): boolean {
    return this.#state === 'ended'
  }

  async #tryOpen(): Promise<void> {
    const { access, volume, cluster, storages, hostEpoch, ownerEpoch } = this.#options
    const legs = []
    for (const leg of volume.legs) {
      const storage = present(
        storages.find(s => s.name === leg.storage),
        `the storage ${leg.storage} of volume ${volume.name}`,
      )
      const device = await openLun(access, {
        storage,
        lun: leg.lun,
        epoch: hostEpoch,
        generation: volume.generation,
        owner: ownerEpoch,
        signal: this.#abort.signal,
        onRefused: refusal => this.#lost(`${refusal.code}: ${refusal.message}`),
      })
      this.#devices.push(device)
      legs.push({ id: leg.leg, device })
    }
    if (this.#ended()) return
    // The predecessor has been drained: this is the last that the storage will have been told by one.
    const leastOwnerEpoch = await this.#leastEpoch()
    if (volume.format && leastOwnerEpoch === 0) await this.#formatOnce(legs, cluster)
    const owner = await VolumeOwner.open({
      legs,
      volume: volume.name,
      expected: { volumeId: volume.id },
      ownerEpoch,
      leastOwnerEpoch,
      env: access.env,
      onRanges: ranges => this.#register(ranges),
      onEnd: error => this.#lost(error.message),
    })
    this.#owner = owner
    // It may have ended, or been deposed, while it opened.
    if (this.#state !== 'opening') return
    this.#state = 'serving'
    this.#options.onChange()
    access.env.trace.emit({
      level: 'decision',
      kind: 'volume.owned',
      host: access.host,
      volume: volume.name,
      body: { ownerEpoch },
    })
  }

  /** What the journal must know of. A leg that is out of sync is told layouts too, so any leg's word counts. */
  async #leastEpoch(): Promise<number> {
    const { access, volume } = this.#options
    let least = 0
    for (const leg of volume.legs) {
      const reply = await access.links.relay(leg.storage, 'storage.opened', { lun: leg.lun }, LAYOUT_MS)
      least = Math.max(least, (reply as { readonly opened: number }).opened)
    }
    return least
  }

  async #formatOnce(legs: { id: string; device: MultipathDevice }[], cluster: string): Promise<void> {
    const { volume } = this.#options
    try {
      await formatVolume({ legs, volumeId: volume.id, clusterId: cluster })
    } catch (error) {
      // A predecessor got as far as the superblocks: if they are this volume's, opening it says the rest.
      if (errorCode(error) !== 'volume-exists') throw error
    }
  }

  /** Only owner connections may write the metadata, and a slot only its host's. */
  async #register(ranges: MetadataRanges): Promise<void> {
    const { access, volume, ownerEpoch, hostEpoch } = this.#options
    for (const leg of volume.legs) {
      const body = { lun: leg.lun, ownerEpoch, host: access.host, epoch: hostEpoch, ...ranges }
      await access.links.relay(leg.storage, 'storage.layout', body, LAYOUT_MS)
    }
  }

  #lost(why: string): void {
    if (this.#state === 'ended') return
    const { access, volume } = this.#options
    access.env.log.warn({ volume: volume.name }, `no longer its owner: ${why}`)
    this.#state = 'failed'
    this.#why = why.slice(0, MAX_WHY)
    this.#options.onChange()
  }
}

/** What has room in a message; the worst first. */
function answerOf({ clean, findings, summary }: CheckReport): CheckAnswer {
  const order = ['damage', 'leak', 'degraded']
  const sorted = [...findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
  const told = sorted.slice(0, MAX_FINDINGS).map(each => ({
    leg: each.leg,
    code: each.code,
    severity: each.severity,
    where: each.where.slice(0, 2000),
    message: each.message.slice(0, 2000),
  }))
  return { clean, findings: told, more: sorted.length - told.length, summary }
}
