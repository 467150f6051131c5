// WebAssembly modules put together section by section, for tests: small guests, and guests that must be refused.

export interface Section {
  readonly id: number
  readonly bytes: readonly number[]
}

/** Instructions of a `step` that never returns. */
export const SPIN: readonly number[] = [0x03, 0x40, 0x0c, 0x00, 0x0b, 0x41, 0x00]
/** Of one that waits for its devices. */
export const IDLE: readonly number[] = [0x41, 0x7f]

/** Of one that stores a word, then waits. */
export function storeWord(address: number, value: number): readonly number[] {
  return [0x41, ...signed(address), 0x41, ...signed(value), 0x36, 0x02, 0x00, ...IDLE]
}

export const TYPE: Section = { id: 1, bytes: [1, 0x60, 1, 0x7f, 1, 0x7f] }
export const FUNCTION: Section = { id: 3, bytes: [1, 0] }
/** env.memory: 32 to 65,536 pages, by these flags (3: shared with a maximum). */
export const memoryImport = (flags = 3, name = 'memory'): number[] => [
  ...text('env'),
  ...text(name),
  ...[2, flags, ...unsigned(32), ...unsigned(65_536)],
]
export const IMPORT: Section = { id: 2, bytes: [1, ...memoryImport()] }
export const stepExport: readonly number[] = [...text('step'), 0, 0]
export const EXPORT: Section = { id: 7, bytes: [1, ...stepExport] }
export const code = (instructions: readonly number[]): Section => {
  const body = [0, ...instructions, 0x0b]
  return { id: 10, bytes: [1, ...unsigned(body.length), ...body] }
}

export function assemble(sections: readonly Section[]): Uint8Array {
  const bytes = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  for (const section of sections) bytes.push(section.id, ...unsigned(section.bytes.length), ...section.bytes)
  return Uint8Array.from(bytes)
}

export function buildModule(instructions: readonly number[]): Uint8Array {
  return assemble([TYPE, IMPORT, FUNCTION, EXPORT, code(instructions)])
}

export function text(value: string): number[] {
  return [value.length, ...Buffer.from(value)]
}

export function unsigned(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) + 128)
  }
}

export function signed(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; ; rest >>= 7) {
    const low = rest & 0x7f
    const last = (rest >> 7 === 0 && low < 64) || (rest >> 7 === -1 && low >= 64)
    if (last) return [...bytes, low]
    bytes.push(low + 128)
  }
}
