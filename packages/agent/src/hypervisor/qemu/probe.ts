// What QEMU can do on this host, found by trying. On some machines /dev/kvm opens and guests hang, so a guest of a few
// instructions is run, on the machine that VMs get: 64 KiB of ROM whose reset vector tells QEMU's debug exit device to end.

import { type Cpu, HIGHEST_LEVEL } from '@stellwerk/protocol/cpu-levels.ts'
import type { CommandExit, CommandSpec, Environment } from '@stellwerk/runtime/environment.ts'
import { errorCode, errorMessage, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type Accelerator, cpuModel, MACHINE_TYPE } from './command-line.ts'
import { lastWords, MACHINE_USER, MACHINES, type StartProgram } from './qemu-process.ts'

export const QEMU_PROGRAM = 'qemu-system-x86_64'
export const QEMU_HINT = 'install it: apt install qemu-system-x86 (Debian), dnf install qemu-system-x86-core (Fedora)'
const OLDEST = { major: 7, minor: 2 }

const PROBE_DIRECTORY = `${MACHINES}/probe`
const ROM_FILE = 'rom'
const ROM_BYTES = 64 * 1024
/** From the end: where a processor begins. */
const RESET_VECTOR = 16
/** xor eax, eax · cpuid · mov al, bl · mov dx, 0xf4 · out dx, al · hlt: the first letter of the processor's maker is told. */
const CODE = [0x66, 0x31, 0xc0, 0x0f, 0xa2, 0x88, 0xd8, 0xba, 0xf4, 0x00, 0xee, 0xf4]
/** isa-debug-exit ends QEMU with twice the value plus one. */
const statusOf = (letter: string): number => (letter.charCodeAt(0) * 2 + 1) % 256
/** By status: AuthenticAMD, GenuineIntel, HygonGenuine, CentaurHauls and Shanghai (which begins with blanks). */
const MAKERS = new Map([
  [statusOf('A'), 'AMD'],
  [statusOf('G'), 'Intel'],
  [statusOf('H'), 'Hygon'],
  [statusOf('C'), 'Centaur'],
  [statusOf(' '), 'Zhaoxin'],
])
/** By choice: QEMU's TCG has the vectors of the levels above only since 7.2, and computes them in software all the same. */
const TCG_LEVEL_MAX = 2
/** A KVM that works needs a fraction of it. */
const TRY_MS = 5_000

export interface QemuFacts {
  readonly version: string
  readonly accelerator: Accelerator
  /** The highest that machines can have here. */
  readonly cpu: Cpu
}

/** Throws `no-program`, `old-program` or `qemu-failed`, each with what to do. */
export async function probeQemu(env: Environment, start: StartProgram): Promise<QemuFacts> {
  const version = await qemuVersion(env, start)
  await env.files.makeDirectory(PROBE_DIRECTORY)
  const rom = Buffer.alloc(ROM_BYTES)
  rom.set(CODE, ROM_BYTES - RESET_VECTOR)
  await env.files.writeAtomic(`${PROBE_DIRECTORY}/${ROM_FILE}`, rom)
  let why: string
  try {
    const kvm = await trial(env, start, 'kvm', 1)
    if (kvm.maker !== null)
      return { version, accelerator: 'kvm', cpu: await highest(env, start, 'kvm', `KVM ${kvm.maker}`) }
    const tcg = await trial(env, start, 'tcg', 1)
    if (tcg.maker !== null) {
      const hint = 'where /dev/kvm is not for the user of the machines: chgrp kvm /dev/kvm; chmod 660 /dev/kvm'
      env.log.warn({ why: kvm.why }, `machines run in software, many times slower than by KVM; ${hint}`)
      return { version, accelerator: 'tcg', cpu: await highest(env, start, 'tcg', 'TCG') }
    }
    why = tcg.why
  } finally {
    await env.files.remove(`${PROBE_DIRECTORY}/${ROM_FILE}`)
  }
  throw new StellwerkError('qemu-failed', `QEMU runs no guest here, neither by KVM nor by TCG: ${why}`, {
    where: QEMU_PROGRAM,
    hint: `try it: ${QEMU_PROGRAM} -accel tcg -display none, or ${QEMU_HINT}`,
  })
}

async function qemuVersion(env: Environment, start: StartProgram): Promise<string> {
  const { output, code } = await run(env, start, { args: ['--version'] }).catch(error => {
    // It may be another one that is missing: whoever starts it needs util-linux.
    if (errorCode(error) !== 'no-program' || !errorMessage(error).includes(QEMU_PROGRAM)) throw error
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

/** Found by trying each level that is above the first. */
async function highest(env: Environment, start: StartProgram, accelerator: Accelerator, family: string): Promise<Cpu> {
  const most = accelerator === 'tcg' ? TCG_LEVEL_MAX : HIGHEST_LEVEL
  let level = 1
  while (level < most && (await trial(env, start, accelerator, level + 1)).maker !== null) level += 1
  return { family, level }
}

type Trial = { readonly maker: string; readonly why: null } | { readonly maker: null; readonly why: string }

/** Whether it executes a guest, and whose its processor says it is. */
async function trial(env: Environment, start: StartProgram, accelerator: Accelerator, level: number): Promise<Trial> {
  const args = [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', MACHINE_TYPE, '-m', '16M'],
    ...['-cpu', cpuModel(level), '-accel', accelerator],
    ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04', '-bios', ROM_FILE],
  ]
  const directory = env.files.locate(PROBE_DIRECTORY)
  // As machines run, whose user may be refused what this one is given.
  const exit = await run(env, start, { args, directory, ownUser: MACHINE_USER })
  const maker = MAKERS.get(exit.code ?? -1)
  if (maker !== undefined) return { maker, why: null }
  return { maker: null, why: exit.hung ? `its guest hung: it was ended after ${TRY_MS} ms` : lastWords(exit) }
}

type How = Pick<CommandSpec, 'args' | 'directory' | 'ownUser'>

/** `hung`: it did not end by itself in time. */
async function run(env: Environment, start: StartProgram, how: How): Promise<CommandExit & { hung: boolean }> {
  const process = await start(null, { program: QEMU_PROGRAM, name: 'qemu-probe', ...how })
  let hung = false
  const timer = env.timers.after(TRY_MS, () => {
    hung = true
    process.kill()
  })
  return new Promise(resolve =>
    process.onExit(exit => {
      timer.cancel()
      resolve({ ...exit, hung })
    }),
  )
}
