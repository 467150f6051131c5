// Two legs that are the same bytes under two names: no mirror, for what is lost on one is lost on both.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Leg, OWNER_IO } from './device-io.ts'
import { readSuperblockCopies } from './superblock.ts'

/** To be asked when the others' superblocks have been written, and this one's is another or none; throws `legs-are-one`. */
export async function refuseOneDevice(leg: Leg): Promise<void> {
  const copies = await readSuperblockCopies(leg.device, OWNER_IO)
  for (const copy of copies) {
    if (typeof copy === 'string' || copy.legId === leg.id) continue
    throw new StellwerkError('legs-are-one', `leg ${leg.id} is leg ${copy.legId} by another name: the same bytes`, {
      where: leg.id,
      hint: 'a mirror takes two devices: take one of the legs away',
    })
  }
}
