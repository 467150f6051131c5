// Where in a plan's text something stands: `FILE:LINE:COLUMN` for each thing that can be wrong.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Document, isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml'

export type Path = readonly (string | number)[]

export class PlanText {
  readonly #file: string
  readonly #document: Document
  readonly #lines: LineCounter

  constructor(file: string, document: Document, lines: LineCounter) {
    this.#file = file
    this.#document = document
    this.#lines = lines
  }

  /** Points at the key of an entry, or, `at` the value, at what stands there. What is not there is its map's. */
  refuse(path: Path, message: string, hint: string, at: 'key' | 'value' = 'value'): StellwerkError {
    return this.refuseAt(this.#offset(path, at), message, hint)
  }

  /** `FILE:LINE:COLUMN`. */
  where(path: Path, at: 'key' | 'value' = 'value'): string {
    return this.#placeOf(this.#offset(path, at))
  }

  refuseAt(offset: number, message: string, hint: string): StellwerkError {
    return new StellwerkError('bad-plan', message, { where: this.#placeOf(offset), hint })
  }

  #placeOf(offset: number): string {
    const { line, col } = this.#lines.linePos(offset)
    // An empty file has no lines.
    return `${this.#file}:${Math.max(1, line)}:${Math.max(1, col)}`
  }

  #offset(path: Path, at: 'key' | 'value'): number {
    let node: unknown = this.#document.contents
    let offset = startOf(node) ?? 0
    for (const [i, step] of path.entries()) {
      const isLast = i === path.length - 1
      if (isMap(node)) {
        const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step))
        if (pair === undefined) break
        node = pair.value
        const key = startOf(pair.key)
        offset = (isLast && at === 'key' ? key : (startOf(node) ?? key)) ?? offset
      } else if (isSeq(node)) {
        node = node.items[Number(step)]
        offset = startOf(node) ?? offset
      } else break
    }
    return offset
  }
}

function startOf(node: unknown): number | null {
  return (node as Node | null | undefined)?.range?.[0] ?? null
}
