// Reads a guest module's sections before it is compiled, and refuses whatever would hold state outside linear memory and
// exported globals, or reach beyond its machine: such a guest could not be migrated whole. What instructions may be used is
// WebAssembly's own validation.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { type GlobalType, MAX_GLOBALS, PROGRAM_START, type StateGlobal } from './layout.ts'

/** What a machine must know of its guest's module. */
export interface ModuleFacts {
  /** The mutable globals, which are state: exported, in order of their index. */
  readonly globals: readonly StateGlobal[]
  /** Where instantiating writes into memory. */
  readonly data: readonly { readonly offset: number; readonly length: number }[]
  /** What the imported memory must be, in WebAssembly pages. */
  readonly minimumPages: number
  readonly maximumPages: number
}

const SECTION_NAMES = [
  'custom',
  'type',
  'import',
  'function',
  'table',
  'memory',
  'global',
  'export',
  'start',
  'element',
  'code',
  'data',
  'data count',
]
/** The order sections must come in: by id, but the data count stands before the code. */
const SECTION_ORDER = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10]
/** Sections that no guest may have, and why. */
const FORBIDDEN: { readonly [id: number]: string } = {
  4: 'it has a table, whose contents would be hidden state',
  5: 'it has a memory of its own; it must import env.memory',
  8: 'it has a start function, which would run before the machine does',
  9: 'it has element segments, which would be hidden state',
}
const TYPES: { readonly [code: number]: GlobalType } = { 127: 'i32', 126: 'i64', 125: 'f32', 124: 'f64' }
/** Every count in a module is bounded by its bytes; names by this. */
const MAX_NAME_BYTES = 1024
export const MAX_MODULE_BYTES = 8 * MIB

const BUILD_HINT = 'build it as packages/agent/src/guests/assembly/ is: see packages/agent/tools/build-guests.ts'

export function badGuest(name: string, what: string, hint = BUILD_HINT): StellwerkError {
  return new StellwerkError('bad-guest', `guest module refused: ${what}`, { where: name, hint })
}

export function checkModule(name: string, bytes: Uint8Array): ModuleFacts {
  const refuse = (what: string): never => {
    throw badGuest(name, what)
  }
  if (bytes.length > MAX_MODULE_BYTES) refuse(`${bytes.length} bytes; at most ${MAX_MODULE_BYTES}`)
  const reader = new Reader(bytes, refuse)
  if (bytes.length < 8 || reader.u32() !== 0x6d736100 || reader.u32() !== 1)
    refuse('not a WebAssembly module, version 1')
  const found = new Findings(refuse)
  let place = 0
  while (!reader.atEnd) {
    const id = reader.byte()
    const section = reader.slice(reader.leb32())
    if (id === 0) continue
    const order = SECTION_ORDER[id] ?? refuse(`unknown section ${id}`)
    if (order <= place) refuse(`section ${SECTION_NAMES[id]} is out of order`)
    place = order
    found.section(id, section)
    // The code's instructions are the engine's to check.
    if (id !== 10 && !section.atEnd) refuse(`section ${SECTION_NAMES[id]} is longer than its contents`)
  }
  return found.facts()
}

class Findings {
  readonly #refuse: (what: string) => never
  /** Type indexes that are (i32) → i32. */
  readonly #stepTypes = new Set<number>()
  readonly #functionTypes: number[] = []
  readonly #globals: { readonly type: GlobalType; readonly mutable: boolean }[] = []
  readonly #exportedGlobals = new Map<number, string>()
  #step: number | null = null
  #memory: { readonly minimum: number; readonly maximum: number } | null = null
  readonly #data: { offset: number; length: number }[] = []

  constructor(refuse: (what: string) => never) {
    this.#refuse = refuse
  }

