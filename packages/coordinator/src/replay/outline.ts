// What a step of the core came to, as it is put on record: everything that tells two decisions apart, in little room. What is
// long, and what is on record elsewhere, is told by its checksum.

import { crc32 } from 'node:zlib'
import type { Json, StoreChange } from '@stellwerk/runtime/environment.ts'
import type { Effect, Output } from '../core/output.ts'
import { toPlain } from './plain.ts'

/** What is longer, as JSON, is not kept but by its checksum. */
const KEPT_CHARS = 2_048

/** Null: the step changed nothing durable and told nobody anything. */
export function outlineOf({ changes, effects }: Output): Json {
  if (changes.length === 0 && effects.length === 0) return null
  return { changes: changes.map(outlineOfChange), effects: effects.map(outlineOfEffect) }
}

function outlineOfChange(change: StoreChange): Json {
  if ('delete' in change) return { delete: change.delete }
  // A decision is a record of its own.
  if (change.put.startsWith('decisions/')) return { put: change.put, value: checksum(toPlain(change.value)) }
  return { put: change.put, value: brief(change.value) }
}

function outlineOfEffect(effect: Effect): Json {
  if (effect.kind === 'trace') {
    const { kind } = effect.event
    const isDecision = kind.startsWith('decision.')
    return { kind: 'trace', event: isDecision ? brief(effect.event) : { kind, ...checksum(toPlain(effect.event)) } }
  }
  if (!('body' in effect)) return toPlain(effect)
  return toPlain({ ...effect, body: brief(effect.body) })
}

function brief(value: unknown): Json {
  const plain = toPlain(value)
  const text = JSON.stringify(plain)
  return text.length <= KEPT_CHARS ? plain : checksumOf(text)
}

function checksum(plain: Json): { readonly crc32: string; readonly chars: number } {
  return checksumOf(JSON.stringify(plain))
}

function checksumOf(text: string): { readonly crc32: string; readonly chars: number } {
  return { crc32: crc32(text).toString(16).padStart(8, '0'), chars: text.length }
}
