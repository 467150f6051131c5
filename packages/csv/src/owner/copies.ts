// Copies of shared extents, from the moment they are begun until they are mapped. A copy is worth something only as long as
// its disk has the extent it was made from, and shares it: in between the host may not write there.

import { assert } from '@stellwerk/runtime/assert.ts'
import { type Entry, eachTriple } from '../format/metadata.ts'
import type { Effect, EffectOutcome, OwnerState } from './state.ts'

type CopyEffect = Extract<Effect, { type: 'copy' }>

export function copyKey(disk: string, index: number): string {
  return `${disk}/${index}`
}

export function beginCopy(state: OwnerState, effect: CopyEffect): void {
  const { disk, holder, index, from, to } = effect
  assert(state.metadata.references[to] === 0, `extent ${to} is copied to while it is in use`)
  assert(!state.copies.has(copyKey(disk, index)), `index ${index} of disk ${disk} is copied twice`)
  const pooled = state.pool.indexOf(to)
  if (pooled >= 0) state.pool.splice(pooled, 1)
  state.cursor = (to + 1) % state.metadata.layout.extentCount
  state.copies.set(copyKey(disk, index), { disk, holder, index, from, to, outcome: 'running', void: false })
}

export function endCopy(state: OwnerState, effect: CopyEffect, outcome: EffectOutcome): void {
  const key = copyKey(effect.disk, effect.index)
  const copy = state.copies.get(key)
  assert(copy?.to === effect.to, `a copy to extent ${effect.to} ended that was not under way`)
  const unreadable = !outcome.ok && outcome.unreadable === true
  if (!outcome.ok && !outcome.full && !unreadable) state.bad.add(effect.to)
  if (copy.void || (!outcome.ok && !unreadable)) state.copies.delete(key)
  else copy.outcome = outcome.ok ? 'done' : 'unreadable'
}

/** They are mapped now. */
export function takeCopied(state: OwnerState, entry: Extract<Entry, { type: 'remapped' }>): void {
  eachTriple(entry.triples, (index, _, to) => {
    const key = copyKey(entry.disk, index)
    const copy = state.copies.get(key)
    assert(copy?.to === to && copy.outcome === 'done', `extent ${to} is given without having been copied`)
    state.copies.delete(key)
  })
}

/** After every change: which of them are worth nothing any more. */
export function tidyCopies(state: OwnerState): void {
  for (const [key, copy] of state.copies) {
    const disk = state.metadata.disks.get(copy.disk)
    const shares = disk?.map.get(copy.index) === copy.from && state.metadata.references[copy.from]! > 1
    // Whoever has the disk now may never ask for it.
    if (shares && disk?.holder === copy.holder) continue
    if (copy.outcome === 'running') copy.void = true
    else state.copies.delete(key)
  }
}
