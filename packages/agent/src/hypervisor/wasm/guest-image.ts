// From a machine's definition to what its worker needs: the module found, checked and compiled, the memory made, and the
// boot block filled in.

import type { BlockDevice } from '@stellwerk/block/device.ts'
import { digestOf, digestOfGuest, pathOf } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { GIB } from '@stellwerk/runtime/units.ts'
import { CATALOG_NAMES, catalogGuest, PARAMETER_MAX } from '../../guests/catalog.ts'
import { ledgerTag } from '../../guests/ledger-format.ts'
import type { MachineSpec } from '../hypervisor.ts'
import { HEADER, MACHINE_MAGIC, MACHINE_VERSION, MAX_PARAMETER_BYTES, WASM_PAGE_BYTES } from './layout.ts'
import { badGuest, checkModule, type ModuleFacts } from './module-check.ts'

/** A migration keeps a second copy of the memory; larger guests are a matter for QEMU. */
export const MAX_MEMORY_BYTES = 2 * GIB

export interface GuestImage {
  readonly module: WebAssembly.Module
  readonly facts: ModuleFacts
  readonly memory: WebAssembly.Memory
}

export async function loadGuest(env: Environment, spec: MachineSpec): Promise<GuestImage> {
  const catalog = catalogGuest(spec.guest)
  if (catalog !== null) checkParameters(spec, catalog.parameters)
  const digest = digestOfGuest(spec.guest)
  const bytes = catalog?.module ?? (await env.files.read(digest === null ? spec.guest : pathOf(digest)))
  if (bytes === null) {
    throw badGuest(spec.guest, 'there is no such guest', `known: ${CATALOG_NAMES.join(', ')}, or the path of a module`)
  }
  if (digest !== null && digestOf(bytes) !== digest) throw badGuest(spec.guest, 'the file here is another module')
  const { module, facts } = await compileGuest(spec.guest, bytes)
  return { module, facts, memory: makeMemory(spec, facts) }
}

/** Checked by us, then by the engine. Throws `bad-guest`. */
export async function compileGuest(
  name: string,
  bytes: Uint8Array,
): Promise<{ readonly module: WebAssembly.Module; readonly facts: ModuleFacts }> {
  const facts = checkModule(name, bytes)
  try {
    // A copy: what was checked is what is compiled, whoever else holds the bytes.
    return { module: await WebAssembly.compile(Uint8Array.from(bytes)), facts }
  } catch (error) {
    throw badGuest(name, errorMessage(error))
  }
}

/** What a VM's definition says, against what its module can be. Throws `bad-guest`, `bad-memory-size`. */
export async function checkOwnGuest(name: string, bytes: Uint8Array, vm: string, memoryBytes: number): Promise<void> {
  const { facts } = await compileGuest(name, bytes)
  checkMemory(name, vm, memoryBytes, facts)
}

/** As much of a definition as shows, before there is a machine, that no host can run it. Throws what `create` would throw. */
export function checkWasmDefinition(spec: MachineSpec, disks: number, nics: number): void {
  checkDevices(spec, disks, nics)
  encodeParameters(spec)
  const catalog = catalogGuest(spec.guest)
  if (catalog === null) return
  checkParameters(spec, catalog.parameters)
  checkMemory(spec.guest, spec.vm, spec.memoryBytes, checkModule(spec.guest, catalog.module))
}

export function checkDevices(spec: MachineSpec, disks: number, ports: number): void {
  if (disks <= 1 && ports <= 1) return
  throw new StellwerkError('bad-machine', 'a wasm guest has one disk and one network port at most', {
    where: `vm ${spec.vm}`,
    hint: 'define it with one',
  })
}

function makeMemory(spec: MachineSpec, facts: ModuleFacts): WebAssembly.Memory {
  const pages = checkMemory(spec.guest, spec.vm, spec.memoryBytes, facts)
  // As large as it may ever be: growing would be a change of the machine.
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
}

/** In pages. */
function checkMemory(guest: string, vm: string, memoryBytes: number, facts: ModuleFacts): number {
  const pages = memoryBytes / WASM_PAGE_BYTES
  const least = facts.minimumPages
  const most = Math.min(facts.maximumPages, MAX_MEMORY_BYTES / WASM_PAGE_BYTES)
  if (!Number.isInteger(pages) || pages < least || pages > most) {
    throw new StellwerkError('bad-memory-size', `${guest} cannot have ${memoryBytes} bytes of memory`, {
      where: `vm ${vm}`,
      hint: `give it a multiple of 64 KiB from ${least * WASM_PAGE_BYTES} to ${most * WASM_PAGE_BYTES} bytes`,
    })
  }
  return pages
}

function checkParameters(spec: MachineSpec, known: readonly string[]): void {
  for (const [name, value] of Object.entries(spec.parameters)) {
    const hint = known.length === 0 ? 'it takes none' : `known: ${known.join(', ')}`
    const where = `vm ${spec.vm}`
    if (!known.includes(name)) {
      throw new StellwerkError('bad-parameter', `guest ${spec.guest} has no parameter "${name}"`, { where, hint })
    }
    if (typeof value !== 'number' || !(value >= 0 && value <= PARAMETER_MAX)) {
      throw new StellwerkError('bad-parameter', `parameter "${name}" is ${JSON.stringify(value)}`, {
        where,
        hint: `give a number from 0 to ${PARAMETER_MAX}`,
      })
    }
  }
}

/** As a guest finds them. */
function encodeParameters(spec: MachineSpec): Buffer {
  const lines = Object.entries(spec.parameters).map(([name, value]) => `${name}=${plain(value)}\n`)
  const parameters = Buffer.from(lines.join(''), 'utf8')
  if (parameters.length > MAX_PARAMETER_BYTES) {
    throw new StellwerkError('bad-parameter', `${parameters.length} bytes of parameters`, {
      where: `vm ${spec.vm}`,
      hint: `at most ${MAX_PARAMETER_BYTES}`,
    })
  }
  return parameters
}

/** Writes what a guest finds in its memory when it boots. */
export function fillBootBlock(memory: Buffer, spec: MachineSpec, disk: BlockDevice | null, randomSeed: number): void {
  const parameters = encodeParameters(spec)
  memory.writeUInt32LE(MACHINE_MAGIC, HEADER.magic)
  memory.writeUInt32LE(MACHINE_VERSION, HEADER.version)
  memory.writeBigUInt64LE(BigInt(memory.length), HEADER.memoryBytes)
  memory.writeBigUInt64LE(BigInt(disk?.size ?? 0), HEADER.diskBytes)
  memory.writeUInt32LE(Math.max(512, disk?.limits.minimum ?? 512), HEADER.unitBytes)
  memory.writeUInt32LE(ledgerTag(spec.vm), HEADER.tag)
  memory.writeUInt32LE(randomSeed, HEADER.randomSeed)
  memory.writeUInt32LE(parameters.length, HEADER.parametersLength)
  parameters.copy(memory, HEADER.parameters)
}

/** Numbers without an exponent, so that a guest needs no more than digits and a point. */
function plain(value: unknown): string {
  if (typeof value === 'number') return value.toFixed(6)
  return (typeof value === 'string' ? value : JSON.stringify(value)).replaceAll('\n', ' ')
}
