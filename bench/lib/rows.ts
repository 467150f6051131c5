// What the bench reports: rows that scripts can rely on, and how they are shown to people.

export type Unit = 'IOPS' | 'MiB/s' | 'ms' | 'MiB' | 'x' | 'events/s'

export interface Row {
  readonly name: string
  readonly ours: number
  /** Null: there is nothing to compare with, or it is not installed. */
  readonly peer: number | null
  readonly peerName: string | null
  readonly unit: Unit
  /** ours / peer. */
  readonly ratio: number | null
}

export function row(name: string, ours: number, unit: Unit, peer: number | null, peerName: string | null): Row {
  return {
    name,
    ours: rounded(ours),
    peer: peer === null ? null : rounded(peer),
    peerName,
    unit,
    ratio: peer === null || peer === 0 ? null : Number((ours / peer).toFixed(2)),
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return 0
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function rounded(value: number): number {
  return Number(value.toFixed(value >= 100 ? 0 : value >= 1 ? 1 : 3))
}

/** One line a row, in columns. */
export function formatRow(shown: Row): string {
  const peer =
    shown.peer === null ? (shown.peerName ?? '') : `${shown.ratio?.toFixed(2)} x ${shown.peerName} (${shown.peer})`
  return `${shown.name.padEnd(58)} ${String(shown.ours).padStart(9)} ${shown.unit.padEnd(9)} ${peer}`.trimEnd()
}
