// Programs of other people that tests run against: found in the PATH, or the test is skipped with the name of the Debian
// package that has it. With STELLWERK_REQUIRE_PEERS=1 a missing one is a failure instead.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Peer {
  readonly program: string
  readonly debianPackage: string
  /** Its file, or null if this machine does not have it. */
  readonly path: string | null
  /** For a test's title: says what to install when it is skipped. */
  readonly note: string
}

export function peer(program: string, debianPackage: string): Peer {
  return found(program, debianPackage, find(program))
}

/** A file that such a package has. */
export function peerFile(path: string, debianPackage: string): Peer {
  return found(path, debianPackage, may(path, constants.R_OK) ? path : null)
}

function found(program: string, debianPackage: string, path: string | null): Peer {
  const note = path === null ? `${program} is missing: install the Debian package ${debianPackage}` : program
  if (path === null && process.env['STELLWERK_REQUIRE_PEERS'] === '1') {
    throw new Error(`${note} (STELLWERK_REQUIRE_PEERS=1 wants it)`)
  }
  return { program, debianPackage, path, note }
}

/** The peers of one test: whether to skip it, and the note for its title. */
export function peers(...wanted: readonly Peer[]): { readonly missing: boolean; readonly note: string } {
  const missing = wanted.filter(one => one.path === null)
  return { missing: missing.length > 0, note: (missing.length > 0 ? missing : wanted).map(one => one.note).join(', ') }
}

function find(program: string): string | null {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, program)
    if (may(path, constants.X_OK)) return path
  }
  return null
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error) return false
    throw error
  }
}
