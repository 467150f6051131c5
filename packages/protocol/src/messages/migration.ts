// A live migration's messages between coordinator, source and target. Each is idempotent and names the migration.

import { type Static, Type } from '../schema/typebox.js'
import { AddressSchema, VmOrderSchema } from './cluster.ts'
import { defineFamily } from './family.ts'
import { Count, closed, Name, OneOf } from './fields.ts'

const Id = Type.String({ minLength: 1, maxLength: 64 })
/** `pause`: it is moved all the same, with a longer pause; `abort`: it is slowed down more and more, and then stays. */
export const WhenDivergingSchema = OneOf('pause', 'abort')
export type WhenDiverging = Static<typeof WhenDivergingSchema>
const Nothing = closed({})
const Of = { migration: Id, vm: Name }

export const migrationFamily = defineFamily('migration', {
  /** To the source: expect the target's bulk link, then send; the machine runs on. */
  'migration.send': {
    request: closed({
      ...Of,
      epoch: Count,
      incarnation: Count,
      targetHost: Name,
      targetEpoch: Count,
      /** The longest pause that is aimed at. */
      downtimeMs: Count,
      /** Of a guest for which none so short is to be had; absent: `pause`. */
      whenDiverging: Type.Optional(WhenDivergingSchema),
    }),
    reply: Nothing,
  },
  /** To the target: reserve, make room, dial the source's bulk link, load. `order` is what a start would be told. */
  'migration.receive': {
    request: closed({ migration: Id, order: VmOrderSchema, sourceHost: Name, source: AddressSchema }),
    reply: Nothing,
  },
  /** On a bulk link, from the target to the source it dialled: after the answer the link carries the stream's bytes. */
  'migration.open': { request: closed({ migration: Id, host: Name }), reply: Nothing },
  /** From the source, after each round and at least every second: what was sent so far, and what the target still lacks. */
  'migration.progress': {
    request: closed({
      ...Of,
      round: Count,
      pagesSent: Count,
      bytesSent: Count,
      dirtyPages: Count,
      /** The pause to expect if it were switched now. */
      forecastMs: Type.Number(),
      /** Of the guest's memory; 0: not known yet. */
      totalBytes: Count,
      leftBytes: Count,
      /** Memory moved, and memory that the guest changes; 0: not measured yet. */
      bytesPerSecond: Count,
      dirtyBytesPerSecond: Count,
      converged: Type.Boolean(),
    }),
  },
  /** To the source: pause, drain, make `released` durable, send the rest. Only now may it. */
  'migration.switch': { request: closed({ ...Of, epoch: Count, incarnation: Count }), reply: Nothing },
  /** From the target: everything is here and right; it waits for the commit. Echoes what the source released. */
  'migration.loaded': {
    request: closed({ ...Of, host: Name, incarnation: Count, epoch: Count, checksum: Count, releasedEpoch: Count }),
    reply: closed({
      outcome: Type.Union([Type.Literal('committed'), Type.Literal('aborted'), Type.Literal('pending')]),
    }),
  },
  /** From either side: this cannot go on (before `released`, or at the target before the commit). */
  'migration.failed': {
    request: closed({ ...Of, host: Name, incarnation: Count, reason: Type.String() }),
    reply: Nothing,
  },
  /** From the source, while it waits: what was decided? `epoch` is the placement that it has released. */
  'migration.ask': {
    request: closed({ ...Of, host: Name, incarnation: Count, epoch: Count }),
    reply: closed({
      outcome: Type.Union([Type.Literal('committed'), Type.Literal('aborted'), Type.Literal('pending')]),
    }),
  },
  /** To both sides, after it is durable. */
  'migration.commit': { request: closed({ ...Of, epoch: Count }), reply: Nothing },
  'migration.abort': { request: closed({ ...Of, epoch: Count, reason: Type.String() }), reply: Nothing },
  /** From the side it is over for, with what it measured. */
  'migration.done': {
    request: closed({
      ...Of,
      host: Name,
      incarnation: Count,
      statistics: Type.Record(Type.String(), Type.Number()),
    }),
    reply: Nothing,
  },
})
