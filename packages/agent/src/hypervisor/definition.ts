// What of a VM's definition can be judged before there is a machine: by whom it is defined, and by the coordinator.

import { digestOfGuest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { MachineSpec } from './hypervisor.ts'
import { modelParameters } from './model/parameters.ts'
import { decodeBootImage, isBootImage } from './qemu/boot-image.ts'
import { firmwareOf } from './qemu/firmware.ts'
import { checkQemuMachine } from './qemu/hypervisor.ts'
import { checkOwnGuest, checkWasmDefinition } from './wasm/guest-image.ts'

/** Throws why no host could run it, as `create` would: `bad-machine`, `bad-parameter`, `bad-memory-size`, `bad-guest`. */
export function checkDefinition(spec: MachineSpec, disks: number, nics: number): void {
  switch (spec.hypervisor) {
    case 'model':
      modelParameters(spec)
      return
    case 'wasm':
      checkWasmDefinition(spec, disks, nics)
      return
    case 'qemu':
      checkQemuMachine(spec, disks, nics)
      if (digestOfGuest(spec.guest) === null && firmwareOf(spec.guest) === null) throw needsImage(spec)
  }
}

/** Throws what is wrong with the file that a VM is to run: `bad-guest`, `bad-memory-size`. */
export async function checkGuestFile(name: string, bytes: Uint8Array, spec: MachineSpec): Promise<void> {
  if (spec.hypervisor === 'qemu') {
    if (!isBootImage(bytes)) throw needsImage({ ...spec, guest: name })
    decodeBootImage(name, bytes)
    return
  }
  if (isBootImage(bytes)) {
    throw new StellwerkError('bad-guest', `${name} is a boot image, which ${spec.hypervisor} does not run`, {
      where: `vm ${spec.vm}`,
      hint: 'use --hypervisor qemu',
    })
  }
  await checkOwnGuest(name, bytes, spec.vm, spec.memoryBytes)
}

function needsImage(spec: MachineSpec): StellwerkError {
  return new StellwerkError('bad-guest', `${spec.guest} is no boot image, and a QEMU machine needs one`, {
    where: `vm ${spec.vm}`,
    hint: 'make one (stellwerk image build tiny) and name it: --guest tiny.boot; or boot what is on its disk: --guest bios',
  })
}
