// Compiles the Linux guest: src/guests/linux/ledger.c into ledger.elf, a static program without a C library, and writes down
// of which sources and by which compiler it was made, so that a test can tell whether it is still theirs. Needs gcc for
// x86-64. Run: node packages/agent/tools/build-linux-guest.ts

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const directory = fileURLToPath(new URL('../src/guests/linux/', import.meta.url))
const SOURCES = ['ledger.c', 'network.h', 'programs.h', 'boot.h', 'system.h'] as const
const FLAGS = [
  ...['-O2', '-static', '-nostdlib', '-ffreestanding', '-fno-stack-protector', '-fno-tree-loop-distribute-patterns'],
  ...['-fno-pie', '-no-pie', '-fcf-protection=none', '-fno-asynchronous-unwind-tables'],
  ...['-Wall', '-Wextra', '-Werror', '-Wno-unused-function', '-Wl,--build-id=none', '-s'],
] as const

export interface Origin {
  /** SHA-256 of the sources, one behind the other. */
  readonly sources: string
  readonly compiler: string
}

export function compilerOf(): string | null {
  try {
    return execFileSync('gcc', ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? null
  } catch {
    return null
  }
}

export function digestOfSources(): string {
  const hash = createHash('sha256')
  for (const name of SOURCES) hash.update(readFileSync(`${directory}${name}`))
  return hash.digest('hex')
}

export function compileLinuxGuest(into: string): void {
  execFileSync('gcc', [...FLAGS, '-o', into, 'ledger.c'], { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  compileLinuxGuest(`${directory}ledger.elf`)
  const origin: Origin = { sources: digestOfSources(), compiler: compilerOf() ?? '' }
  writeFileSync(`${directory}ledger.elf.json`, `${JSON.stringify(origin, null, 2)}\n`)
}
