// How a session begins: who dials says hello, who is dialled says welcome or refused. These three keep their shape in
// every version, since they are exchanged before a version is agreed on.
import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, Name, OneOf, Text } from './fields.ts'

export const Role = OneOf('coordinator', 'agent', 'guardian', 'storage', 'cli')
export type Role = Static<typeof Role>

export const Hello = closed({
  cluster: Name,
  /** `host-a`, `coordinator`, `san-a`: the first segment of its actors' addresses. */
  node: Name,
  role: Role,
  /** Higher each time the process starts. */
  incarnation: Count,
  /** Of a host's processes: the identity of the guardian's state, made once. Two machines of one name differ in it. */
  guardian: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  versions: closed({ current: Count, minimum: Count }),
  /** The cluster's join token. Never logged, never traced. */
  credential: Type.String({ maxLength: 512 }),
})
export type Hello = Static<typeof Hello>

export const Welcome = closed({
  cluster: Name,
  node: Name,
  role: Role,
  incarnation: Count,
  /** What the session speaks from here on. */
  version: Count,
})
export type Welcome = Static<typeof Welcome>

export const Refused = closed({
  code: Text,
  message: Text,
  retryable: Type.Boolean(),
})
export type Refused = Static<typeof Refused>

export const handshake = defineFamily('handshake', {
  'session.hello': { request: Hello },
  'session.welcome': { request: Welcome },
  'session.refused': { request: Refused },
})
