// The tiny Linux guest for tests with a real QEMU: made once from this machine's packages and kept among the temporary files
// under the digest of what it is made by.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Processes } from '@stellwerk/runtime/environment.ts'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { addedFiles } from 'stellwerk/images/added-files.ts'
import { BUSYBOX_PACKAGE } from 'stellwerk/images/debian-busybox.ts'
import { buildTiny, CLOUD_KERNEL, type TinyKernel } from 'stellwerk/images/tiny.ts'

/** What the tests in this folder need. */
const installed = peers(peer('qemu-system-x86_64', 'qemu-system-x86'), peer('apt-get', 'apt'))
const unknown = [CLOUD_KERNEL.package, BUSYBOX_PACKAGE].find(name => !aptKnows(name))
export const qemu = installed.missing || unknown === undefined ? installed : withoutPackage(unknown)

function aptKnows(name: string): boolean {
  return spawnSync('apt-cache', ['show', name], { stdio: 'ignore' }).status === 0
}

function withoutPackage(name: string): typeof installed {
  const note = `no tiny guest: apt does not know ${name} (run: apt update)`
  if (process.env['STELLWERK_REQUIRE_PEERS'] === '1') throw new Error(note)
  return { missing: true, note }
}

const MAKERS = [
  '../../packages/agent/src/guests/linux/ledger.elf',
  '../../packages/cli/src/images/tiny.ts',
  '../../packages/cli/src/images/added-files.ts',
  '../../packages/cli/src/images/debian-busybox.ts',
  '../../packages/cli/src/images/cpio.ts',
  '../../packages/agent/src/hypervisor/qemu/boot-image.ts',
]

/** A file that has the image; `added`: programs of this machine that are in it, too. A kernel that apt does not know is refused. */
export async function tinyImageFile(
  processes: Pick<Processes, 'command'>,
  added: readonly string[] = [],
  which: TinyKernel = CLOUD_KERNEL,
): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(which))
  for (const maker of MAKERS) hash.update(readFileSync(new URL(maker, import.meta.url)))
  const files = await addedFiles(processes, added, '/')
  for (const { path, data } of files) hash.update(`\0${path}\0`).update(data ?? '')
  const path = join(tmpdir(), `stellwerk-tiny-${hash.digest('hex').slice(0, 16)}.boot`)
  if (existsSync(path)) return path
  const { image } = await buildTiny(processes, files, which)
  writeFileSync(`${path}.${process.pid}`, image)
  renameSync(`${path}.${process.pid}`, path)
  return path
}
