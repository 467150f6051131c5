// Reads single words of a plan (durations, sizes, names, chances), each with its place for when it is wrong.

import { sizeOf } from '../../command-line/values.ts'
import type { Path, PlanText } from './place.ts'
import { DURATION_HINT, durationOf, formatDuration, rangeOf } from './quantity.ts'

export class Words {
  readonly #text: PlanText

  constructor(text: PlanText) {
    this.#text = text
  }

  duration(path: Path, value: unknown, least: number, most: number): number {
    const ms = typeof value === 'string' ? durationOf(value) : null
    if (ms === null) throw this.#text.refuse(path, `${shown(value)} is no duration`, DURATION_HINT)
    this.#within(path, value, ms, [least, most])
    return ms
  }

  range(path: Path, value: unknown, least: number, most: number): readonly [number, number] {
    const range = typeof value === 'string' ? rangeOf(value) : null
    if (range === null) {
      throw this.#text.refuse(path, `${shown(value)} is no duration, nor a range of them`, 'say 10s, or 5s..15s')
    }
    for (const ms of range) this.#within(path, value, ms, [least, most])
    return range
  }

  size(path: Path, value: unknown, least: number, most: number): number {
    const bytes = typeof value === 'string' ? sizeOf(value) : null
    if (bytes === null) throw this.#text.refuse(path, `${shown(value)} is no size`, 'say 64MiB or 2GiB')
    if (bytes < least || bytes > most) {
      throw this.#text.refuse(path, `${shown(value)} is out of range`, `from ${least} to ${most} bytes`)
    }
    return bytes
  }

  number(path: Path, value: unknown, least: number, most: number): number {
    if (typeof value === 'number' && value >= least && value <= most) return value
    throw this.#text.refuse(
      path,
      `${shown(value)} is no number from ${least} to ${most}`,
      `say one from ${least} to ${most}`,
    )
  }

  /** One of the words there are. `what`: as in `unknown host "x"`. */
  oneOf<const W extends readonly string[]>(path: Path, value: unknown, what: string, words: W, at?: 'key'): W[number] {
    if (typeof value === 'string' && words.includes(value)) return value
    throw this.#text.refuse(path, `unknown ${what} ${shown(value)}`, `known: ${words.join(', ')}`, at)
  }

  #within(path: Path, value: unknown, ms: number, [least, most]: readonly [number, number]): void {
    if (ms >= least && ms <= most) return
    const hint = `from ${formatDuration(least)} to ${formatDuration(most)}`
    throw this.#text.refuse(path, `${shown(value)} is out of range`, hint)
  }
}

export function shown(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value))
}
