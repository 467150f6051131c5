// Comparing the legs of a mirrored volume. The owner is asked for it; it has the hosts that hold disks compare those, each
// under the range locks of its guests' writes, and compares the rest itself.

import { type Static, Type } from '../schema/typebox.js'
import { defineFamily } from './family.ts'
import { Count, closed, List, Name, OneOf, Text } from './fields.ts'

/** Findings kept and told; more are counted. */
export const MAX_SCRUB_FINDINGS = 500
/** What one part of a disk can have: every second block of a region of 4 MiB. */
const MAX_PART_FINDINGS = 512

const Why = Type.Union([Type.Null(), Text])
const Repair = Type.Union([
  Type.Null(),
  closed({ leg: Name, from: Name, by: OneOf('unreadable', 'checksum', 'operator') }),
])
const Good = Type.Union([Type.Null(), Name])

/** `differs`: the legs hold different bytes; `unreadable`: `legs` cannot read them. `repaired`: from what, and why that. */
const Found = { kind: OneOf('differs', 'unreadable'), length: Count, legs: List(Name, 8), repaired: Repair, why: Why }

/** Addresses on the LUN. */
const PartFindings = List(closed({ ...Found, offset: Count }), MAX_PART_FINDINGS)
export type PartFinding = Static<typeof PartFindings>[number]

export const ScrubFindingSchema = closed({
  ...Found,
  /** `not-compared`: nobody could, and `why` says why not. */
  kind: OneOf('differs', 'unreadable', 'not-compared'),
  /** `disk web-0`, `journal`, `slot 3`. */
  where: Text,
  disk: Type.Union([Type.Null(), Name]),
  /** In the disk; of metadata: on the LUN. */
  offset: Count,
  /** On the LUN. */
  address: Count,
})
export type ScrubFinding = Static<typeof ScrubFindingSchema>

export const ScrubProgressSchema = closed({
  scrub: Name,
  state: OneOf('running', 'done', 'failed'),
  doneBytes: Count,
  totalBytes: Count,
  /** Findings that were repaired, that nobody can repair without an operator, and places that were not compared. */
  repaired: Count,
  unresolved: Count,
  skipped: Count,
})
export type ScrubProgress = Static<typeof ScrubProgressSchema>

export const ScrubReportSchema = closed({
  ...ScrubProgressSchema.properties,
  why: Why,
  /** The legs that were compared, in order of preference. */
  legs: List(Name, 8),
  goodLeg: Good,
  findings: List(ScrubFindingSchema, MAX_SCRUB_FINDINGS),
  /** Findings that found no room. */
  more: Count,
})
export type ScrubReport = Static<typeof ScrubReportSchema>

export const volumeScrubFamily = defineFamily('volume-scrub', {
  /** Begins one. `goodLeg`: right where nothing else decides, because an operator says so. */
  'volume.scrub': { request: closed({ volume: Name, goodLeg: Good }), reply: closed({ scrub: Name }) },
  /** Ends the one that runs; refused with `no-scrub` where none does. */
  'volume.scrub-cancel': { request: closed({ volume: Name }), reply: closed({ scrub: Name }) },
  /** Of the last one that this owner began; refused with `no-scrub` where there was none. */
  'volume.scrub-report': { request: closed({ volume: Name }), reply: ScrubReportSchema },
  /**
   * To the host that has a disk: compare a part of one of its extents. `there`: it has that extent at that index; if not,
   * nothing was compared. `busy`: its guests were at work in the last moments.
   */
  'disk.scrub': {
    request: closed({
      volume: Name,
      disk: Name,
      hostEpoch: Count,
      epoch: Count,
      index: Count,
      extent: Count,
      /** Within the extent, in whole regions. */
      offset: Count,
      length: Count,
      goodLeg: Good,
    }),
    reply: closed({ there: Type.Boolean(), busy: Type.Boolean(), findings: PartFindings }),
  },
  /** To a host: compare what stands in its slot. `open`: it has the volume open; if not, nothing was compared. */
  'disk.scrub-slot': {
    request: closed({ volume: Name, goodLeg: Good }),
    reply: closed({ open: Type.Boolean(), findings: PartFindings }),
  },
})
