// An exported disk with an ext4 on it, mounted on this machine: nbdfuse shows the export as a file, and a loop device makes a
// block device of that. For root. Not a test itself.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { peer } from '@stellwerk/runtime/testing/peers.ts'
import { expect } from 'vitest'
import type { Running, Stellwerk } from './stellwerk.ts'

export const MOUNT_PEERS = [
  peer('nbdfuse', 'libnbd-bin'),
  peer('losetup', 'mount'),
  peer('mkfs.ext4', 'e2fsprogs'),
  peer('e2fsck', 'e2fsprogs'),
]

/** A loop device’s name is free again a moment after it was let go of. */
const ENOUGH_TRIES = 50

export class MountedDisk {
  /** Where its files are while it is mounted. */
  readonly directory: string
  readonly #stellwerk: Stellwerk
  readonly #fuse: string
  #nbdfuse: Running | null = null
  #device: string | null = null
  #isMounted = false

  constructor(stellwerk: Stellwerk) {
    this.#stellwerk = stellwerk
    this.directory = join(stellwerk.directory, 'mnt')
    this.#fuse = join(stellwerk.directory, 'fuse')
    mkdirSync(this.directory)
    mkdirSync(this.#fuse)
  }

  /** Makes a block device of the export; no file system is looked at yet. */
  async attach(uri: string): Promise<void> {
    const file = join(this.#fuse, 'disk')
    const nbdfuse = this.#stellwerk.startTool('nbdfuse', file, uri)
    this.#nbdfuse = nbdfuse
    while (!existsSync(file)) {
      if (nbdfuse.process.exitCode !== null) throw new Error(`nbdfuse has ended: ${nbdfuse.lines.join('\n')}`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    const lines = await this.#succeeds('losetup', '--find', '--show', file)
    this.#device = lines[0] ?? null
  }

  async format(): Promise<void> {
    await this.#succeeds('mkfs.ext4', '-q', this.#block())
  }

  /** Replays the file system's journal if whoever had it last did not unmount it. */
  async mount(): Promise<void> {
    await this.#succeeds('mount', '-o', 'errors=remount-ro', this.#block(), this.directory)
    this.#isMounted = true
  }

  /** The errors that ext4 itself has noted since the file system was made. */
  errors(): number {
    return Number(readFileSync(join('/sys/fs/ext4', basename(this.#block()), 'errors_count'), 'utf8'))
  }

  /** What is mounted: sound, as its own checker says, which changes nothing. */
  async unmountAndCheck(): Promise<void> {
    await this.#unmount()
    const { code, lines } = await this.#stellwerk.tool('e2fsck', '-f', '-n', this.#block())
    expect(code, lines.join('\n')).toBe(0)
  }

  async detach(): Promise<void> {
    await this.#unmount()
    if (this.#device !== null) await this.#persistently('losetup', '--detach', this.#device)
    this.#device = null
    if (this.#nbdfuse === null) return
    if (isMountPoint(this.#fuse)) await this.#persistently('umount', this.#fuse)
    await this.#nbdfuse.ended
    this.#nbdfuse = null
  }

  /** Its export is gone, or all was lost: whatever still waits for it gets an error. Nothing of it may be in use any more. */
  async abandon(): Promise<void> {
    this.disconnect()
    await this.detach()
  }

  /** As a machine that loses its power, for what is on it: nothing more is written, and who waits is told so. */
  disconnect(): void {
    this.#nbdfuse?.process.kill('SIGKILL')
  }

  async #unmount(): Promise<void> {
    if (this.#isMounted) await this.#persistently('umount', this.directory)
    this.#isMounted = false
  }

  #block(): string {
    if (this.#device === null) throw new Error('no disk is attached')
    return this.#device
  }

  /** What was just ended may keep it busy for a moment. */
  async #persistently(program: string, ...words: string[]): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      const { code, lines } = await this.#stellwerk.tool(program, ...words)
      if (code === 0) return
      if (tries === ENOUGH_TRIES) throw new Error(`${program} ${words.join(' ')}: ${lines.join('\n')}`)
      await new Promise(resolve => setTimeout(resolve, 200))
    }
  }

  async #succeeds(program: string, ...words: string[]): Promise<readonly string[]> {
    const { code, lines } = await this.#stellwerk.tool(program, ...words)
    expect(code, `${program}: ${lines.join('\n')}`).toBe(0)
    return lines
  }
}

function isMountPoint(directory: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8').includes(` ${directory} `)
}
