// A host beside the owner fixture: timers a test moves by hand, and disks attached through the real owner.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { Clock, Timer, Timers } from '@stellwerk/runtime/environment.ts'
import { CsvDisk } from '../disk/csv-disk.ts'
import { HostVolume } from '../disk/host-volume.ts'
import type { OwnerCall } from '../owner/request.ts'
import type { VolumeOwner } from '../owner/volume-owner.ts'
import { CrashDevice, type Platter } from './crash-device.ts'
import { EXTENT, Records } from './fixture.ts'

/** Virtual time, moved by `advance`. */
export class HandTimers implements Timers, Clock {
  #now = 0
  #timers: { at: number; f: () => void }[] = []

  now(): number {
    return this.#now
  }

  wall(): number {
    return this.#now
  }

  get pending(): number {
    return this.#timers.length
  }

  after(delayMs: number, f: () => void): Timer {
    const timer = { at: this.#now + delayMs, f }
    this.#timers.push(timer)
    return {
      cancel: () => {
        this.#timers = this.#timers.filter(other => other !== timer)
      },
    }
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await turns()
      const next = this.#timers.filter(timer => timer.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter(timer => timer !== next)
      this.#now = next.at
      next.f()
    }
    this.#now = end
    await turns()
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function turns(count = 2): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise(resolve => setImmediate(resolve))
}

export interface TestHost {
  readonly volume: HostVolume
  readonly device: BlockDevice
  readonly timers: HandTimers
  readonly records: Records
}

export function callTo(owner: () => VolumeOwner): OwnerCall {
  return (kind, body) => owner().handle(kind, body)
}

export async function openHost(
  platter: Platter,
  call: OwnerCall,
  options: {
    readonly host?: string
    readonly hostEpoch?: number
    readonly device?: BlockDevice
    readonly io?: boolean
  } = {},
): Promise<TestHost> {
  const timers = new HandTimers()
  const records = new Records()
  records.io = options.io ?? true
  const device = options.device ?? new CrashDevice(platter)
  const volume = await HostVolume.open({
    volume: 'csv1',
    host: options.host ?? 'host-a',
    hostEpoch: options.hostEpoch ?? 1,
    device,
    owner: call,
    env: { clock: timers, timers, trace: records },
  })
  return { volume, device, timers, records }
}

export async function openDisk(
  host: TestHost,
  call: OwnerCall,
  disk = 'disk-1',
  extents = 32,
  epoch = 1,
): Promise<CsvDisk> {
  await call('volume.create-disk', { volume: 'csv1', disk, name: disk, sizeBytes: extents * EXTENT })
  return CsvDisk.attach({ volume: host.volume, disk, vm: 'web-1', epoch })
}
