// A volume of two legs in memory: hosts that mirror over both, owners in one generation after the other.

import { BlockError } from '@stellwerk/block/device.ts'
import type { Generation } from '@stellwerk/block/mirror/generation.ts'
import { type LegDevice, type MirrorDevice, openMirror } from '@stellwerk/block/mirror/mirror.ts'
import type { ScrubFinding } from '@stellwerk/block/mirror/scrub.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { HostVolume } from '../disk/host-volume.ts'
import { scrubSlot } from '../disk/scrub-part.ts'
import { formatVolume } from '../format/format-volume.ts'
import { extentAddress, type Layout } from '../format/layout.ts'
import type { LegState, VolumeGeneration } from '../mirror/leg-state.ts'
import type { ScrubHosts } from '../mirror/owner-scrub.ts'
import { loadLeg } from '../owner/load.ts'
import type { OwnerCall } from '../owner/request.ts'
import { VolumeOwner } from '../owner/volume-owner.ts'
import { CrashDevice, Platter } from './crash-device.ts'
import { quietLog, Records, SMALL } from './fixture.ts'
import { callTo, HandTimers } from './host-fixture.ts'

export const LEGS = ['leg-0', 'leg-1'] as const
const COPY_IO = { origin: 'resync', deadlineAt: null }
const SCRUB_IO = { origin: 'scrub', deadlineAt: null }

class Leg extends CrashDevice implements LegDevice {
  /** Awaited before what is copied lands. */
  held: () => Promise<void> | undefined = () => undefined

  override async write(...[offset, data, flags, io]: Parameters<CrashDevice['write']>): Promise<void> {
    if (io.origin === COPY_IO.origin) await this.held()
    return super.write(offset, data, flags, io)
  }

  abort(): void {
    this.refuse = null
  }
}

export function generation(
  number: number,
  roles: readonly [LegState['role'], LegState['role']],
  lastInSync: readonly [LegState['lastInSync'], LegState['lastInSync']] = [null, null],
): VolumeGeneration {
  return {
    number,
    legs: LEGS.map((id, index) => ({ id, index, role: roles[index]!, lastInSync: lastInSync[index]! })),
  }
}

export function rolesOf({ number, legs }: VolumeGeneration): Generation {
  return { number, legs: Object.fromEntries(legs.map(({ id, role }) => [id, role])) }
}

const toWire = (findings: readonly ScrubFinding[]) => findings.map(each => ({ ...each, legs: [...each.legs] }))

export class MirroredVolume {
  readonly platters: readonly Platter[]
  readonly layout: Layout
  readonly timers = new HandTimers()
  readonly records = new Records()
  /** Where a host's mirror has copied a region from one leg to the other, in order. */
  readonly copies: number[] = []
  generation: VolumeGeneration
  owner: VolumeOwner
  #ownerEpoch = 1

  private constructor(platters: readonly Platter[], layout: Layout, first: VolumeGeneration, owner: VolumeOwner) {
    this.platters = platters
    this.layout = layout
    this.generation = first
    this.owner = owner
  }

  static async make(): Promise<MirroredVolume> {
    const platters = LEGS.map(() => new Platter(8 * MIB))
    const legs = LEGS.map((id, i) => ({ id, device: new CrashDevice(platters[i]!) }))
    const layout = await formatVolume({ ...SMALL, legs })
    const first = generation(1, ['in-sync', 'in-sync'])
    const volume = new MirroredVolume(platters, layout, first, null as never)
    volume.owner = await volume.#openOwner()
    return volume
  }

  /** Of a leg: blocks of 4 KiB that cannot be read until they are written anew. */
  readonly latent: readonly Set<number>[] = LEGS.map(() => new Set<number>())
  /** Host → until when what it copies is on its way. */
  readonly held = new Map<string, Promise<void>>()
  /** Those opened here, by their names. */
  readonly hosts = new Map<string, HostVolume>()

  /** Hosts do not answer a scrub's owner. */
  partsFail = false
  /** Questions of hosts of this kind have no answer: their link fails. */
  failing: string | null = null
  failure = 'link-lost'
  /** And here the owner did as it was asked. */
  unanswered: string | null = null
  readonly call = callTo(() => this.owner)

