// The protocol's versions: agreed on in the handshake, and never changed behind a peer's back.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import './messages/all.ts'
import { defineFamily, Registry, registry } from './messages/family.ts'
import { closed } from './messages/fields.ts'
import { Type } from './schema/typebox.js'
import { canonical, schemaHash } from './schema-hash.ts'
import { CURRENT_VERSION, MINIMUM_VERSION, negotiate, VERSION_HISTORY } from './versions.ts'

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8')

test('schemas never change without a new version: node packages/protocol/tools/schema-hash.ts --write', () => {
  const pinned = JSON.parse(read('../schema-hashes.json')) as Record<string, string>
  expect(pinned[String(CURRENT_VERSION)]).toBe(schemaHash(registry))
  expect(Object.keys(pinned)).toEqual(VERSION_HISTORY.map(entry => String(entry.version)))
})

test('the history is in order and ends with the current version', () => {
  const versions = VERSION_HISTORY.map(entry => entry.version)
  expect(versions).toEqual(versions.map((_, i) => i + 1))
  expect(versions.at(-1)).toBe(CURRENT_VERSION)
  expect(MINIMUM_VERSION).toBeLessThanOrEqual(CURRENT_VERSION)
  expect(VERSION_HISTORY.slice(0, -1).every(entry => entry.released)).toBe(true)
})

test('every family is part of the protocol', () => {
  const all = read('./messages/all.ts')
  const families = readdirSync(new URL('./messages/', import.meta.url)).filter(
    file => !file.endsWith('.test.ts') && /= defineFamily\(/.test(read(`./messages/${file}`)),
  )
  expect(families.length).toBeGreaterThan(2)
  for (const file of families) expect(all).toContain(`'./${file}'`)
})

test('every object on the wire refuses what it does not name', () => {
  const open: string[] = []
  const visit = (schema: unknown, path: string): void => {
    if (typeof schema !== 'object' || schema === null) return
    const { type, properties, additionalProperties } = schema as Record<string, unknown>
    if (type === 'object' && properties !== undefined && additionalProperties !== false) open.push(path)
    for (const [key, inner] of Object.entries(schema)) visit(inner, `${path}/${key}`)
  }
  for (const { kind, request, reply } of registry.all()) {
    visit(request.schema, kind)
    visit(reply?.schema, `${kind} (reply)`)
  }
  expect(open).toEqual([])
})

test('the hash follows what is accepted, not how it is written', () => {
  const hashOf = (properties: Record<string, Type.TSchema>): string => {
    const own = new Registry()
    defineFamily('t', { 't.x': { request: closed(properties) } }, own)
    return schemaHash(own)
  }
  const a = Type.String()
  const b = Type.Integer()
  expect(hashOf({ a, b })).toBe(hashOf({ b, a }))
  expect(hashOf({ a, b })).not.toBe(hashOf({ a, b: Type.Optional(b) }))
  expect(hashOf({ a, b })).not.toBe(hashOf({ a, b: Type.Integer({ minimum: 1 }) }))
  expect(canonical({ b: [1, 'x', null], a: { d: undefined, c: true } })).toBe('{"a":{"c":true},"b":[1,"x",null]}')
})

test.each([
  [{ current: 3, minimum: 1 }, { current: 2, minimum: 1 }, 2],
  [{ current: 3, minimum: 2 }, { current: 9, minimum: 3 }, 3],
  [{ current: 1, minimum: 1 }, { current: 1, minimum: 1 }, 1],
])('the highest version both speak is chosen: %j and %j', (ours, theirs, version) => {
  expect(negotiate(ours, theirs)).toBe(version)
  expect(negotiate(theirs, ours)).toBe(version)
})

test('who has no version in common is told which side to upgrade', () => {
  const hintOf = (ours: number, theirs: number): unknown => {
    try {
      return negotiate({ current: ours, minimum: ours }, { current: theirs, minimum: theirs })
    } catch (error) {
      return error
    }
  }
  expect(hintOf(1, 2)).toMatchObject({ code: 'version-mismatch', hint: 'upgrade this process' })
  expect(hintOf(2, 1)).toMatchObject({ code: 'version-mismatch', hint: 'upgrade the other process' })
})
