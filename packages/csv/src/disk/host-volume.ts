// A volume as one host uses it: its geometry, the LUN's device, the host's intent log, and the way to the owner. All of
// the host's disks on the volume share it.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import type { HostView } from '@stellwerk/protocol/messages/volume.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { OwnerCall } from '../owner/request.ts'
import type { CsvDisk } from './csv-disk.ts'
import { IntentLog } from './intent-log.ts'

export interface HostVolumeOptions {
  readonly volume: string
  readonly host: string
  readonly hostEpoch: number
  /** Over the host's own connections, not the owner's. */
  readonly device: BlockDevice
  readonly owner: OwnerCall
  /** The slot the host is to have, if it has none yet. */
  readonly slot?: number
  readonly env: Pick<Environment, 'clock' | 'timers' | 'trace'>
}

export class HostVolume {
  readonly options: HostVolumeOptions
  readonly view: HostView
  readonly intent: IntentLog
  /** Its disks that this host has, by id: those that a barrier can be asked of. */
  readonly disks = new Map<string, CsvDisk>()

  private constructor(options: HostVolumeOptions, view: HostView, intent: IntentLog) {
    this.options = options
    this.view = view
    this.intent = intent
  }

  /** Gets the host's slot from the owner, and recovers what an earlier incarnation of this host left in it. */
  static async open(options: HostVolumeOptions): Promise<HostVolume> {
    const { volume, host, hostEpoch, device, owner, env } = options
    const view = await owner('volume.open-host', { volume, host, hostEpoch, slot: options.slot ?? null })
    const end = view.dataOffset + view.extentCount * view.extentBytes
    if (end > device.size) {
      throw new StellwerkError('volume-truncated', `the volume needs ${end} bytes, the LUN has ${device.size}`, {
        where: volume,
        hint: 'the LUN is smaller than when it was formatted: restore its size',
      })
    }
    const { volumeId, slotOffset } = view
    const intent = await IntentLog.open({ device, volumeId, slotOffset, timers: env.timers })
    return new HostVolume(options, view, intent)
  }

  /** After its disks are closed. The device stays open: it is its opener's. */
  close(): Promise<void> {
    return this.intent.close()
  }
}
