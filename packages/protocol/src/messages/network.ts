// Between the virtual switches of two hosts, over the guest network: frames as they are. What can't be sent at once is
// dropped, as on any wire; nothing is answered, and nothing is sent twice.

import { FRAME_MAX_BYTES } from '../ethernet.ts'
import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Bytes, Count, closed, List, Name } from './fields.ts'

/** Frames in one message at most, and their bytes: it must fit a link's frame. */
export const BATCH_FRAMES = 256
export const BATCH_BYTES = 256 * 1024

export const networkFamily = defineFamily('network', {
  'network.frames': {
    request: closed({
      network: Name,
      /** The sending host's: a fenced one is not listened to. */
      hostEpoch: Count,
      /** Of the VM that sent them; what an older placement of it still says is not listened to. 0: no VM did. */
      placementEpoch: Count,
      frames: Type.Unsafe<Uint8Array[]>(List(Bytes(FRAME_MAX_BYTES), BATCH_FRAMES)),
    }),
  },
})
export type NetworkFrames = Static<(typeof networkFamily)['messages']['network.frames']['request']>
