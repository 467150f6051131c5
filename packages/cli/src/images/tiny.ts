// The tiny test guest: Debian's cloud kernel with our own first process, which is the self-checking ledger, and busybox's tools,
// which it runs when it is told to. Made without root from the packages of this machine's distribution; nothing of it is installed.

import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { type BootImage, encodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { present } from '@stellwerk/runtime/assert.ts'
import type { Processes } from '@stellwerk/runtime/environment.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { filesOf } from '../cluster/directory.ts'
import { type ArchiveEntry, cpioArchive } from './cpio.ts'
import { fetchDebianBusybox } from './debian-busybox.ts'
import { fetchDebianKernel, type KernelPackage } from './debian-kernel.ts'

export interface TinyKernel {
  /** Depends on the package that has the newest kernel. */
  readonly package: string
  /** In the order in which they need each other. */
  readonly modules: readonly string[]
}

export const CLOUD_KERNEL: TinyKernel = {
  package: 'linux-image-cloud-amd64',
  modules: [
    ...['virtio_ring', 'virtio', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci', 'virtio_blk'],
    ...['failover', 'net_failover', 'virtio_net', 'virtio_console', 'pvpanic', 'pvpanic-pci', 'evdev', 'button'],
  ],
}

/** Quick and quiet: the console is the guest's alone. A panic is told to the hypervisor, then stands still. */
const COMMAND_LINE =
  'quiet loglevel=0 console=tty0 panic=0 random.trust_cpu=on tsc=unstable no_timer_check mitigations=off'

const GUESTS = fileURLToPath(new URL('../../../agent/src/guests/linux', import.meta.url))
const LEDGER = 'ledger.elf'

export interface BuiltImage {
  /** The file. */
  readonly image: Uint8Array
  /** Of its kernel. */
  readonly version: string
}

/** From nothing; `added`: what is in it besides. Throws what `fetchDebianKernel` throws. */
export async function buildTiny(
  processes: Pick<Processes, 'command'>,
  added: readonly ArchiveEntry[] = [],
  which: TinyKernel = CLOUD_KERNEL,
): Promise<BuiltImage> {
  const kernel = await fetchDebianKernel(processes, which.package, new Set(which.modules))
  const busybox = await fetchDebianBusybox(processes)
  return { image: encodeBootImage(await tinyImage(kernel, which, busybox, added)), version: kernel.version }
}

async function tinyImage(
  kernel: KernelPackage,
  which: TinyKernel,
  busybox: Uint8Array,
  added: readonly ArchiveEntry[],
): Promise<BootImage> {
  const entries: ArchiveEntry[] = [
    { path: 'dev', data: null },
    { path: 'proc', data: null },
    { path: 'sys', data: null },
    { path: 'modules', data: null },
    // Programs that are added expect it.
    { path: 'tmp', data: null },
    { path: 'bin', data: null },
    // Where the guest looks for its shell.
    { path: 'bin/busybox', data: busybox, executable: true },
    { path: 'init', data: present(await filesOf(GUESTS).read(LEDGER), LEDGER), executable: true },
  ]
  const order: string[] = []
  for (const name of which.modules) {
    const found = kernel.modules.get(name)
    // Built into some kernels.
    if (found === undefined) continue
    order.push(`/modules/${found.file}`)
    entries.push({ path: `modules/${found.file}`, data: found.data })
  }
  if (!order.some(path => path.includes('virtio_blk')) && !kernel.builtin.has('virtio_blk')) {
    throw new StellwerkError('bad-guest', 'the kernel has no driver for virtio disks', { where: kernel.version })
  }
  entries.push({ path: 'modules/order', data: Buffer.from(`${order.join('\n')}\n`) }, ...added)
  return { kernel: kernel.image, initrd: gzipSync(cpioArchive(entries), { level: 9 }), commandLine: COMMAND_LINE }
}
