// Comparing the legs of a mirror, block by block: what differs, and what a leg cannot read. The caller has the range to
// itself. A block is written only where something says which copy is right: the leg itself could not read its own, a
// checksum decides, or an operator has named the leg. Two copies that merely differ are told, never copied.

import { canary } from '@stellwerk/runtime/canary.ts'
import type { Timers } from '@stellwerk/runtime/environment.ts'
import { errorMessage } from '@stellwerk/runtime/errors.ts'
import { type BlockDevice, BlockError, type Io, isUnreadable } from '../device.ts'

export interface ScrubLeg {
  readonly id: string
  readonly device: BlockDevice
}

/** Of copies that differ: the index of the right one; `either`: it does not matter there; null: nobody can say. */
export type Verdict = number | 'either' | null

export interface ScrubOptions {
  /** What is compared, and written anew, at a time. */
  readonly block: number
  /** By checksums, where there are any. `offset`: of the copies, which are as long as a block. */
  readonly judge?: (offset: number, copies: readonly Uint8Array[]) => Verdict
  /** Right where nothing else decides, because an operator says so. */
  readonly goodLeg?: string | null
}

export interface ScrubFinding {
  readonly kind: 'differs' | 'unreadable'
  readonly offset: number
  readonly length: number
  /** Those that cannot read it; of copies that differ: those that were compared. */
  readonly legs: readonly string[]
  readonly repaired: null | {
    readonly leg: string
    readonly from: string
    readonly by: 'unreadable' | 'checksum' | 'operator'
  }
  /** Why it is not repaired, though it could be told how. */
  readonly why: string | null
}

export interface ScrubHost {
  readonly io: Io
  /** Asked before anything is written: throws when the legs are not what they were. */
  readonly stands: () => void
  /** Told before it. */
  readonly rewriting?: (offset: number, length: number) => void
  /** A leg did not take what it could not read. */
  readonly failed: (leg: string, why: string) => void
  /** Absent: waits as long as it takes. */
  readonly patience?: { readonly timers: Timers; readonly deadlineMs: number; readonly late: (leg: string) => void }
}

/** `offset` and `length` are multiples of the block. */
export async function scrubLegs(
  legs: readonly ScrubLeg[],
  offset: number,
  length: number,
  options: ScrubOptions,
  host: ScrubHost,
): Promise<ScrubFinding[]> {
  const found: ScrubFinding[] = []
  await compare(legs, offset, length, options, host, found)
  return joined(found)
}

async function compare(
  legs: readonly ScrubLeg[],
  offset: number,
  length: number,
  options: ScrubOptions,
  host: ScrubHost,
  found: ScrubFinding[],
): Promise<void> {
  const copies = await readAll(legs, offset, length, host)
  if (copies.some(copy => copy === null)) {
    if (length > options.block) {
      // Somewhere in there: halves, down to the block.
      const half = Math.ceil(length / options.block / 2) * options.block
      await compare(legs, offset, half, options, host, found)
      await compare(legs, offset + half, length - half, options, host, found)
    } else found.push(await mendUnreadable(legs, copies, offset, length, host))
    return
  }
  const [first, ...others] = copies as Uint8Array[]
  if (others.every(other => Buffer.compare(first!, other) === 0)) return
  for (let at = 0; at < length; at += options.block) {
    const parts = (copies as Uint8Array[]).map(copy => copy.subarray(at, at + options.block))
    if (parts.every(part => Buffer.compare(parts[0]!, part) === 0)) continue
    const finding = await settleDiffering(legs, parts, offset + at, options, host)
    if (finding !== null) found.push(finding)
  }
}

/** Null: that leg cannot read it. What is not about this spot rejects. */
async function readAll(
  legs: readonly ScrubLeg[],
  offset: number,
  length: number,
  { io, patience }: ScrubHost,
): Promise<(Uint8Array | null)[]> {
  const answered = new Set<string>()
  const blame = (): void => {
    if (answered.size > 0) for (const { id } of legs) if (!answered.has(id)) patience!.late(id)
    timer = patience!.timers.after(patience!.deadlineMs, blame)
  }
  let timer = patience?.timers.after(patience.deadlineMs, blame)
  try {
    const results = await Promise.allSettled(
      legs.map(async ({ id, device }) => {
        const parts: Uint8Array[] = []
        const step = Math.min(length, device.limits.maximum)
        for (let at = 0; at < length; at += step) {
          parts.push(...(await device.read(offset + at, Math.min(step, length - at), io)))
        }
        answered.add(id)
        return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
      }),
    )
    return results.map(result => {
      if (result.status === 'fulfilled') return result.value
      if (isUnreadable(result.reason)) return null
      throw result.reason
    })
  } finally {
    timer?.cancel()
  }
}

