// Values that people type: sizes, numbers, key=value. Each error names the word and says what would do.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { age } from '../render/units.ts'

const UNITS: { readonly [unit: string]: number } = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  m: 2 ** 20,
  mib: 2 ** 20,
  g: 2 ** 30,
  gib: 2 ** 30,
  t: 2 ** 40,
  tib: 2 ** 40,
}

/** Bytes of `64MiB`, `2G`, `1.5GiB`, `4096`; null if it is no size. */
export function sizeOf(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim())
  const unit = match === null ? undefined : UNITS[(match[2] ?? '').toLowerCase()]
  const bytes = match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : null
}

/** As `sizeOf`, of an option's value; throws `bad-size`. */
export function parseSize(option: string, text: string): number {
  const bytes = sizeOf(text)
  if (bytes !== null) return bytes
  throw new StellwerkError('bad-size', `"${text}" is no size`, {
    where: `--${option}`,
    hint: 'say 64MiB, 2GiB or bytes',
  })
}

const DURATIONS: { readonly [unit: string]: number } = { ms: 1, s: 1_000, min: 60_000, m: 60_000, h: 3_600_000 }

/** `500ms`, `1s`, `1.5s`, `2min`, `1h`; gives milliseconds. */
export function parseDuration(option: string, text: string, minimumMs: number, maximumMs: number): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)$/.exec(text.trim())
  const ms = match === null ? Number.NaN : Number(match[1]) * (DURATIONS[match[2] ?? ''] ?? Number.NaN)
  if (ms >= minimumMs && ms <= maximumMs) return ms
  throw new StellwerkError('bad-duration', `"${text}" is no time from ${age(minimumMs)} to ${age(maximumMs)}`, {
    where: `--${option}`,
    hint: 'say 500ms, 1s or 2min',
  })
}

export function parseCount(option: string, text: string, minimum: number, maximum: number): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (count >= minimum && count <= maximum) return count
  throw new StellwerkError('bad-number', `"${text}" is no number from ${minimum} to ${maximum}`, {
    where: `--${option}`,
    hint: `say one from ${minimum} to ${maximum}`,
  })
}

/** `writesPerSecond=20`: a number, true, false, or text. */
function parseParameter(text: string): readonly [string, number | string | boolean] {
  const at = text.indexOf('=')
  if (at <= 0) {
    throw new StellwerkError('bad-parameter', `"${text}" is no parameter`, { where: '--param', hint: 'say NAME=VALUE' })
  }
  const value = text.slice(at + 1)
  const known: { readonly [word: string]: boolean } = { true: true, false: false }
  const number = value.trim() === '' ? Number.NaN : Number(value)
  return [text.slice(0, at), known[value] ?? (Number.isFinite(number) ? number : value)]
}

/** Each name once: which of two values would count, nobody could see. */
export function parseParameters(texts: readonly string[]): Record<string, number | string | boolean> {
  const parameters = new Map<string, number | string | boolean>()
  for (const [name, value] of texts.map(parseParameter)) {
    if (parameters.has(name)) {
      throw new StellwerkError('bad-parameter', `parameter "${name}" is given twice`, {
        where: '--param',
        hint: 'give each parameter one value',
      })
    }
    parameters.set(name, value)
  }
  return Object.fromEntries(parameters)
}

export function oneOf<const W extends readonly string[]>(option: string, text: string, words: W): W[number] {
  if (words.includes(text)) return text
  throw new StellwerkError('bad-word', `"${text}" is not one of ${words.join(', ')}`, {
    where: `--${option}`,
    hint: `say ${words.join(' or ')}`,
  })
}
