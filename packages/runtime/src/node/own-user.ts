// A program run as a user of its own: where this process is root, it gets a user id, and a group of the same number, that nobody else
// has, with no name and no privilege but those it is left; and its working directory with all that is in it is that user's. Where
// that can't be done it is the user of this process.

import { chmodSync, chownSync, lchownSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { chmod, lchown, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { CommandSpec, Logger } from '../environment.ts'
import { errorCode } from '../errors.ts'

/**
 * Between what others give out: systemd's containers end below (systemd.io/UIDS-GIDS), sssd's default ends at 2,000,200,000, and from
 * 2^31 on numbers are taken for negative here and there.
 */
const FIRST_UID = 2_000_300_000
const UIDS = 147_000_000

/** Numbers of capabilities(7) that it takes to give a directory away and still work in it, to become that user, and to kill it. */
const NEEDED = { chown: 0, dac_override: 1, fowner: 3, kill: 5, setgid: 6, setuid: 7, setpcap: 8 } as const
const LEFT: { readonly [name in Capability]: number } = { net_bind_service: 10 }
/** Of a file system that knows no owners, or does not let this root set them. */
const NO_OWNERS = new Set(['EPERM', 'EINVAL', 'ENOTSUP', 'EROFS'])

type Wanted = NonNullable<CommandSpec['ownUser']>
type Capability = Wanted['capabilities'][number]

/** The words for setpriv(1) with which a program becomes the user whose the directory is now; none where that can't be done. */
export function ownUser(directory: string, wanted: Wanted, log: Logger): string[] {
  const whyNot = whyNoOwnUser(wanted.capabilities)
  if (whyNot !== null) {
    if (process.getuid?.() === 0) log.warn({ directory }, `a program runs as this root itself: ${whyNot}`)
    return []
  }
  const uid = uidOf(directory)
  try {
    chmodSync(directory, 0o700)
    chownSync(directory, uid, uid)
  } catch (error) {
    const code = errorCode(error)
    if (!NO_OWNERS.has(code)) throw error
    log.warn({ directory, code }, 'a program runs as this root itself: its directory can be given to no other user')
    return []
  }
  for (const name of readdirSync(directory)) lchownSync(join(directory, name), uid, uid)
  const group = wanted.groupOf === undefined ? null : groupOf(wanted.groupOf)
  const left = ['-all', ...wanted.capabilities.map(name => `+${name}`)].join()
  return [
    ...['--reuid', String(uid), '--regid', String(uid)],
    ...(group === null ? ['--clear-groups'] : ['--groups', String(group)]),
    ...['--no-new-privs', `--inh-caps=${left}`, `--ambient-caps=${left}`, `--bounding-set=${left}`],
  ]
}

/** Null: this process may run programs as users of their own. */
export function whyNoOwnUser(capabilities: readonly Capability[] = []): string | null {
  if (process.getuid?.() !== 0) return 'it is not root'
  const has = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`)
  const needed = [...Object.entries(NEEDED), ...capabilities.map(name => [name, LEFT[name]] as const)]
  const missing = needed.filter(([, bit]) => (has & (1n << BigInt(bit))) === 0n).map(([name]) => name)
  if (missing.length > 0) return `it has not the capabilities ${missing.join(', ')}`
  return ['uid_map', 'gid_map'].every(isMapped) ? null : 'its user namespace has no such users'
}

/** See `Files.handOver`. */
export async function handOver(path: string): Promise<void> {
  const { gid } = await stat(dirname(path))
  // Never what a link leads to.
  if (isOwn(gid)) await lchown(path, gid, gid)
}

/** See `Files.seal`. */
export async function seal(directory: string): Promise<void> {
  const { gid } = await stat(directory)
  if (!isOwn(gid)) return
  await lchown(directory, process.getuid?.() ?? 0, gid)
  await chmod(directory, 0o710)
}

/** A directory has a number of its own on its file system for as long as it is there. */
function uidOf(directory: string): number {
  const { dev, ino } = statSync(directory, { bigint: true })
  return FIRST_UID + Number((ino + dev * 1_000_003n) % BigInt(UIDS))
}

function isOwn(gid: number): boolean {
  return process.getuid?.() === 0 && gid >= FIRST_UID && gid < FIRST_UID + UIDS
}

/** Whether a user namespace (user_namespaces(7)) has all of those users; without such namespaces it does. */
function isMapped(map: string): boolean {
  let lines: string
  try {
    lines = readFileSync(`/proc/self/${map}`, 'latin1')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return true
    throw error
  }
  return lines
    .trim()
    .split('\n')
    .some(line => {
      const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number)
      return first <= FIRST_UID && first + count >= FIRST_UID + UIDS
    })
}

/** Root's group is given to nobody. */
function groupOf(path: string): number | null {
  const gid = statSync(path, { throwIfNoEntry: false })?.gid ?? 0
  return gid === 0 ? null : gid
}