async function mendUnreadable(
  legs: readonly ScrubLeg[],
  copies: readonly (Uint8Array | null)[],
  offset: number,
  length: number,
  host: ScrubHost,
): Promise<ScrubFinding> {
  const bad = legs.filter((_, i) => copies[i] === null)
  const source = copies.findIndex(copy => copy !== null)
  const finding = { kind: 'unreadable', offset, length, legs: bad.map(leg => leg.id) } as const
  if (source < 0) return { ...finding, repaired: null, why: 'no leg can read it' }
  let why: string | null = null
  for (const leg of bad) why ??= await rewrite(leg, offset, copies[source]!, host)
  if (why !== null) return { ...finding, repaired: null, why }
  return { ...finding, repaired: { leg: bad[0]!.id, from: legs[source]!.id, by: 'unreadable' }, why: null }
}

async function settleDiffering(
  legs: readonly ScrubLeg[],
  copies: readonly Uint8Array[],
  offset: number,
  { judge, goodLeg }: ScrubOptions,
  host: ScrubHost,
): Promise<ScrubFinding | null> {
  const verdict = judge?.(offset, copies) ?? null
  if (verdict === 'either') return null
  const named = legs.findIndex(leg => leg.id === goodLeg)
  let right = verdict ?? (named < 0 ? null : named)
  const by = verdict === null ? 'operator' : 'checksum'
  if (canary('scrub-from-bad-copy')) right = right === null ? legs.length - 1 : (right + 1) % legs.length
  const finding = { kind: 'differs', offset, length: copies[0]!.length, legs: legs.map(leg => leg.id) } as const
  if (right === null) return { ...finding, repaired: null, why: null }
  let wrong: ScrubLeg | null = null
  for (const [i, leg] of legs.entries()) {
    if (Buffer.compare(copies[i]!, copies[right]!) === 0) continue
    wrong = leg
    const why = await rewrite(leg, offset, copies[right]!, host)
    if (why !== null) return { ...finding, repaired: null, why }
  }
  return { ...finding, repaired: { leg: wrong!.id, from: legs[right]!.id, by }, why: null }
}

/** Null once the leg gives back what was written. */
async function rewrite(
  { id, device }: ScrubLeg,
  offset: number,
  bytes: Uint8Array,
  { io, stands, failed, rewriting }: ScrubHost,
): Promise<string | null> {
  stands()
  rewriting?.(offset, bytes.length)
  try {
    await device.write(offset, [bytes], { fua: true }, io)
    const back = Buffer.concat(await device.read(offset, bytes.length, io))
    if (Buffer.compare(back, bytes) === 0) return null
    failed(id, `it gave back other bytes than were written at ${offset}`)
    return `${id} gave back other bytes than were written`
  } catch (error) {
    if (!(error instanceof BlockError) || error.errno === 'ESHUTDOWN' || error.retryable) throw error
    failed(id, `it did not take ${bytes.length} bytes anew at ${offset}: ${errorMessage(error)}`)
    return `${id} did not take it anew: ${errorMessage(error)}`
  }
}

/** Neighbours of which the same is to be said are one. */
function joined(found: readonly ScrubFinding[]): ScrubFinding[] {
  const result: ScrubFinding[] = []
  for (const finding of found) {
    const last = result.at(-1)
    const same = last !== undefined && last.offset + last.length === finding.offset && textOf(last) === textOf(finding)
    if (same) result[result.length - 1] = { ...last, length: last.length + finding.length }
    else result.push(finding)
  }
  return result
}

function textOf({ kind, legs, repaired, why }: ScrubFinding): string {
  return JSON.stringify([kind, legs, repaired, why])
}
