// Guest modules as files of a process's own directory, each named by its digest. What is read is what the name says, or it is
// not there: a file that has gone bad is taken away.

import { createHash } from 'node:crypto'
import type { Environment } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

/** A kernel with its initial RAM disk, too. */
export const MAX_MODULE_BYTES = 64 * MIB

const DIRECTORY = 'guests'
const PREFIX = 'sha256:'
const DIGEST = /^[0-9a-f]{64}$/

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** What a VM's definition says of a module that is named by its digest. */
export function guestOfDigest(digest: string): string {
  return `${PREFIX}${digest}`
}

/** Null: the guest is named otherwise. */
export function digestOfGuest(guest: string): string | null {
  const digest = guest.startsWith(PREFIX) ? guest.slice(PREFIX.length) : ''
  return DIGEST.test(digest) ? digest : null
}

export class ModuleShelf {
  readonly #env: Pick<Environment, 'files' | 'log'>
  /** Checked in this run of the process. */
  readonly #whole = new Map<string, Uint8Array | null>()
  #names: Set<string> | null = null

  constructor(env: Pick<Environment, 'files' | 'log'>) {
    this.#env = env
  }

  async names(): Promise<string[]> {
    this.#names ??= new Set((await this.#env.files.list(DIRECTORY)).filter(name => DIGEST.test(name)))
    return [...this.#names].sort()
  }

  /** The module, checked; null: it is not here. */
  async get(digest: string): Promise<Uint8Array | null> {
    const { files, log } = this.#env
    const bytes = await files.read(pathOf(digest))
    if (bytes === null || digestOf(bytes) === digest) return bytes
    log.warn(
      { digest },
      'a guest module on disk is not what its name says: it is removed, and fetched anew when needed',
    )
    await this.remove(digest)
    return null
  }

  /** Durable when it resolves. */
  async put(bytes: Uint8Array): Promise<string> {
    if (bytes.length > MAX_MODULE_BYTES) {
      throw new StellwerkError('bad-guest', `a guest module of ${bytes.length} bytes is too large`, {
        hint: `at most ${MAX_MODULE_BYTES}`,
      })
    }
    const digest = digestOf(bytes)
    await this.names()
    await this.#env.files.makeDirectory(DIRECTORY)
    await this.#env.files.writeAtomic(pathOf(digest), bytes)
    this.#names?.add(digest)
    return digest
  }

  async remove(digest: string): Promise<void> {
    this.#whole.delete(digest)
    await this.#env.files.remove(pathOf(digest))
    this.#names?.delete(digest)
  }

  /** A piece for somebody who fetches it. Rejects with `guest-missing`. */
  async piece(digest: string, offset: number, length: number): Promise<{ sizeBytes: number; data: Uint8Array }> {
    let bytes = this.#whole.get(digest) ?? null
    if (bytes === null) {
      bytes = await this.get(digest)
      if (bytes === null) throw missingGuest(digest, 'it is not here')
      // One at a time: fetches come in a burst after a start, and then no more.
      this.#whole.clear()
      this.#whole.set(digest, bytes)
    }
    return { sizeBytes: bytes.length, data: bytes.subarray(offset, offset + length) }
  }

  /** Lets go of what `piece` keeps in memory. */
  forget(): void {
    this.#whole.clear()
  }
}

export function pathOf(digest: string): string {
  return `${DIRECTORY}/${digest}`
}

export function missingGuest(digest: string, why: string): StellwerkError {
  return new StellwerkError('guest-missing', `guest module ${guestOfDigest(digest).slice(0, 19)}…: ${why}`, {
    retryable: true,
    hint: 'define the VM again from the module’s file',
  })
}
