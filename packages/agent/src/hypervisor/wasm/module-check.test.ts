// The loader: accepts what the guests are built as, refuses every kind of hidden state, and survives any bytes.

import { errorCode, errorMessage } from '@stellwerk/runtime/errors.ts'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { catalogGuest } from '../../guests/catalog.ts'
import {
  assemble,
  code,
  EXPORT,
  FUNCTION,
  IDLE,
  IMPORT,
  memoryImport,
  type Section,
  signed,
  stepExport,
  TYPE,
  text,
} from '../testing/module-builder.ts'
import { checkModule } from './module-check.ts'

const STEP = code(IDLE)

/** A whole module with some sections added or replaced, in their right order. */
function variant(...changes: readonly Section[]): Uint8Array {
  const kept = [TYPE, IMPORT, FUNCTION, EXPORT, STEP].filter(
    section => !changes.some(change => change.id === section.id),
  )
  return assemble([...kept, ...changes].sort((a, b) => order(a.id) - order(b.id)))
}

const order = (id: number): number => (id === 12 ? 9.5 : id)

function refusal(bytes: Uint8Array): string {
  try {
    checkModule('test.wasm', bytes)
  } catch (error) {
    expect(errorCode(error)).toBe('bad-guest')
    return errorMessage(error)
  }
  return 'accepted'
}

test('accepts the guests that come with it and finds their state', () => {
  expect(checkModule('echo', catalogGuest('echo')!.module).globals).toEqual([
    { name: 'lines', type: 'i32' },
    { name: 'booted', type: 'i32' },
  ])
  const ledger = checkModule('ledger', catalogGuest('ledger')!.module)
  expect(ledger.globals).toEqual([])
  expect(ledger).toMatchObject({ minimumPages: 32, maximumPages: 65_536 })
  expect(ledger.data.length).toBeGreaterThan(0)
})

test('what it accepts, the engine accepts', async () => {
  const global = { id: 6, bytes: [2, 0x7e, 1, 0x42, ...signed(-5), 0x0b, 0x7c, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b] }
  const exported = { id: 7, bytes: [3, ...stepExport, ...text('a'), 3, 0, ...text('b'), 3, 1] }
  const data = { id: 11, bytes: [1, 0, 0x41, ...signed(70_000), 0x0b, 2, 1, 2] }
  const bytes = variant(global, exported, data)
  expect(checkModule('test.wasm', bytes)).toMatchObject({
    globals: [
      { name: 'a', type: 'i64' },
      { name: 'b', type: 'f64' },
    ],
    data: [{ offset: 70_000, length: 2 }],
  })
  await WebAssembly.compile(Uint8Array.from(bytes))
})

describe('refuses', () => {
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['nothing', new Uint8Array(), /not a WebAssembly module/],
    ['another version', assemble([]).map((byte, n) => (n === 4 ? 2 : byte)), /not a WebAssembly module/],
    ['no memory import', assemble([TYPE, FUNCTION, EXPORT, STEP]), /does not import env.memory/],
    ['a memory of its own', variant({ id: 5, bytes: [1, 0, 1] }), /memory of its own/],
    ['memory that is not shared', variant({ id: 2, bytes: [1, ...memoryImport(1)] }), /not shared/],
    ['memory of 64 bits', variant({ id: 2, bytes: [1, ...memoryImport(7)] }), /not shared/],
    [
      'another import',
      variant({ id: 2, bytes: [2, ...memoryImport(), ...text('env'), ...text('f'), 0, 0] }),
      /imports env.f/,
    ],
    ['two memories', variant({ id: 2, bytes: [2, ...memoryImport(), ...memoryImport()] }), /second memory/],
    ['a table', variant({ id: 4, bytes: [1, 0x70, 0, 1] }), /table/],
    ['element segments', variant({ id: 9, bytes: [1, 0, 0x41, 0, 0x0b, 1, 0] }), /element/],
    ['a start function', variant({ id: 8, bytes: [0] }), /start function/],
    ['a hidden mutable global', variant({ id: 6, bytes: [1, 0x7f, 1, 0x41, 0, 0x0b] }), /mutable and not exported/],
    ['a reference as a global', variant({ id: 6, bytes: [1, 0x6f, 1, 0xd0, 0x6f, 0x0b] }), /no number/],
    ['a passive data segment', variant({ id: 11, bytes: [1, 1, 1, 7] }), /passive/],
    [
      "data in the machine's area",
      variant({ id: 11, bytes: [1, 0, 0x41, ...signed(64), 0x0b, 1, 7] }),
      /machine's area/,
    ],
    ['data past the memory', variant({ id: 11, bytes: [1, 0, 0x41, ...signed(-1), 0x0b, 1, 7] }), /machine's area/],
    ['no step', variant({ id: 7, bytes: [1, ...text('stop'), 0, 0] }), /does not export/],
    ['a step of another type', variant({ id: 1, bytes: [1, 0x60, 0, 0] }), /not \(i32\)/],
    ['sections out of order', assemble([IMPORT, TYPE, FUNCTION, EXPORT, STEP]), /out of order/],
    ['unknown sections', variant({ id: 13, bytes: [0] }), /unknown section/],
    ['a section cut short', variant({ id: 3, bytes: [2, 0] }), /cut short/],
    ['a section too long', variant({ id: 3, bytes: [1, 0, 0] }), /longer than/],
  ]
  for (const [what, bytes, why] of cases) test(what, () => expect(refusal(bytes)).toMatch(why))
})

test('any bytes end in a coded refusal or a module that it can describe', () => {
  const modules = ['echo', 'ledger'].map(name => catalogGuest(name)!.module)
  fc.assert(
    fc.property(
      fc.constantFrom(...modules),
      fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      fc.option(fc.nat(10_000)),
      (module, changes, cut) => {
        const bytes = Uint8Array.from(module)
        for (const [at, value] of changes) bytes[at % bytes.length] = value
        expect(typeof refusal(cut === null ? bytes : bytes.subarray(0, cut % bytes.length))).toBe('string')
      },
    ),
    { numRuns: 2000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), tail => {
      expect(typeof refusal(Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...tail]))).toBe('string')
    }),
    { numRuns: 1000 },
  )
})
