// What QEMU can do on this host, found by trying. On some machines /dev/kvm opens and guests hang, so a guest of a few
// instructions is run, on the machine that VMs get: 64 KiB of ROM whose reset vector tells QEMU's debug exit device to end.

import type { CommandExit, CommandSpec, Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Accelerator, CPU_MODEL, MACHINE_TYPE } from './command-line.ts'
import { lastWords, MACHINE_USER, MACHINES, type StartProgram } from './qemu-process.ts'

export const QEMU_PROGRAM = 'qemu-system-x86_64'
export const QEMU_HINT = 'install it: apt install qemu-system-x86 (Debian), dnf install qemu-system-x86-core (Fedora)'
const OLDEST = { major: 7, minor: 2 }

const PROBE_DIRECTORY = `${MACHINES}/probe`
const ROM_FILE = 'rom'
const ROM_BYTES = 64 * 1024
/** From the end: where a processor begins. */
const RESET_VECTOR = 16
/** mov dx, 0xf4 · mov al, 0x10 · out dx, al · hlt */
const CODE = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4]
/** isa-debug-exit ends QEMU with twice the value plus one. */
const STATUS = 0x10 * 2 + 1
/** A KVM that works needs a fraction of it. */
const TRY_MS = 5_000

export interface QemuFacts {
  readonly version: string
  readonly accelerator: Accelerator
}

/** Throws `no-program`, `old-program` or `qemu-failed`, each with what to do. */
export async function probeQemu(env: Environment, start: StartProgram): Promise<QemuFacts> {
  const version = await qemuVersion(env, start)
  await env.files.makeDirectory(PROBE_DIRECTORY)
  const rom = Buffer.alloc(ROM_BYTES)
  rom.set(CODE, ROM_BYTES - RESET_VECTOR)
  await env.files.writeAtomic(`${PROBE_DIRECTORY}/${ROM_FILE}`, rom)
  let why: string | null
  try {
    const whyNoKvm = await whyNot(env, start, 'kvm')
    if (whyNoKvm === null) return { version, accelerator: 'kvm' }
    why = await whyNot(env, start, 'tcg')
    if (why === null) {
      const hint = 'where /dev/kvm is not for the user of the machines: chgrp kvm /dev/kvm; chmod 660 /dev/kvm'
      env.log.warn({ why: whyNoKvm }, `machines run in software, many times slower than by KVM; ${hint}`)
      return { version, accelerator: 'tcg' }
    }
  } finally {
    await env.files.remove(`${PROBE_DIRECTORY}/${ROM_FILE}`)
  }
  throw new StellwerkError('qemu-failed', `QEMU runs no guest here, neither by KVM nor by TCG: ${why}`, {
    where: QEMU_PROGRAM,
    hint: `try it: ${QEMU_PROGRAM} -accel tcg -display none`,
  })
}

async function qemuVersion(env: Environment, start: StartProgram): Promise<string> {
  const { output, code } = await run(env, start, { args: ['--version'] }).catch(error => {
    if (errorCode(error) !== 'no-program') throw error
    throw new StellwerkError('no-program', 'QEMU is not installed', { where: QEMU_PROGRAM, hint: QEMU_HINT })
  })
  const found = /version (\d+)\.(\d+)(\.\d+)?/.exec(output)
  if (code !== 0 || found === null) {
    throw new StellwerkError('qemu-failed', 'QEMU does not tell its version', { where: QEMU_PROGRAM, hint: QEMU_HINT })
  }
  const [major, minor] = [Number(found[1]), Number(found[2])]
  if (major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor))
    return found[0].slice('version '.length)
  throw new StellwerkError(
    'old-program',
    `QEMU ${major}.${minor} is here, and ${OLDEST.major}.${OLDEST.minor} is needed`,
    {
      where: QEMU_PROGRAM,
      hint: QEMU_HINT,
    },
  )
}

/** Null: it executes a guest. */
async function whyNot(env: Environment, start: StartProgram, accelerator: Accelerator): Promise<string | null> {
  const args = [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', MACHINE_TYPE, '-m', '16M'],
    ...['-cpu', CPU_MODEL, '-accel', accelerator],
    ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04', '-bios', ROM_FILE],
  ]
  const directory = env.files.locate(PROBE_DIRECTORY)
  // As machines run, whose user may be refused what this one is given.
  const exit = await run(env, start, { args, directory, ownUser: MACHINE_USER })
  return exit.code === STATUS ? null : lastWords(exit)
}

type How = Pick<CommandSpec, 'args' | 'directory' | 'ownUser'>

async function run(env: Environment, start: StartProgram, how: How): Promise<CommandExit> {
  const process = await start(null, { program: QEMU_PROGRAM, name: 'qemu-probe', ...how })
  const timer = env.timers.after(TRY_MS, () => process.kill())
  return new Promise(resolve =>
    process.onExit(exit => {
      timer.cancel()
      resolve(exit)
    }),
  )
}
