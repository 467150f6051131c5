// Which of a set's paths answer but slowly: one whose requests take ten times as long as its siblings'. It is demoted, rests,
// and is tried again; one that is slow again at once rests twice as long. Its rest is over when no sibling is left that could
// stand in for it: a host is not to be redirected for want of a path that answers. Pure, a part of path-core.ts.

import type { Path, PathConfig } from './path-state.ts'

/** Looks in a row at which it must be slow. */
const LOOKS = 2
/** Not slow for so many times its rest: what it was before is forgotten. */
const FORGIVEN_AFTER = 4

/**
 * One look. `medians`: what requests on each path took lately; null where there were too few to tell. A path is judged when
 * there is news of it, by what is known of its siblings.
 */
export function lookForSlow(
  paths: readonly Path[],
  medians: readonly (number | null)[],
  config: PathConfig,
  now: number,
): void {
  paths.forEach(({ line, slow }, index) => {
    if (line.kind !== 'connected') slow.medianMs = null
    else slow.medianMs = medians[index] ?? slow.medianMs
  })
  paths.forEach((path, index) => {
    const { slow } = path
    if (slow.restUntil !== null) {
      const isAlone = !paths.some((other, at) => at !== index && standsIn(other, path))
      if ((now < slow.restUntil && !isAlone) || path.badProbes > 0) return
      slow.restUntil = null
      slow.changedAt = now
      // On trial: one slow look is enough.
      slow.looks = LOOKS - 1
      path.why = isAlone ? 'slow, but nothing stands in for it' : 'tried again after it was slow'
      return
    }
    const median = medians[index] ?? null
    const others = siblingsMedian(paths, index)
    if (median === null || others === null) return
    if (median <= Math.max(config.slowFloorMs, config.slowFactor * others)) {
      slow.looks = 0
      if (slow.changedAt !== null && now - slow.changedAt > FORGIVEN_AFTER * slow.holdMs) slow.holdMs = 0
      return
    }
    slow.looks += 1
    if (slow.looks < LOOKS) return
    slow.looks = 0
    slow.holdMs = Math.min(config.slowHoldMaxMs, slow.holdMs === 0 ? config.slowHoldMs : slow.holdMs * 2)
    slow.restUntil = now + slow.holdMs
    slow.changedAt = now
    path.why = `requests take ${Math.round(median)} ms, on its siblings ${others.toFixed(1)}`
  })
}

/** Of those of the same priority that can stand in for it; null: there is none. */
function siblingsMedian(paths: readonly Path[], index: number): number | null {
  const path = paths[index]!
  const found: number[] = []
  paths.forEach((other, at) => {
    const median = other.slow.medianMs
    if (at !== index && median !== null && standsIn(other, path)) found.push(median)
  })
  found.sort((a, b) => a - b)
  return found[Math.floor((found.length - 1) / 2)] ?? null
}

function standsIn(other: Path, path: Path): boolean {
  const isTrusted = other.line.kind === 'connected' && other.badProbes === 0 && other.slow.restUntil === null
  return isTrusted && !other.disabled && other.priority === path.priority
}
