// The storage subsystem's control family: probes, fencing and admission, generations, layouts, LUNs. Orders are durable
// before they are answered, only ever raise what they set, and may come late or twice. Refusals are coded errors.

import { type Static, Type, Value } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, Name } from './fields.ts'

/** What one leg of a mirror is in a generation. */
export const LegsSchema = Type.Record(
  Type.String(),
  Type.Union([Type.Literal('in-sync'), Type.Literal('syncing'), Type.Literal('stale')]),
)
export type Legs = Static<typeof LegsSchema>

const MAX_SLOTS = 1_024
const MAX_MASK_HOSTS = 1_024
const MAX_LUNS_LISTED = 4_096

const RunId = Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' })

const Range = { offset: Count, length: Count }

/** Who may write where: `metadata` takes owner connections only, a slot also its host's. Slots may lie in `metadata`. */
export const LayoutSchema = closed({
  metadata: closed(Range),
  slots: Type.Array(closed({ host: Name, ...Range }), { maxItems: MAX_SLOTS }),
})
export type Layout = Static<typeof LayoutSchema>

const Hosts = Type.Union([Type.Null(), Type.Array(Name, { maxItems: MAX_MASK_HOSTS })])

/** A LUN's durable marks: what is enforced for it. */
export const LunMarksSchema = closed({
  /** Of this creation; names its files. */
  id: Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }),
  sizeBytes: Count,
  /** Plain connections (tools) are let in. */
  open: Type.Boolean(),
  /** Nobody is let in. */
  masked: Type.Boolean(),
  /** Null: every admitted host. */
  hosts: Hosts,
  generation: Count,
  /** Tells two generations of one number apart. */
  generationId: Type.Union([Type.Null(), Type.String({ maxLength: 64 })]),
  legs: LegsSchema,
  /** The highest owner epoch seen; 0: none. */
  owner: Count,
  ownerHost: Type.Union([Type.Null(), Name]),
  /**
   * The highest owner epoch that registered a layout, which an owner does once its journal record is durable: the journal is
   * never behind it. `owner` can be, of an owner that died before its first record. Absent: none has.
   */
  opened: Type.Optional(Count),
  layout: Type.Union([Type.Null(), LayoutSchema]),
})
export type LunMarks = Static<typeof LunMarksSchema>

/** For what was read back from disk. */
export function isLunMarks(value: unknown): value is LunMarks {
  return Value.Check(LunMarksSchema, value)
}

const LunShown = closed({
  lun: Name,
  ...LunMarksSchema.properties,
  state: Type.Union([Type.Literal('up'), Type.Literal('failed')]),
  /** Why it failed. */
  why: Type.Union([Type.Null(), Type.String()]),
  allocatedBytes: Count,
  connections: Count,
})
export type LunShown = Static<typeof LunShown>

const Marks = closed({ admitted: Count, fenced: Count })
/** Age of the last probe or request answered for the host, `via` included; null: unknown (not since the start). */
const LastSeen = Type.Union([Type.Null(), Type.Number({ minimum: 0 })])
const Nothing = closed({})
const LunId = Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' })
const Behind = closed({ lun: Name, generation: Count, legs: LegsSchema })
export type LunBehind = Static<typeof Behind>

