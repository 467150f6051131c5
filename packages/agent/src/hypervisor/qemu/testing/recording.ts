// What was recorded of QEMUs (by tools/record-qemu.ts) and of hosts' processors, and a QEMU that answers by it.

import { readdirSync, readFileSync } from 'node:fs'
import type { CommandExit, Json } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { StartProgram } from '../qemu-process.ts'

/** Of a processor model, by `query-cpu-model-expansion`: some of the properties. */
export interface CpuProperties {
  /** Those that are true, one behind the other. */
  readonly on: string
  readonly values: { readonly [name: string]: Json }
}

export interface Recording {
  /** The distribution and its package. */
  readonly system: string
  /** How QEMU ended, by what it was asked (`keyOf`). */
  readonly exits: { readonly [key: string]: CommandExit }
  /** What the probe made of it on the machine of the recording: facts, or the line of its refusal. */
  readonly outcome: Json
  /** QMP's. */
  readonly greeting: Json
  /** What TCG can do: the model `max`. Null: it was refused before it was asked. */
  readonly tcg: CpuProperties | null
  /** What each level's processor is, from the first on, whether or not an accelerator can give it. */
  readonly levels: readonly CpuProperties[]
}

/** A host's own, as its QEMU has told it under KVM. */
export interface Processor {
  /** Whose tests have the whole reply to `query-cpu-model-expansion`. */
  readonly source: string
  readonly vendor: string
  /** What it has of the features that the levels above the first ask for. */
  readonly on: string
}

const DIRECTORY = new URL('recorded/', import.meta.url)
const PROCESSORS = 'processors.json'
const read = (file: string): unknown => JSON.parse(readFileSync(new URL(file, DIRECTORY), 'utf8'))

/** By the name of the distribution: `debian-12`. */
export const RECORDINGS = new Map(
  readdirSync(DIRECTORY)
    .filter(file => file.endsWith('.json') && file !== PROCESSORS)
    .sort()
    .map(file => [file.slice(0, -'.json'.length), read(file) as Recording] as const),
)

/** By model. */
export const RECORDED_PROCESSORS = new Map(Object.entries(read(PROCESSORS) as { [model: string]: Processor }))

/** `--version`, or the accelerator and the processor of a trial: `kvm qemu64,enforce`. */
export function keyOf(args: readonly string[]): string {
  const after = (word: string): string => args[args.indexOf(word) + 1] ?? ''
  return args.includes('-cpu') ? `${after('-accel')} ${after('-cpu')}` : args.join(' ')
}

/** Of a host with that QEMU. With a processor KVM works, and gives what that has; without, it is as on the machine of the recording. */
export function playedQemu(recording: Recording, processor: Processor | null): StartProgram {
  return async (_vm, { program, args }) => {
    const [accelerator, model] = keyOf(args).split(' ')
    const exit =
      processor !== null && accelerator === 'kvm'
        ? underKvm(program, processor, model ?? '')
        : recording.exits[keyOf(args)]
    if (exit === undefined) {
      throw new StellwerkError('not-recorded', `nobody has asked for ${keyOf(args)}`, {
        where: recording.system,
        hint: 'the probe asks something else now: record anew by packages/agent/tools/record-qemu.ts',
      })
    }
    return { onExit: told => queueMicrotask(() => told(exit)), kill: () => undefined }
  }
}

/** As `enforce` has it, in the words of the recordings; or the trial's guest tells the first letter of the maker (probe.ts). */
function underKvm(program: string, { vendor, on }: Processor, model: string): CommandExit {
  const has = new Set(on.split(' '))
  const missing = model
    .split(',')
    .flatMap(word => (word.startsWith('+') && !has.has(word.slice(1)) ? [word.slice(1)] : []))
  const lines = missing.map(feature => `warning: host doesn't support requested feature: ${feature}`)
  if (lines.length === 0) return { code: (vendor.charCodeAt(0) * 2 + 1) % 256, signal: null, output: '', errors: '' }
  const errors = [...lines, "Host doesn't support requested features"].map(line => `${program}: ${line}\n`).join('')
  return { code: 1, signal: null, output: '', errors }
}