  section(id: number, reader: Reader): void {
    switch (id) {
      case 1:
        each(reader, n => this.#type(n, reader))
        return
      case 2:
        each(reader, () => this.#import(reader))
        return
      case 3:
        each(reader, () => this.#functionTypes.push(reader.leb32()))
        return
      case 6:
        each(reader, () => this.#global(reader))
        return
      case 7:
        each(reader, () => this.#export(reader))
        return
      case 10:
        return
      case 11:
        each(reader, () => this.#segment(reader))
        return
      case 12:
        reader.leb32()
        return
      default:
        this.#refuse(FORBIDDEN[id] ?? `unknown section ${id}`)
    }
  }

  facts(): ModuleFacts {
    if (this.#memory === null) this.#refuse('it does not import env.memory')
    const memory = this.#memory!
    const step = this.#step
    if (step === null) this.#refuse('it does not export a function "step"')
    if (!this.#stepTypes.has(this.#functionTypes[step!] ?? -1)) this.#refuse('its "step" is not (i32) → i32')
    const globals: StateGlobal[] = []
    this.#globals.forEach((global, index) => {
      if (!global.mutable) return
      const name = this.#exportedGlobals.get(index)
      if (name === undefined) this.#refuse(`global ${index} is mutable and not exported: hidden state`)
      globals.push({ name: name!, type: global.type })
    })
    if (globals.length > MAX_GLOBALS) this.#refuse(`${globals.length} mutable globals; at most ${MAX_GLOBALS}`)
    return { globals, data: this.#data, minimumPages: memory.minimum, maximumPages: memory.maximum }
  }

  #type(index: number, reader: Reader): void {
    if (reader.byte() !== 0x60) this.#refuse('it has a type that is not a function')
    const parameters = reader.types()
    const results = reader.types()
    if (parameters.length === 1 && parameters[0] === 0x7f && results.length === 1 && results[0] === 0x7f) {
      this.#stepTypes.add(index)
    }
  }

  #import(reader: Reader): void {
    const name = `${reader.name()}.${reader.name()}`
    const kind = reader.byte()
    if (name !== 'env.memory' || kind !== 2) this.#refuse(`it imports ${name}; there is env.memory only`)
    if (this.#memory !== null) this.#refuse('it imports a second memory')
    // Shared, with a maximum, 32 bits.
    if (reader.byte() !== 3) this.#refuse('its memory is not shared with a maximum')
    this.#memory = { minimum: reader.leb32(), maximum: reader.leb32() }
  }

  #global(reader: Reader): void {
    const code = reader.byte()
    const mutable = reader.byte()
    const type = TYPES[code] ?? this.#refuse('it has a global that is no number')
    if (mutable > 1) this.#refuse('it has a global of an unknown kind')
    reader.constant(code)
    this.#globals.push({ type, mutable: mutable === 1 })
  }

  #export(reader: Reader): void {
    const name = reader.name()
    const kind = reader.byte()
    const index = reader.leb32()
    if (kind === 0 && name === 'step') this.#step = index
    else if (kind === 3 && !this.#exportedGlobals.has(index)) this.#exportedGlobals.set(index, name)
    if (kind > 3) this.#refuse(`it exports "${name}" of an unknown kind`)
  }

  #segment(reader: Reader): void {
    // 1 is passive: whether it was dropped would be hidden state; 2 names a memory, of which there is one.
    if (reader.leb32() !== 0) this.#refuse('it has a passive data segment, which would be hidden state')
    const offset = reader.constant(0x7f)
    const { length } = reader.slice(reader.leb32())
    const end = offset + length
    const least = (this.#memory?.minimum ?? 0) * 65_536
    if (offset < PROGRAM_START || end > least) {
      this.#refuse(`its data at ${offset} lies in the machine's area or past its own ${least} bytes`)
    }
    this.#data.push({ offset, length })
  }
}

function each(reader: Reader, f: (index: number) => unknown): void {
  const count = reader.leb32()
  for (let n = 0; n < count; n++) f(n)
}

/** Reads within bounds or refuses. */
class Reader {
  readonly #bytes: Uint8Array
  readonly #refuse: (what: string) => never
  #at = 0

  constructor(bytes: Uint8Array, refuse: (what: string) => never) {
    this.#bytes = bytes
    this.#refuse = refuse
  }

  get length(): number {
    return this.#bytes.length
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  byte(): number {
    return this.#bytes[this.#at++] ?? this.#refuse('it is cut short')
  }

  u32(): number {
    const bytes = [this.byte(), this.byte(), this.byte(), this.byte()]
    return bytes.reduceRight((sum, byte) => sum * 256 + byte, 0)
  }

  leb32(): number {
    let value = 0
    for (let n = 0; n < 5; n++) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** (7 * n)
      if (byte < 0x80) return value < 2 ** 32 ? value : this.#refuse('a number too large')
    }
    return this.#refuse('a number too long')
  }

  slice(length: number): Reader {
    if (length > this.#bytes.length - this.#at) this.#refuse('it is cut short')
    const part = new Reader(this.#bytes.subarray(this.#at, this.#at + length), this.#refuse)
    this.#at += length
    return part
  }

  name(): string {
    const length = this.leb32()
    if (length > MAX_NAME_BYTES) this.#refuse(`a name of ${length} bytes`)
    const part = this.slice(length)
    return Buffer.from(part.#bytes).toString('utf8')
  }

  types(): number[] {
    const count = this.leb32()
    if (count > this.#bytes.length - this.#at) this.#refuse('it is cut short')
    return Array.from({ length: count }, () => this.byte())
  }

  /** A constant expression: one constant of the type, then the end. Gives the value of an i32, else 0. */
  constant(type: number): number {
    const opcode = this.byte()
    let value = 0
    if (opcode === 0x41 && type === 0x7f) value = this.#signedLeb(5)
    else if (opcode === 0x42 && type === 0x7e) this.#signedLeb(10)
    else if (opcode === 0x43 && type === 0x7d) this.slice(4)
    else if (opcode === 0x44 && type === 0x7c) this.slice(8)
    else this.#refuse('an initial value that is no constant')
    if (this.byte() !== 0x0b) this.#refuse('an initial value that is no constant')
    return value
  }

  /** As an unsigned 32-bit number. */
  #signedLeb(longest: number): number {
    let value = 0n
    for (let n = 0; n < longest; n++) {
      const byte = this.byte()
      value |= BigInt(byte & 0x7f) << BigInt(7 * n)
      if (byte >= 0x80) continue
      const bits = 7 * (n + 1)
      return Number(BigInt.asUintN(32, BigInt.asIntN(bits, value)))
    }
    return this.#refuse('a number too long')
  }
}
