// Values that people type: sizes, numbers, key=value. Each error names the word and says what would do.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'

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

export function parseCount(option: string, text: string, minimum: number, maximum: number): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (count >= minimum && count <= maximum) return count
  throw new StellwerkError('bad-number', `"${text}" is no number from ${minimum} to ${maximum}`, {
    where: `--${option}`,
    hint: `say one from ${minimum} to ${maximum}`,
  })
}

/** `writesPerSecond=20`: a number, true, false, or text. */
export function parseParameter(text: string): readonly [string, number | string | boolean] {
  const at = text.indexOf('=')
  if (at <= 0) {
    throw new StellwerkError('bad-parameter', `"${text}" is no parameter`, { where: '--param', hint: 'say NAME=VALUE' })
  }
  const value = text.slice(at + 1)
  const known: { readonly [word: string]: boolean } = { true: true, false: false }
  const number = value.trim() === '' ? Number.NaN : Number(value)
  return [text.slice(0, at), known[value] ?? (Number.isFinite(number) ? number : value)]
}

export function oneOf<const W extends readonly string[]>(option: string, text: string, words: W): W[number] {
  if (words.includes(text)) return text
  throw new StellwerkError('bad-word', `"${text}" is not one of ${words.join(', ')}`, {
    where: `--${option}`,
    hint: `say ${words.join(' or ')}`,
  })
}
