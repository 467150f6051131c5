// What an agent in a guest (QEMU's, qemu-ga) tells of it, and what a host has it do: keep its file systems still while a snapshot is
// made. Whatever is told here the guest itself has said, and may be made up.

import { type Static, type TSchema, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, List, Name, OneOf } from './fields.ts'

export const INTERFACES_MAX = 16
/** Of one interface. */
export const ADDRESSES_MAX = 16
const Word = Type.String({ maxLength: 64 })
const Words = Type.String({ maxLength: 128 })
const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

/** A guest whose agent answers. Null: it has not said. */
export const GuestFactsSchema = closed({
  /** Of the agent. */
  version: orNull(Word),
  hostName: orNull(Words),
  os: orNull(Words),
  /** Those that lead somewhere. */
  interfaces: List(closed({ name: Word, mac: orNull(Word), addresses: List(Word, ADDRESSES_MAX) }), INTERFACES_MAX),
})
export type GuestFacts = Static<typeof GuestFactsSchema>

const Of = {
  vm: Name,
  epoch: Count,
  host: Name,
  incarnation: Count,
  freeze: Type.String({ minLength: 1, maxLength: 64 }),
}

/** `frozen`: nothing that its programs had finished is missing on its disks, and nothing is written until it is thawed. */
const FreezeAnswerSchema = closed({
  state: OneOf('freezing', 'frozen', 'failed'),
  why: orNull(Type.String({ maxLength: 1000 })),
})
export type FreezeAnswer = Static<typeof FreezeAnswerSchema>

export const guestAgentFamily = defineFamily('guest-agent', {
  /**
   * The guest's file systems are to stand still. Asked again with the same `freeze`: how far that is. Nothing has to come after it: they
   * are let go by themselves, `holdMs` after they stood still.
   */
  'vm.freeze-files': { request: closed({ ...Of, holdMs: Count }), reply: FreezeAnswerSchema },
  /** `held`: they have stood still without a break until now. */
  'vm.thaw-files': { request: closed(Of), reply: closed({ held: Type.Boolean() }) },
})
