// How the parts of a picture share its rows: each gets what it needs at least, in the order of their ranks, then what is left goes
// round until nobody wants more. What was cut says by how much. Pure.

import { type Line, line, span } from '../render/styled.ts'

export interface Section {
  readonly name: string
  /** The lowest is served first. */
  readonly rank: number
  /** Rows it is given before others get more than theirs. */
  readonly least: number
  readonly lines: readonly Line[]
  /** Its first line is a head: it stays, and alone it is worth nothing. */
  readonly hasHead: boolean
  /** Which of its rows are kept where there is no room for all. */
  readonly keeps: 'first' | 'last'
}

/** With an empty line between two of them. */
export function fit(sections: readonly Section[], rows: number): Line[] {
  const wanting = sections.filter(({ lines }) => lines.length > 0)
  const byRank = [...wanting].sort((a, b) => a.rank - b.rank)
  const given = new Map<Section, number>()
  let left = rows
  for (const section of byRank) {
    // The empty line before it counts too.
    const gap = given.size === 0 ? 0 : 1
    const wish = Math.min(section.lines.length, section.least)
    const usable = section.hasHead ? 2 : 1
    if (left - gap < Math.min(usable, section.lines.length)) continue
    const got = Math.min(wish, left - gap)
    given.set(section, got)
    left -= got + gap
  }
  for (let more = true; more && left > 0; ) {
    more = false
    for (const section of byRank) {
      const got = given.get(section)
      if (got === undefined || got >= section.lines.length || left === 0) continue
      const step = Number.isFinite(left) ? 1 : section.lines.length - got
      given.set(section, got + step)
      left -= step
      more = true
    }
  }
  const shown = wanting.flatMap(section => {
    const got = given.get(section)
    return got === undefined ? [] : [cut(section, got)]
  })
  return shown.flatMap((lines, at) => (at === 0 ? lines : [line(), ...lines]))
}

function cut({ lines, hasHead, keeps }: Section, rows: number): Line[] {
  if (lines.length <= rows) return [...lines]
  const head = hasHead ? lines.slice(0, 1) : []
  const room = rows - head.length
  if (keeps === 'last') return [...head, ...lines.slice(lines.length - room)]
  const missing = lines.length - rows
  // One row to say that there are more, unless that is all there would be.
  if (room < 2) return [...lines.slice(0, rows)]
  return [...lines.slice(0, rows - 1), line(span(`… and ${missing + 1} more`, 'dim'))]
}
