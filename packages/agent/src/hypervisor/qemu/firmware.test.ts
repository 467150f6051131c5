// Firmware: which there is, and that its empty store of variables is the one that comes with it.

import { readFileSync } from 'node:fs'
import type { CommandExit, CommandSpec } from '@stellwerk/runtime/environment.ts'
import { peerFile, peers } from '@stellwerk/runtime/testing/peers.ts'
import { expect, it } from 'vitest'
import { emptyVariables, findUefi, firmwareOf } from './firmware.ts'

const VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.fd'
const ovmf = peers(peerFile(VARIABLES, 'ovmf'))

const starter = (output: string) => async (_vm: string | null, _spec: CommandSpec) => ({
  onExit: (f: (exit: CommandExit) => void) => f({ code: 1, signal: null, output, errors: '' }),
  kill: () => undefined,
})

it('bios and uefi are firmware, nothing else is', () => {
  expect(['bios', 'uefi', 'ledger', 'BIOS', ''].map(firmwareOf)).toEqual(['bios', 'uefi', null, null, null])
})

it('the first UEFI that a distribution has is taken, and where there is none it is said what to install', async () => {
  const [fedora, debian] = ['/usr/share/edk2/ovmf/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE_4M.fd']
  expect(await findUefi(starter(`${fedora}\n${debian}\n`))).toBe(debian)
  expect(await findUefi(starter(`${fedora}\n`))).toBe(fedora)
  await expect(findUefi(starter(''))).rejects.toMatchObject({
    code: 'no-firmware',
    hint: expect.stringMatching(/ovmf/),
  })
})

it.skipIf(ovmf.missing)(`an empty store is what ${ovmf.note} has`, () => {
  expect(Buffer.from(emptyVariables()).equals(readFileSync(VARIABLES))).toBe(true)
})
