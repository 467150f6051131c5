// Which self-checking guest runs: the embedded one; a Linux made from this machine's packages; or one in a boot image's file.

import { decodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { digestOf, guestOfDigest } from '@stellwerk/protocol/guest-modules/module-shelf.ts'
import type { Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import type { OptionSpec } from '../command-line/command.ts'
import { readGuestFile } from './guest-file.ts'
import { buildTiny } from './tiny.ts'

/** Which; null: a real machine's image is yet to be made. */
export interface GuestChoice {
  readonly hypervisor: 'wasm' | 'qemu'
  /** Of a boot image, absolute. */
  readonly file: string | null
}

/** As the API takes it. */
export interface LedgerGuest {
  readonly guest: string
  readonly hypervisor: 'wasm' | 'qemu'
  readonly module?: string
}

export const EMBEDDED: LedgerGuest = { guest: 'ledger', hypervisor: 'wasm' }

export const GUEST_OPTION: OptionSpec = {
  type: 'string',
  value: 'wasm|qemu|FILE',
  help: 'what its guests are: embedded ones (wasm, the default), Linux in QEMU, made from this machine’s packages (qemu) or a boot image',
}

/** Throws `unknown-guest` and `bad-guest`: a file is looked into before anything is made. */
export async function parseGuestChoice(word: string, directory: string): Promise<GuestChoice> {
  if (word === 'wasm' || word === 'qemu') return { hypervisor: word, file: null }
  const { path, bytes } = await readGuestFile(word, directory)
  if (bytes !== null) decodeBootImage(word, bytes)
  else {
    throw new StellwerkError('unknown-guest', `there is no guest "${word}" and no such file`, {
      where: '--guest',
      hint: 'say wasm, qemu, or a boot image’s file: stellwerk image build tiny makes one',
    })
  }
  return { hypervisor: 'qemu', file: path }
}

/** Throws what making the image or reading its file throws. */
export async function ledgerGuest(
  { hypervisor, file }: GuestChoice,
  processes: Pick<Processes, 'command'>,
): Promise<LedgerGuest> {
  if (hypervisor === 'wasm') return EMBEDDED
  const image = file === null ? (await buildTiny(processes)).image : (await readGuestFile(file, '/')).bytes
  if (image === null) throw new StellwerkError('bad-guest', 'the boot image is gone', { where: file ?? '' })
  return { guest: guestOfDigest(digestOf(image)), hypervisor, module: Buffer.from(image).toString('base64') }
}
