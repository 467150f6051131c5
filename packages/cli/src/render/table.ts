// Columns of text, as wide as what stands in them.

import { type Line, type Span, span, textOf } from './styled.ts'

export type Cell = string | Span

/** A column's title; with a number it is left out where there is no room, the highest first. */
export type Column = string | { readonly title: string; readonly drop: number }

export function table(head: readonly Column[], rows: readonly (readonly Cell[])[]): string[] {
  return styledTable(head, rows).map(textOf)
}

/** The head is the first line. In `columns` what can be dropped is, until the rest fits; the last column never counts. */
export function styledTable(
  head: readonly Column[],
  rows: readonly (readonly Cell[])[],
  columns = Number.POSITIVE_INFINITY,
): Line[] {
  const titles = head.map(column => (typeof column === 'string' ? column : column.title))
  const drops = head.map(column => (typeof column === 'string' ? 0 : column.drop))
  const widths = titles.map((title, at) => Math.max(title.length, ...rows.map(row => lengthOf(row[at]))))
  let shown = titles.map((_, at) => at)
  const width = () => shown.slice(0, -1).reduce((sum, at) => sum + (widths[at] ?? 0) + 2, 0) + LAST_COLUMN_LEAST
  while (width() > columns) {
    const [first] = [...shown].sort((a, b) => (drops[b] ?? 0) - (drops[a] ?? 0))
    if (first === undefined || drops[first] === 0) break
    shown = shown.filter(at => at !== first)
  }
  const lineOf = (cells: readonly Cell[]): Line => {
    const spans = shown.flatMap((at, place): Span[] => {
      const cell = cells[at] ?? ''
      const own = typeof cell === 'string' ? span(cell) : cell
      return place === shown.length - 1 ? [own] : [own, span(' '.repeat((widths[at] ?? 0) - own.text.length + 2))]
    })
    return trimEnd(spans)
  }
  return [lineOf(titles.map(title => span(title, 'dim'))), ...rows.map(lineOf)]
}

/** Enough of a remark to see what it is about. */
const LAST_COLUMN_LEAST = 12

function lengthOf(cell: Cell | undefined): number {
  return cell === undefined ? 0 : typeof cell === 'string' ? cell.length : cell.text.length
}

function trimEnd(spans: readonly Span[]): Line {
  const kept = [...spans]
  while (kept.length > 0) {
    const last = kept.pop()!
    const text = last.text.trimEnd()
    if (text === '') continue
    kept.push({ ...last, text })
    break
  }
  return kept
}
