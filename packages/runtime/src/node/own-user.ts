// A program run as a user of its own: where this process is root, it gets a user id that nobody else has, with no name and no
// privilege but those it is left, and its working directory with all that is in it is that user's alone. Elsewhere it has what this
// process has, which is not much.

import { chmodSync, chownSync, lchownSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Above those that systems give out, and below 2^31, which some programs take for negative. */
const FIRST_UID = 1_500_000_000
const UIDS = 500_000_000
/** Its group may run machines by the processor's help. */
const KVM = '/dev/kvm'
/** CAP_CHOWN, CAP_SETGID, CAP_SETUID: capabilities(7). */
const NEEDED = [0, 6, 7] as const

/** The words for setpriv(1) with which a program becomes the user whose the directory is now; none where that can't be done. */
export function ownUser(directory: string, privileges: readonly string[]): string[] {
  if (process.getuid?.() !== 0) return []
  // A directory has a number of its own for as long as it is there.
  const uid = FIRST_UID + (statSync(directory).ino % UIDS)
  if (!mayBecome(uid)) return []
  for (const name of readdirSync(directory)) lchownSync(join(directory, name), uid, uid)
  chownSync(directory, uid, uid)
  chmodSync(directory, 0o700)
  const group = groupOf(KVM)
  const left = ['-all', ...privileges.map(name => `+${name}`)].join()
  return [
    ...['--reuid', String(uid), '--regid', String(uid)],
    ...(group === null ? ['--clear-groups'] : ['--groups', String(group)]),
    ...['--no-new-privs', `--inh-caps=${left}`, `--ambient-caps=${left}`, `--bounding-set=${left}`],
  ]
}

/** A container's root may have been left without the right to, or have no such user in its user namespace (user_namespaces(7)). */
function mayBecome(uid: number): boolean {
  const capabilities = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`,
  )
  if (NEEDED.some(bit => (capabilities & (1n << BigInt(bit))) === 0n)) return false
  return ['uid_map', 'gid_map'].every(map =>
    readFileSync(`/proc/self/${map}`, 'latin1')
      .trim()
      .split('\n')
      .some(line => {
        const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number)
        return uid >= first && uid < first + count
      }),
  )
}

/** Root's group is given to nobody. */
function groupOf(path: string): number | null {
  const gid = statSync(path, { throwIfNoEntry: false })?.gid ?? 0
  return gid === 0 ? null : gid
}
