// The programs of others that the bench stands beside, and the Debian packages they come in.

import { installed } from './processes.ts'

const PACKAGES = {
  fio: 'fio',
  nbdkit: 'nbdkit',
  nbdcopy: 'libnbd-bin',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  'qemu-system-x86_64': 'qemu-system-x86',
  socat: 'socat',
} as const

export type Program = keyof typeof PACKAGES

const missing = new Set<Program>()

/** Remembers what was looked for in vain. */
export function has(program: Program): boolean {
  if (installed(program)) return true
  missing.add(program)
  return false
}

/** One line for each program that is missing, with the package that has it. */
export function missingPrograms(): string[] {
  return [...missing].map(
    program => `not installed: ${program} (Debian: apt-get install ${PACKAGES[program]}); its rows are left out`,
  )
}
