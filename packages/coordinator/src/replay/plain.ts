// A core's state, or what it answered, as plain JSON and back: maps, sets and numbers that JSON has no word for are kept,
// `undefined` is left out. What reads it again gets an equal value, not the same objects.

import { assert } from '@stellwerk/runtime/assert.ts'
import type { Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'

/** Marks an object that stands for something else; an object that has this key by itself is marked, too. */
const MARK = '$'

export function toPlain(value: unknown): Json {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      return Number.isFinite(value) ? value : { [MARK]: 'number', is: String(value) }
    case 'bigint':
      return { [MARK]: 'bigint', is: String(value) }
    case 'object':
      return value === null ? null : objectToPlain(value)
  }
  assert(value === undefined, `a ${typeof value} is no state`)
  return null
}

function objectToPlain(value: object): Json {
  if (Array.isArray(value)) return value.map(toPlain)
  if (value instanceof Map) return { [MARK]: 'map', is: [...value].map(([key, of]) => [toPlain(key), toPlain(of)]) }
  if (value instanceof Set) return { [MARK]: 'set', is: [...value].map(toPlain) }
  const entries = Object.entries(value).filter(([, of]) => of !== undefined)
  if (MARK in value) return { [MARK]: 'object', is: entries.map(([key, of]) => [key, toPlain(of)]) }
  return Object.fromEntries(entries.map(([key, of]) => [key, toPlain(of)]))
}

/** Throws `bad-record` for what `toPlain` never makes. */
export function fromPlain(value: Json): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(fromPlain)
  const object = value as { readonly [key: string]: Json }
  if (!(MARK in object)) return Object.fromEntries(Object.entries(object).map(([key, of]) => [key, fromPlain(of)]))
  const { is } = object
  switch (object[MARK]) {
    case 'number':
      return Number(is)
    case 'bigint':
      return BigInt(String(is))
    case 'map':
      return new Map(pairs(is).map(([key, of]) => [fromPlain(key), fromPlain(of)]))
    case 'set':
      return new Set((Array.isArray(is) ? is : []).map(fromPlain))
    case 'object':
      return Object.fromEntries(pairs(is).map(([key, of]) => [String(key), fromPlain(of)]))
  }
  throw new StellwerkError('bad-record', `a state has something of the unknown kind ${JSON.stringify(object[MARK])}`, {
    hint: 'a later version recorded it: use that one',
  })
}

function pairs(value: Json | undefined): readonly (readonly [Json, Json])[] {
  if (Array.isArray(value) && value.every(pair => Array.isArray(pair) && pair.length === 2)) {
    return value as readonly (readonly [Json, Json])[]
  }
  throw new StellwerkError('bad-record', 'a state has a map without its pairs', { hint: 'the record is damaged' })
}

/** The first place at which two values differ, as a path (`hosts/host-a/epoch`), and what is there; null: they are equal. */
export function firstDifference(
  expected: Json | undefined,
  got: Json | undefined,
  path = '',
): { readonly path: string; readonly expected: Json | undefined; readonly got: Json | undefined } | null {
  if (expected === got) return null
  if (!isObject(expected) || !isObject(got) || Array.isArray(expected) !== Array.isArray(got)) {
    return Object.is(expected, got) ? null : { path, expected, got }
  }
  for (const key of new Set([...Object.keys(expected), ...Object.keys(got)])) {
    const found = firstDifference(expected[key], got[key], path === '' ? key : `${path}/${key}`)
    if (found !== null) return found
  }
  return null
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null
}
