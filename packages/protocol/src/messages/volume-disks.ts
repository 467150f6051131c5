// From a volume's owner to the host that has one of its disks.

import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

/** The disk as its owner knows it to be held; a host that has it otherwise, or not yet, refuses. */
const Held = { volume: Name, disk: Name, hostEpoch: Count, epoch: Count }

export const volumeDisksFamily = defineFamily('volume-disks', {
  /**
   * For a snapshot. Answered when every write to the disk that had begun has ended, none of them with an unknown outcome.
   * From then on the host writes to none of the extents it had before it has asked the owner (\`volume.unshare\`), whatever
   * becomes of the snapshot.
   */
  'disk.barrier': { request: closed(Held), reply: closed({}) },
  /** It has grown. */
  'disk.resized': { request: closed({ ...Held, sizeBytes: Count, mapVersion: Count }), reply: closed({}) },
})
