// What can be set on a model guest, with the bounds.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { SCRATCH_BYTES } from '../../guests/ledger-format.ts'
import type { MachineSpec } from '../hypervisor.ts'
import { MAX_PAGES, MIN_PAGES } from './registers.ts'

export interface ModelParameters {
  /** Pages of 4 KiB that are really stored and migrated; the VM's `memoryBytes` is what is reserved for it. */
  readonly pages: number
  readonly stepMs: number
  /** Log entries a second. */
  readonly writesPerSecond: number
  readonly dirtyPagesPerStep: number
  /** Older entries read back and checked, a second. */
  readonly readBacksPerSecond: number
  /** Writes, zeroes, trims, reads and flushes in the scratch area at the disk's end, a second. */
  readonly scratchPerSecond: number
  readonly scratchBytes: number
  /** Trims of the whole scratch area a second, whatever is being written there. */
  readonly trimsPerSecond: number
  /** Whose ledger is on the disk, if it was cloned; null: its own. */
  readonly ledger: string | null
}

type NumberName = Exclude<keyof ModelParameters, 'ledger'>

const TABLE: {
  readonly [name in NumberName]: { preset: number; min: number; max: number; whole: boolean }
} = {
  pages: { preset: 64, min: MIN_PAGES, max: MAX_PAGES, whole: true },
  stepMs: { preset: 20, min: 1, max: 10_000, whole: false },
  writesPerSecond: { preset: 10, min: 0, max: 1000, whole: false },
  dirtyPagesPerStep: { preset: 1, min: 0, max: MAX_PAGES, whole: true },
  readBacksPerSecond: { preset: 1, min: 0, max: 1000, whole: false },
  scratchPerSecond: { preset: 0.5, min: 0, max: 1000, whole: false },
  scratchBytes: { preset: SCRATCH_BYTES, min: SCRATCH_BYTES, max: GIB, whole: true },
  trimsPerSecond: { preset: 0, min: 0, max: 1000, whole: false },
}

export function modelParameters(spec: MachineSpec): ModelParameters {
  const names = [...Object.keys(TABLE), 'ledger']
  for (const name of Object.keys(spec.parameters)) {
    if (!names.includes(name)) throw bad(spec, `unknown parameter "${name}"`, `known: ${names.join(', ')}`)
  }
  const read = (name: NumberName): number => {
    const { preset, min, max, whole } = TABLE[name]
    const value = spec.parameters[name] ?? preset
    if (typeof value !== 'number' || !(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      throw bad(spec, `parameter "${name}" is ${JSON.stringify(value)}`, `give a number from ${min} to ${max}`)
    }
    return value
  }
  const ledger = spec.parameters['ledger'] ?? null
  if (ledger !== null && typeof ledger !== 'string') {
    throw bad(spec, `parameter "ledger" is ${JSON.stringify(ledger)}`, 'give the name of a VM')
  }
  return {
    ledger,
    pages: read('pages'),
    stepMs: read('stepMs'),
    writesPerSecond: read('writesPerSecond'),
    dirtyPagesPerStep: read('dirtyPagesPerStep'),
    readBacksPerSecond: read('readBacksPerSecond'),
    scratchPerSecond: read('scratchPerSecond'),
    scratchBytes: read('scratchBytes'),
    trimsPerSecond: read('trimsPerSecond'),
  }
}

function bad(spec: MachineSpec, what: string, hint: string): StellwerkError {
  return new StellwerkError('bad-parameter', what, { where: `vm ${spec.vm}`, hint })
}
