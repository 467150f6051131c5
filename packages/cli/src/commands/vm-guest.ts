// What `--guest` names: a guest of the catalogue, or the file of a module or boot image, which is checked here before
// anything is made.

import { CATALOG_NAMES, catalogGuest } from '@stellwerk/agent/guests/catalog.ts'
import { checkGuestFile } from '@stellwerk/agent/hypervisor/definition.ts'
import { isBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { firmwareOf } from '@stellwerk/agent/hypervisor/qemu/firmware.ts'
import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import type { Terminal } from '../command-line/command.ts'
import { readGuestFile } from '../images/guest-file.ts'

/** Unless told otherwise. */
const MEMORY_BYTES = { wasm: 64 * MIB, model: 64 * MIB, qemu: 128 * MIB } as const
/** For what is on a disk: an operating system of some size. */
const FIRMWARE_MEMORY_BYTES = 1024 * MIB

/** As the API takes it. */
export interface NamedGuest {
  readonly guest: string
  readonly module?: string
  readonly hypervisor: Hypervisor
  readonly memoryBytes: number
}

export type Hypervisor = 'wasm' | 'model' | 'qemu'

/** What the words of `vm create` say of the machine. */
export interface NamedMachine {
  readonly vm: string
  /** Null: whichever runs the guest. */
  readonly hypervisor: Hypervisor | null
  /** Null: what the hypervisor's guests need. */
  readonly memoryBytes: number | null
  readonly parameters: { readonly [name: string]: number | string | boolean }
}

export async function guestNamed(terminal: Terminal, name: string, machine: NamedMachine): Promise<NamedGuest> {
  const firmware = firmwareOf(name)
  if (firmware !== null && (machine.hypervisor ?? 'qemu') === 'qemu') {
    return { guest: firmware, hypervisor: 'qemu', memoryBytes: machine.memoryBytes ?? FIRMWARE_MEMORY_BYTES }
  }
  const known = catalogGuest(name)
  if (known === null || machine.hypervisor === 'qemu') return ownGuest(terminal, name, machine)
  const hypervisor = machine.hypervisor ?? 'wasm'
  refuseScreen(hypervisor, machine)
  const unknown = Object.keys(machine.parameters).find(parameter => !known.parameters.includes(parameter))
  if (unknown === undefined)
    return { guest: name, hypervisor, memoryBytes: machine.memoryBytes ?? MEMORY_BYTES[hypervisor] }
  throw new StellwerkError('bad-parameter', `guest ${name} has no parameter "${unknown}"`, {
    where: '--param',
    hint: known.parameters.length === 0 ? 'it takes none' : `known: ${known.parameters.join(', ')}`,
  })
}

async function ownGuest(terminal: Terminal, name: string, machine: NamedMachine): Promise<NamedGuest> {
  const { bytes } = await readGuestFile(name, terminal.cwd)
  if (bytes === null) {
    throw new StellwerkError('unknown-guest', `there is no guest "${name}" and no such file`, {
      where: '--guest',
      hint:
        machine.hypervisor === 'qemu'
          ? 'say bios or uefi to boot what is on its disk, or name a boot image: stellwerk image build tiny makes one'
          : `known: ${CATALOG_NAMES.join(', ')}`,
    })
  }
  if (machine.hypervisor === null && !isBootImage(bytes) && !isWasmModule(bytes)) {
    throw new StellwerkError('bad-guest', 'it is neither a boot image nor a WebAssembly module', {
      where: name,
      hint: 'of a kernel and its RAM disk: stellwerk image pack; of a disk: stellwerk image import, and --guest bios or uefi',
    })
  }
  const { vm, parameters } = machine
  const hypervisor = machine.hypervisor ?? (isBootImage(bytes) ? 'qemu' : 'wasm')
  refuseScreen(hypervisor, machine)
  const memoryBytes = machine.memoryBytes ?? MEMORY_BYTES[hypervisor]
  const guest = guestOfDigest(digestOf(bytes))
  await checkGuestFile(name, bytes, { vm, hypervisor, guest, memoryBytes, parameters })
  return { guest, module: Buffer.from(bytes).toString('base64'), hypervisor, memoryBytes }
}

/** "\0asm", as the WebAssembly specification has it (5.5.16). */
const WASM_MAGIC = Buffer.from('\0asm', 'latin1')

function isWasmModule(bytes: Uint8Array): boolean {
  return WASM_MAGIC.equals(bytes.subarray(0, WASM_MAGIC.length))
}

function refuseScreen(hypervisor: Hypervisor, { parameters, vm }: NamedMachine): void {
  if (hypervisor === 'qemu' || parameters['screen'] !== true) return
  throw new StellwerkError('no-screen', `VM "${vm}" is to run on ${hypervisor}, where machines have no screens`, {
    where: '--screen',
    hint: 'real machines may have one: --guest bios, uefi or a boot image',
  })
}
