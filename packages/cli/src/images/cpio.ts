// The archive that Linux unpacks as its initial RAM disk: cpio in the `newc` format, and nothing that changes from one
// making to the next. Source: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's tree.

export interface ArchiveEntry {
  /** Without a leading slash. */
  readonly path: string
  /** Null: a directory. */
  readonly data: Uint8Array | null
  readonly executable?: boolean
}

const MAGIC = '070701'
const DIRECTORY_MODE = 0o40755
const FILE_MODE = 0o100644
const PROGRAM_MODE = 0o100755
const ALIGNMENT = 4

/** Directories must come before what is in them. */
export function cpioArchive(entries: readonly ArchiveEntry[]): Buffer {
  const parts: Buffer[] = []
  entries.forEach(({ path, data, executable }, index) => {
    const mode = data === null ? DIRECTORY_MODE : executable === true ? PROGRAM_MODE : FILE_MODE
    parts.push(...record(path, data ?? new Uint8Array(0), mode, index + 1))
  })
  parts.push(...record('TRAILER!!!', new Uint8Array(0), 0, 0))
  return Buffer.concat(parts)
}

function record(path: string, data: Uint8Array, mode: number, inode: number): Buffer[] {
  const name = Buffer.from(`${path}\0`, 'utf8')
  // inode, mode, uid, gid, links, mtime, size, device (2), its own device (2), length of the name, no checksum
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0]
  const head = Buffer.from(MAGIC + fields.map(field => field.toString(16).padStart(8, '0')).join(''), 'latin1')
  return [head, name, padding(head.length + name.length), Buffer.from(data), padding(data.length)]
}

function padding(length: number): Buffer {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)
}
