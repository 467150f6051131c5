// The tiny guest with a page cache: besides what it boots with, its memory holds programs and text of this machine, as a server's
// does that has been up for a while. What there is differs from machine to machine, and is the same for both sides of a bench.

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBootImage, encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import type { Processes } from '@stellwerk/runtime/environment.ts'
import { type ArchiveEntry, cpioArchive } from 'stellwerk/images/cpio.ts'
import { buildTiny } from 'stellwerk/images/tiny.ts'

const MIB = 1024 * 1024
/** Programs and libraries, and text, by where Debian has them. */
const CONTENT = [
  { name: 'programs', from: ['/usr/bin', '/usr/lib/x86_64-linux-gnu'], bytes: 96 * MIB },
  { name: 'text', from: ['/usr/share/perl', '/usr/share/doc', '/usr/lib/python3', '/usr/include'], bytes: 48 * MIB },
] as const
/** A single one must not be all there is. */
const FILE_BYTES_MAX = 8 * MIB

/** Writes the image; gives how many bytes of what it holds besides. */
export async function writeGuestImage(processes: Pick<Processes, 'command'>, path: string): Promise<number> {
  const { image } = await buildTiny(processes)
  const { kernel, initrd, commandLine } = decodeBootImage(path, image)
  const entries: ArchiveEntry[] = [{ path: 'cache', data: null }]
  let bytes = 0
  for (const { name, from, bytes: most } of CONTENT) {
    let left: number = most
    for (const file of from.flatMap(filesIn)) {
      const data = readFileSync(file)
      if (data.length > Math.min(left, FILE_BYTES_MAX)) continue
      entries.push({ path: `cache/${name}-${entries.length}`, data })
      left -= data.length
      bytes += data.length
    }
  }
  // The kernel unpacks one archive after the other, compressed or not, each at a multiple of four.
  const padding = Buffer.alloc((4 - (initrd.length % 4)) % 4)
  writeFileSync(
    path,
    encodeBootImage({ kernel, initrd: Buffer.concat([initrd, padding, cpioArchive(entries)]), commandLine }),
  )
  return bytes
}

/** In the order of their names, deep down; links are not followed. */
function filesIn(directory: string): string[] {
  return entriesOf(directory).flatMap(entry => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return filesIn(path)
    return entry.isFile() && statSync(path).size > 0 ? [path] : []
  })
}

function entriesOf(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
