// A Debian as its users have it: systemd, cloud-init, OpenSSH, the guest agent of QEMU, a kernel, on a disk that boots by BIOS and by
// UEFI. Made by debootstrap and apt from the mirror that this machine's own packages come from, as root, and kept among the
// temporary files under the digest of what it is made by: it takes minutes.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { peer, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'
import { makeDisk } from './bootable-disk.ts'

const SUITE = 'bookworm'
const PACKAGES = [
  ...['linux-image-cloud-amd64', 'systemd-sysv', 'udev', 'dbus', 'cloud-init', 'openssh-server', 'sudo'],
  ...['qemu-guest-agent', 'ifupdown', 'iproute2', 'iputils-ping'],
]
const BOOT_BYTES = 96 * MIB
const SYSTEM_BYTES = 1536 * MIB
const MAKERS = ['debian-image.ts', 'bootable-disk.ts']

const isRoot = process.getuid?.() === 0
const tools = peers(
  ...[peer('debootstrap', 'debootstrap'), peer('apt-get', 'apt'), peer('mkfs.ext4', 'e2fsprogs')],
  ...[peer('unshare', 'util-linux'), peer('qemu-img', 'qemu-utils')],
)
/** What making it takes besides the loaders of bootable-disk.ts. */
export const debianTools = { missing: tools.missing || !isRoot, note: `${tools.note}${isRoot ? '' : ', for root'}` }

const run = async (program: string, ...args: string[]): Promise<string> => {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }
  const { stdout } = await promisify(execFile)(program, args, { env, maxBuffer: 64 * MIB })
  return stdout
}

/** A qcow2 of it. */
export async function debianImageFile(): Promise<string> {
  const hash = createHash('sha256')
  for (const maker of MAKERS) hash.update(readFileSync(join(import.meta.dirname, maker)))
  const path = join(tmpdir(), `stellwerk-debian-${hash.digest('hex').slice(0, 16)}.qcow2`)
  if (existsSync(path)) return path
  const directory = mkdtempSync(join(tmpdir(), 'debian-'))
  try {
    const root = join(directory, 'root')
    await makeSystem(root)
    const disk = await makeImage(directory, root)
    await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', disk, `${path}.${process.pid}`)
    renameSync(`${path}.${process.pid}`, path)
    return path
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Lines of a repository's address and suite, as this machine has them. */
async function repositories(): Promise<{ site: string; suite: string }[]> {
  const lines = await run('apt-get', 'indextargets', '--format', '$(SITE) $(RELEASE)', 'Created-By: Packages')
  return lines.split('\n').flatMap(line => {
    const [site, suite] = line.split(' ')
    return site !== undefined && suite?.startsWith(SUITE) ? [{ site, suite }] : []
  })
}

async function makeSystem(root: string): Promise<void> {
  const known = await repositories()
  const mirror = known.find(({ suite }) => suite === SUITE)?.site ?? 'http://deb.debian.org/debian'
  await run('debootstrap', '--variant=minbase', SUITE, root, mirror)
  const file = (path: string, text: string): void => writeFileSync(join(root, path), text)
  file('etc/apt/sources.list', known.map(({ site, suite }) => `deb ${site} ${suite} main\n`).join(''))
  file('usr/sbin/policy-rc.d', '#!/bin/sh\nexit 101\n')
  await run('chmod', '755', join(root, 'usr/sbin/policy-rc.d'))
  file('etc/dpkg/dpkg.cfg.d/unsafe-io', 'force-unsafe-io\n')
  // In a place of its own, so that no mount outlives it: what is below is removed.
  const install = `apt-get update -qq && apt-get install -y -qq --no-install-recommends ${PACKAGES.join(' ')} && apt-get clean`
  const inside = `mount -t proc proc "$1/proc" && chroot "$1" sh -c '${install}'`
  await run('unshare', '--mount', '--', 'sh', '-c', inside, 'sh', root)
  rmSync(join(root, 'usr/sbin/policy-rc.d'))
  // What makes one machine of it, and is made anew by each.
  for (const name of readdirSync(join(root, 'etc/ssh')))
    if (/^ssh_host_/.test(name)) rmSync(join(root, 'etc/ssh', name))
  file('etc/machine-id', '')
  file('etc/hostname', 'localhost\n')
  file('etc/fstab', 'LABEL=system / ext4 defaults 0 1\n')
  // It has one locale.
  file('etc/cloud/cloud.cfg.d/90-stellwerk.cfg', 'datasource_list: [NoCloud, None]\nlocale: false\n')
}

async function makeImage(directory: string, root: string): Promise<string> {
  const boot = join(root, 'boot')
  const named = (start: string): Uint8Array => {
    const found = readdirSync(boot).find(name => name.startsWith(start))
    if (found === undefined) throw new Error(`the system has no ${start}: ${readdirSync(boot).join(', ')}`)
    return readFileSync(join(boot, found))
  }
  const { path, systemStart } = makeDisk(directory, {
    kernel: named('vmlinuz-'),
    initrd: named('initrd.img-'),
    append: 'root=LABEL=system ro console=tty0 console=ttyS0,115200 no_timer_check',
    bootBytes: BOOT_BYTES,
    systemBytes: SYSTEM_BYTES,
  })
  const place = ['-E', `offset=${systemStart}`, '-L', 'system', '-d', root]
  await run('mkfs.ext4', '-q', '-F', ...place, path, `${SYSTEM_BYTES / 1024}k`)
  return path
}