  readonly #ofHosts: OwnerCall = async (kind, body) => {
    if (kind === this.failing) throw new StellwerkError(this.failure, 'it was not asked', { retryable: true })
    const answer = await this.call(kind, body)
    if (kind === this.unanswered) throw new StellwerkError('link-lost', 'the link was lost', { retryable: true })
    return answer
  }

  /** Without what an agent adds: its messages, and the words for what is not there. */
  readonly #scrubHosts: ScrubHosts = {
    part: async (holder, disk, part) => {
      if (this.partsFail) throw new StellwerkError('link-lost', 'nobody knows whether it was asked')
      const held = this.hosts.get(holder.host)?.disks.get(disk)
      if (held === undefined) throw new StellwerkError('not-attached', 'it is not open there', { retryable: true })
      const findings = await held.scrub(part)
      return { there: findings !== null, busy: false, findings: findings === null ? [] : toWire(findings) }
    },
    slot: async (host, goodLeg) => {
      const volume = this.hosts.get(host)
      if (volume === undefined) return { open: false, findings: [] }
      return { open: true, findings: toWire(await scrubSlot(volume, goodLeg)) }
    },
  }

  #device(index: number): Leg {
    const device = new Leg(this.platters[index]!)
    const latent = this.latent[index]!
    device.refuse = (op, offset, length) => {
      const first = Math.floor(offset / 4096)
      for (let block = first; block * 4096 < offset + length; block += 1) {
        if (op === 'read' && latent.has(block)) return new BlockError('EIO', 'none', 'a latent sector error')
        if (op === 'write') latent.delete(block)
      }
      return null
    }
    return device
  }

  async #openOwner(): Promise<VolumeOwner> {
    const legs = LEGS.map((id, i) => ({ id, device: this.#device(i) })).filter(
      ({ id }) => this.generation.legs.find(leg => leg.id === id)?.role !== 'stale',
    )
    const { timers } = this
    return VolumeOwner.open({
      legs,
      generation: this.generation,
      volume: 'csv1',
      ownerEpoch: this.#ownerEpoch,
      scrubHosts: this.#scrubHosts,
      env: { trace: this.records, log: quietLog, timers, clock: timers },
    })
  }

  /** A host whose mirror follows by hand. */
  async host(name = 'host-a'): Promise<{ volume: HostVolume; mirror: MirrorDevice; follow: () => Promise<void> }> {
    const { timers } = this
    let volume: HostVolume | null = null
    const mirror = await openMirror({
      generation: rolesOf(this.generation),
      open: async leg => {
        const device = this.#device(LEGS.indexOf(leg as (typeof LEGS)[number]))
        device.held = () => this.held.get(name)
        return device
      },
      report: () => undefined,
      onGeneration: () => volume?.follow(this.generation),
      clock: timers,
      timers,
    })
    volume = await HostVolume.open({
      volume: 'csv1',
      host: name,
      hostEpoch: 1,
      device: mirror,
      mirror: {
        copy: (offset, length, mayWrite) => {
          this.copies.push(offset)
          return mirror.copy(offset, length, COPY_IO, mayWrite)
        },
        scrub: (offset, length, options) => mirror.scrub(offset, length, options, SCRUB_IO),
      },
      generation: () => this.generation,
      owner: this.#ofHosts,
      env: { clock: timers, timers, trace: this.records },
    })
    this.hosts.set(name, volume)
    const follow = async (): Promise<void> => {
      mirror.follow(rolesOf(this.generation))
      await timers.advance(0)
    }
    return { volume, mirror, follow }
  }

  /** Another generation: its owner begins anew. */
  async enter(next: VolumeGeneration, ownerEpoch = this.#ownerEpoch): Promise<void> {
    await this.owner.close()
    this.generation = next
    this.#ownerEpoch = ownerEpoch
    this.owner = await this.#openOwner()
  }

  /** Addresses of 4 KiB blocks, in extents in use, that are not the same on both legs. */
  async differing(): Promise<number[]> {
    const [a, b] = this.platters
    const { metadata } = await loadLeg({ id: 'x', device: new CrashDevice(a!) }, {})
    const found: number[] = []
    for (const disk of metadata.disks.values()) {
      for (const extent of disk.map.values()) {
        const address = extentAddress(this.layout, extent)
        for (let at = address; at < address + this.layout.extentBytes; at += 4096) {
          if (Buffer.compare(a!.read(at, 4096), b!.read(at, 4096)) !== 0) found.push(at)
        }
      }
    }
    return found.sort((x, y) => x - y)
  }
}
