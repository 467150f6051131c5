// Small volumes and quiet environments for tests.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Cause, Logger, TraceEvent, TraceSink } from '@stellwerk/runtime/environment.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { KIB, MIB } from '@stellwerk/runtime/units.ts'
import type { Leg } from '../format/device-io.ts'
import { formatVolume } from '../format/format-volume.ts'
import type { Layout, LayoutOptions } from '../format/layout.ts'
import { VolumeOwner, type VolumeOwnerOptions } from '../owner/volume-owner.ts'
import { CrashDevice, type CrashOptions, Platter } from './crash-device.ts'

export const EXTENT = 64 * KIB
export const REGION = 16 * KIB

export const SMALL: Omit<LayoutOptions, 'volumeBytes'> = {
  volumeId: 'vol-1',
  clusterId: 'cluster-1',
  extentBytes: EXTENT,
  regionBytes: REGION,
  slotCount: 4,
  journalBytes: 256 * KIB,
  clusterCopyBytes: 16 * KIB,
}

export const IO = { origin: 'test', deadlineAt: null }

/** Keeps what was recorded. */
export class Records implements TraceSink {
  readonly events: TraceEvent[] = []
  io = true

  on(level: 'decision' | 'message' | 'io'): boolean {
    return level !== 'io' || this.io
  }

  emit(event: TraceEvent): Cause {
    this.events.push(event)
    return { process: 'test', seq: this.events.length }
  }

  observe(): void {
    // One process: there are no stamps to follow.
  }

  stamp(): { wallMs: number; counter: number } {
    return { wallMs: 0, counter: 0 }
  }

  within<T>(_: Cause | undefined, f: () => T): T {
    return f()
  }

  input(): void {
    // Not replayed.
  }

  output(): void {
    // Not replayed.
  }

  snapshot(): void {
    // Not replayed.
  }
}

const quiet = (): undefined => undefined
export const quietLog: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet }

export interface SmallVolume {
  readonly platter: Platter
  readonly layout: Layout
}

/** Formatted, on one leg. */
export async function smallVolume(sizeBytes = 8 * MIB, options: Partial<typeof SMALL> = {}): Promise<SmallVolume> {
  const platter = new Platter(sizeBytes)
  const layout = await formatVolume({ ...SMALL, ...options, legs: [legOn(platter)] })
  return { platter, layout }
}

export function legOn(platter: Platter, options: CrashOptions = {}): Leg & { readonly device: CrashDevice } {
  return { id: 'san-a', device: new CrashDevice(platter, options) }
}

export interface OpenOwner {
  readonly owner: VolumeOwner
  readonly device: CrashDevice
  readonly records: Records
}

export async function openOwner(
  platter: Platter,
  ownerEpoch: number,
  options: CrashOptions & Partial<Pick<VolumeOwnerOptions, 'onRanges' | 'onEnd' | 'leastOwnerEpoch'>> = {},
): Promise<OpenOwner> {
  const leg = legOn(platter, options)
  const records = new Records()
  const owner = await VolumeOwner.open({
    legs: [leg],
    volume: 'csv1',
    ownerEpoch,
    env: { trace: records, log: quietLog },
    ...(options.onRanges === undefined ? {} : { onRanges: options.onRanges }),
    ...(options.leastOwnerEpoch === undefined ? {} : { leastOwnerEpoch: options.leastOwnerEpoch }),
    ...(options.onEnd === undefined ? {} : { onEnd: options.onEnd }),
  })
  return { owner, device: leg.device, records }
}

export async function readAll(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  return Buffer.concat(await device.read(offset, length, IO))
}

/** The code a promise rejects with, or `resolved`. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    error => errorCode(error),
  )
}

export const host = { volume: 'csv1', host: 'host-a', hostEpoch: 1, slot: null }

/** A disk, attached to `web-1` on host-a at epoch 1. */
export async function attachedDisk(owner: VolumeOwner, disk = 'disk-1', sizeBytes = 64 * EXTENT): Promise<void> {
  await owner.handle('volume.open-host', host)
  await owner.handle('volume.create-disk', { volume: 'csv1', disk, name: disk, sizeBytes })
  await owner.handle('volume.attach', {
    volume: 'csv1',
    disk,
    vm: 'web-1',
    host: 'host-a',
    hostEpoch: 1,
    epoch: 1,
    committed: false,
  })
}

export const hold = { volume: 'csv1', disk: 'disk-1', host: 'host-a', epoch: 1, committed: false }