export const storageFamily = defineFamily('storage', {
  /** From an agent, over each path: answered from memory, so that a slow disk is not a dead path. Refused unless admitted. */
  'storage.probe': {
    request: closed({
      host: Name,
      epoch: Count,
      /** What the host has open here; no generation named: nothing to compare. */
      luns: Type.Array(closed({ lun: Name, generation: Count }), { maxItems: MAX_LUNS_LISTED }),
    }),
    /** `behind`: LUNs whose generation is another here; such an answer is no lease. */
    reply: closed({ storage: Name, behind: Type.Array(Behind, { maxItems: MAX_LUNS_LISTED }) }),
  },
  /** Asks without harm. */
  'storage.seen': {
    request: closed({ host: Name }),
    reply: closed({ storage: Name, admitted: Count, fenced: Count, lastSeenMs: LastSeen }),
  },
  /**
   * From a coordinator that has started, before all else, and again whenever its state has changed. A run (a random id) that begins
   * with a lower revision of the state than an earlier one told of began with an older copy of it, and is refused (`older-state`). A term
   * is one run's: where it is another's nothing is taken, and the answer says which term it is to be above.
   */
  'storage.coordinator': {
    request: closed({ term: Count, run: RunId, revision: Count }),
    /** The highest term and whose it is; null: no run has said that it is its own. */
    reply: closed({ storage: Name, term: Count, run: Type.Union([Type.Null(), RunId]), revision: Count }),
  },
  /** After the reply no write of this or an older epoch takes effect, ever. */
  'storage.fence': {
    request: closed({ host: Name, epoch: Count, term: Count }),
    reply: closed({ storage: Name, admitted: Count, fenced: Count, lastSeenMs: LastSeen }),
  },
  /** Only after the host's agent reported that nothing runs there. Changes nothing if the epoch was fenced meanwhile. */
  'storage.admit': {
    request: closed({ host: Name, epoch: Count, term: Count }),
    reply: closed({ storage: Name, ...Marks.properties }),
  },
  /**
   * After the reply no write of a lower generation takes effect. The LUN's present one again: changes nothing. `lunId`: as with
   * `delete-lun`.
   */
  'storage.generation': {
    request: closed({
      lun: Name,
      lunId: Type.Optional(LunId),
      generation: Count,
      id: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
      legs: LegsSchema,
      term: Count,
    }),
    reply: closed({ generation: Count, legs: LegsSchema }),
  },
  /**
   * From the owner. A higher owner epoch drains the lower ones first. `host` and `epoch`: refused if it was fenced. `lunId`: as with
   * `delete-lun`.
   */
  'storage.layout': {
    request: closed({
      lun: Name,
      lunId: Type.Optional(LunId),
      ownerEpoch: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
      host: Type.Optional(Name),
      epoch: Type.Optional(Count),
      ...LayoutSchema.properties,
    }),
    reply: Nothing,
  },
  /** From the owner, before it believes the journal: the least owner epoch that it must find there; 0: none. */
  'storage.opened': {
    request: closed({ lun: Name, lunId: Type.Optional(LunId) }),
    reply: closed({ opened: Count }),
  },
  /** The same `id` and size again: changes nothing. One that was deleted is not made again (`lun-deleted`): the order is late. */
  'storage.create-lun': {
    request: closed({
      lun: Name,
      sizeBytes: Count,
      id: Type.Optional(LunId),
      open: Type.Optional(Type.Boolean()),
      hosts: Type.Optional(Hosts),
    }),
    reply: LunShown,
  },
  /** Who may see it; what is left out stays. */
  'storage.expose-lun': {
    request: closed({
      lun: Name,
      open: Type.Optional(Type.Boolean()),
      masked: Type.Optional(Type.Boolean()),
      hosts: Type.Optional(Hosts),
    }),
    reply: LunShown,
  },
  /**
   * Refused with `lun-busy` while it has connections, unless forced. `id`: of the LUN that is meant; another one under that name is
   * `unknown-lun`: the order is late, and the name was given again.
   */
  'storage.delete-lun': {
    request: closed({ lun: Name, id: Type.Optional(LunId), force: Type.Optional(Type.Boolean()) }),
    reply: Nothing,
  },
  /** `lun`: that one alone, if it is here. */
  'storage.list-luns': {
    request: closed({ lun: Type.Optional(Name) }),
    reply: closed({ luns: Type.Array(LunShown, { maxItems: MAX_LUNS_LISTED }) }),
  },
  'storage.status': {
    request: Nothing,
    reply: closed({
      storage: Name,
      term: Count,
      uptimeMs: Type.Number({ minimum: 0 }),
      hosts: Type.Array(closed({ host: Name, ...Marks.properties, lastSeenMs: LastSeen, connections: Count })),
      luns: Type.Array(LunShown, { maxItems: MAX_LUNS_LISTED }),
      /** Connections and orders that wait for others to drain. */
      waiting: Count,
    }),
  },
})
