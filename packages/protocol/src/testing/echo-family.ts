// A family for tests, in a registry of its own so that it never becomes part of the protocol.

import { defineFamily, Registry } from '../messages/family.ts'
import { Bytes, Count, closed, List, Name } from '../messages/fields.ts'
import { handshake } from '../messages/handshake.ts'
import { Type } from '../schema/typebox.js'

export const testRegistry = new Registry()
testRegistry.add('handshake', handshake.messages)

export const echo = defineFamily(
  'echo',
  {
    'echo.say': {
      request: closed({ text: Type.String({ maxLength: 100_000 }) }),
      reply: closed({ text: Type.String() }),
    },
    'echo.nothing': { request: closed({}) },
    'echo.note': { request: closed({ count: Count, vm: Type.Optional(Name) }) },
    'echo.bytes': { request: closed({ data: Bytes(2_000_000) }), reply: closed({ sizes: List(Count, 100) }) },
  },
  testRegistry,
)
