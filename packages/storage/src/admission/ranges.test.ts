import { expect, it } from 'vitest'
import { judgeWrite } from './ranges.ts'
import { claimOf } from './testing.ts'

const layout = {
  metadata: { offset: 0, length: 1000 },
  slots: [
    { host: 'a', offset: 400, length: 100 },
    { host: 'b', offset: 500, length: 100 },
    { host: 'b', offset: 2000, length: 100 },
  ],
}

it.each([
  ['metadata', 0, 100, { a: false, b: false, owner: true, tool: false }],
  ['the end of metadata and what follows', 999, 2, { a: false, b: false, owner: true, tool: false }],
  ['data', 1000, 1000, { a: true, b: true, owner: true, tool: true }],
  ['a slot of a', 400, 100, { a: true, b: false, owner: true, tool: false }],
  ['part of a slot of b', 550, 10, { a: false, b: true, owner: true, tool: false }],
  ['two slots', 450, 100, { a: false, b: false, owner: true, tool: false }],
  ['a slot outside of metadata', 2000, 100, { a: false, b: true, owner: true, tool: false }],
  ['data that reaches into a slot', 1900, 101, { a: false, b: false, owner: true, tool: false }],
])('CSV1: %s is written by whom it belongs to', (_, offset, length, expected) => {
  const allowed = {
    a: judgeWrite(layout, claimOf('a'), offset, length) === null,
    b: judgeWrite(layout, claimOf('b'), offset, length) === null,
    owner: judgeWrite(layout, claimOf('c', { owner: 1 }), offset, length) === null,
    tool: judgeWrite(layout, null, offset, length) === null,
  }
  expect(allowed).toEqual(expected)
})

it('CSV1: without a layout nothing is reserved', () => {
  expect(judgeWrite(null, null, 0, 10)).toBe(null)
})
