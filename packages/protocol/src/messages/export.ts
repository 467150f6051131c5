// About a disk that a host serves to tools: the coordinator's API asks where.

import { Type } from '../schema/typebox.js'
import { AddressSchema } from './cluster.ts'
import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

export const exportFamily = defineFamily('export', {
  /** To the agent that runs it. Null: it is not served there, or not yet. */
  'export.where': {
    request: closed({ vm: Name }),
    reply: closed({ address: Type.Union([Type.Null(), AddressSchema]), connections: Count }),
  },
})
