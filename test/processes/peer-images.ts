// Images with file systems that tools of other people make, and judge when they have been somewhere: what came back is the
// same byte by byte, and sound. Not a test itself.

import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { peer } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { expect } from 'vitest'
import type { Stellwerk } from './stellwerk.ts'

export const IMAGE_BYTES = 48 * MIB
const LARGE_FILE_BYTES = 8 * MIB
const SMALL_FILES = 100

const mkfsExt4 = peer('mkfs.ext4', 'e2fsprogs')
const e2fsck = peer('e2fsck', 'e2fsprogs')
const mkfsXfs = peer('mkfs.xfs', 'xfsprogs')
const xfsRepair = peer('xfs_repair', 'xfsprogs')
const qemuImg = peer('qemu-img', 'qemu-utils')
const nbdcopy = peer('nbdcopy', 'libnbd-bin')

export const IMAGE_PEERS = [mkfsExt4, e2fsck, mkfsXfs, xfsRepair, qemuImg, nbdcopy]
export const FILE_SYSTEMS = ['ext4', 'xfs'] as const
export type FileSystem = (typeof FILE_SYSTEMS)[number]

/** A new one of each, `ext4.img` and `xfs.img`, with files that no other image has. */
export async function makeImages(stellwerk: Stellwerk): Promise<void> {
  const content = join(stellwerk.directory, 'content')
  rmSync(content, { recursive: true, force: true })
  mkdirSync(content)
  writeFileSync(join(content, 'large'), randomBytes(LARGE_FILE_BYTES))
  for (let i = 0; i < SMALL_FILES; i += 1) writeFileSync(join(content, `small-${i}`), randomBytes(37 * i))
  for (const system of FILE_SYSTEMS) {
    const image = join(stellwerk.directory, `${system}.img`)
    rmSync(image, { force: true })
    writeFileSync(image, '')
    truncateSync(image, IMAGE_BYTES)
  }
  await succeeds(stellwerk, 'mkfs.ext4', '-q', '-F', '-d', 'content', 'ext4.img')
  const entries = readdirSync(content).map(name => `${name} ---644 0 0 ${join(content, name)}`)
  writeFileSync(join(stellwerk.directory, 'prototype'), ['none', '0 0', 'd--755 0 0', ...entries, '$', ''].join('\n'))
  // Unsupported: XFS of today wants 300 MiB at least.
  await succeeds(stellwerk, 'mkfs.xfs', '-q', '--unsupported', '-p', 'prototype', 'xfs.img')
}

/** What is served at `uri` is that image, and its file system is whole. */
export async function checkImage(stellwerk: Stellwerk, system: FileSystem, image: string, uri: string): Promise<void> {
  await same(stellwerk, image, uri)
  const back = `${system}.back`
  rmSync(join(stellwerk.directory, back), { force: true })
  await succeeds(stellwerk, 'nbdcopy', uri, back)
  if (system === 'ext4') await succeeds(stellwerk, 'e2fsck', '-f', '-n', back)
  else await succeeds(stellwerk, 'xfs_repair', '-n', '-f', back)
}

export async function same(stellwerk: Stellwerk, image: string, uri: string): Promise<void> {
  const compare = await stellwerk.tool('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri)
  expect(compare).toEqual({ code: 0, lines: ['Images are identical.'] })
}

async function succeeds(stellwerk: Stellwerk, program: string, ...words: string[]): Promise<void> {
  const { code, lines } = await stellwerk.tool(program, ...words)
  expect(code, `${program}: ${lines.join('\n')}`).toBe(0)
}
