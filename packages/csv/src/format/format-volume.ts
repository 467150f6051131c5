// Lays out a new volume on its legs: everything empty, the superblocks last, so that a half-formatted device is none.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { encodeCheckpoint } from './checkpoint.ts'
import { Sealer } from './checksum.ts'
import { type Leg, OWNER_IO, settleAll, writeBytes, writeLegs, zeroRange } from './device-io.ts'
import { AREAS_OFFSET, checkpointAddress, type Layout, type LayoutOptions, MAX_LEGS, planLayout } from './layout.ts'
import { emptyMetadata } from './metadata.ts'
import { refuseOneDevice } from './one-device.ts'
import { readSuperblockCopies, writeSuperblock } from './superblock.ts'

export interface FormatOptions extends Omit<LayoutOptions, 'volumeBytes'> {
  /** One or two; the legs' ids and order are kept in their superblocks. */
  readonly legs: readonly Leg[]
  /** At most the smallest leg's size, which is the default. */
  readonly volumeBytes?: number
  /** Format even where there is a volume already: it is lost. */
  readonly force?: boolean
}

export async function formatVolume(options: FormatOptions): Promise<Layout> {
  const { legs } = options
  if (legs.length < 1 || legs.length > MAX_LEGS) {
    throw new StellwerkError('bad-geometry', `a volume has one or two legs, not ${legs.length}`, {
      where: options.volumeId,
    })
  }
  const smallest = Math.min(...legs.map(leg => leg.device.size))
  const volumeBytes = options.volumeBytes ?? smallest
  if (volumeBytes > smallest) {
    throw new StellwerkError('bad-geometry', `the smallest leg has ${smallest} bytes, not ${volumeBytes}`, {
      where: options.volumeId,
    })
  }
  const layout = planLayout({ ...options, volumeBytes })
  if (options.force !== true) for (const leg of legs) await refuseVolume(leg)

  await settleAll(legs.map(leg => wipe(leg, layout)))
  const sealer = new Sealer(layout.volumeId)
  const metadata = emptyMetadata(layout)
  for (const version of [0, 1]) {
    const address = checkpointAddress(layout, version)
    const header = { version, sequence: 0, ownerEpoch: 0, journalPosition: 0 }
    await writeLegs(legs, address, encodeCheckpoint(header, metadata, sealer, address), OWNER_IO)
  }
  for (const [legIndex, leg] of legs.entries()) {
    if (legIndex > 0) await refuseOneDeviceOf(legs, leg)
    await writeSuperblock(
      leg.device,
      {
        layout,
        compatFeatures: 0,
        incompatFeatures: 0,
        roCompatFeatures: 0,
        version: 1,
        legId: leg.id,
        legIndex,
        legCount: legs.length,
      },
      OWNER_IO,
    )
  }
  return layout
}

async function refuseVolume(leg: Leg): Promise<void> {
  const copies = await readSuperblockCopies(leg.device, OWNER_IO)
  const good = copies.find(copy => typeof copy !== 'string')
  if (copies.every(copy => copy === 'blank')) return
  if (good === undefined && copies.includes('unreadable')) {
    throw new StellwerkError('unreadable', `leg ${leg.id} cannot be read where a volume would have its superblock`, {
      where: leg.id,
      hint: 'what it carries is not known: use another LUN, or format with force if its data are of no more use',
    })
  }
  throw new StellwerkError('volume-exists', `leg ${leg.id} carries a volume already`, {
    where: good?.layout.volumeId ?? leg.id,
    hint: 'use another LUN, or format with force if its data are of no more use',
  })
}

/** What was just written to the first leg must not be on the second, wiped before. No volume is left where there was to be none. */
async function refuseOneDeviceOf(legs: readonly Leg[], leg: Leg): Promise<void> {
  try {
    await refuseOneDevice(leg)
  } catch (error) {
    for (const { device } of legs) await writeBytes(device, 0, new Uint8Array(AREAS_OFFSET), OWNER_IO)
    throw error
  }
}

/** The superblocks first: from here on until the end the device is no volume. */
async function wipe(leg: Leg, layout: Layout): Promise<void> {
  await writeBytes(leg.device, 0, new Uint8Array(AREAS_OFFSET), OWNER_IO)
  await zeroRange(leg.device, AREAS_OFFSET, layout.dataOffset - AREAS_OFFSET, OWNER_IO)
}
