// Machines that boot what is on their first disk: by BIOS (QEMU's own) or by UEFI (OVMF, of another package).

import type { CommandExit } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB } from '@stellwerk/runtime/units.ts'
import type { StartProgram } from './qemu-process.ts'

export type Firmware = 'bios' | 'uefi'
export const FIRMWARES: readonly Firmware[] = ['bios', 'uefi']

/** Where distributions have it, without Secure Boot: Debian, Fedora, openSUSE, Arch. All of the 4 MiB layout. */
const UEFI_FILES = [
  '/usr/share/OVMF/OVMF_CODE_4M.fd',
  '/usr/share/edk2/ovmf/OVMF_CODE_4M.fd',
  '/usr/share/qemu/ovmf-x86_64-4m-code.bin',
  '/usr/share/edk2/x64/OVMF_CODE.4m.fd',
]
const UEFI_HINT = 'install it: apt install ovmf (Debian), dnf install edk2-ovmf (Fedora)'
/** Flash of the 4 MiB layout for variables, of which each part stands in blocks of 4 KiB. */
const VARIABLES_BYTES = 528 * KIB
const ERASED = 0xff
/** Where the working area for writes that must not be torn begins. */
const WORKING_AT = 0x41000
// As OvmfPkg/VarStore.fdf.inc of EDK II lays them out (and its package of variables has them): the firmware volume's header,
// with the store's behind it, and the working area's.
const VOLUME_HEADER =
  '00000000000000000000000000000000' + // zero vector
  '8d2bf1ff96768b4ca9852747075b4f50' + // EFI_SYSTEM_NV_DATA_FV_GUID
  '0040080000000000' + // length
  '5f465648fffe0400' + // _FVH, attributes
  '4800afb800000002' + // its length, checksum, revision
  '84000000001000000000000000000000' // 132 blocks of 4096 bytes
const STORE_HEADER =
  '782cf3aa7b949a43a1802e144ec37792' + // EFI_AUTHENTICATED_VARIABLE_GUID
  'b8ff03005afe000000000000' // length, formatted, healthy
const WORKING_HEADER =
  '2b29589e687c7d49a0ce6500fd9f1b95' + // EDKII_WORKING_BLOCK_SIGNATURE_GUID
  '2caf2c64feffffffe00f000000000000' // CRC, valid, length

/** What a machine's `guest` says, if it names no image. */
export function firmwareOf(guest: string): Firmware | null {
  return FIRMWARES.find(name => name === guest) ?? null
}

/** The path of this host's UEFI. Rejects with `no-firmware`. */
export async function findUefi(start: StartProgram): Promise<string> {
  // Without the first option one that is missing would be told of on the way.
  const listing = await start(null, { program: 'find', name: 'find-uefi', args: [...UEFI_FILES, '-maxdepth', '0'] })
  const { output } = await new Promise<CommandExit>(resolve => listing.onExit(resolve))
  const there = new Set(output.split('\n'))
  const found = UEFI_FILES.find(path => there.has(path))
  if (found !== undefined) return found
  throw new StellwerkError('no-firmware', 'UEFI for QEMU is not installed', {
    where: UEFI_FILES[0] ?? '',
    hint: UEFI_HINT,
  })
}

/**
 * A store without variables. What a guest puts there lives as long as its machine, moves with it, and is gone with it: without
 * a boot entry the firmware boots `\\EFI\\BOOT\\BOOTX64.EFI`.
 */
export function emptyVariables(): Uint8Array {
  const flash = Buffer.alloc(VARIABLES_BYTES, ERASED)
  flash.set(Buffer.from(VOLUME_HEADER + STORE_HEADER, 'hex'))
  flash.set(Buffer.from(WORKING_HEADER, 'hex'), WORKING_AT)
  return flash
}
