// Disks that boot by themselves, by BIOS (Syslinux) and by UEFI (systemd-boot), made without a loop device: a kernel on a FAT
// partition, and a second partition for whoever it boots.

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { peer, peerFile, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

const SECTOR = 512
const BOOT_START = MIB
/** Between the boot partition and the second one. */
const GAP_BYTES = 7 * MIB
const MBR = '/usr/lib/syslinux/mbr/mbr.bin'
const SYSTEMD_BOOT = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi'
export const loaders = peers(
  ...[peer('syslinux', 'syslinux'), peer('mcopy', 'mtools'), peerFile(MBR, 'syslinux-common')],
  ...[peerFile(SYSTEMD_BOOT, 'systemd-boot-efi'), peerFile('/usr/share/OVMF/OVMF_CODE_4M.fd', 'ovmf')],
)

export interface BootableDisk {
  readonly kernel: Uint8Array
  readonly initrd: Uint8Array
  /** The kernel's command line. */
  readonly append: string
  readonly bootBytes: number
  /** Of the second partition, which is empty. */
  readonly systemBytes: number
}

/** Writes `directory/disk.raw`; `systemStart` is where its second partition begins. */
export function makeDisk(directory: string, disk: BootableDisk): { path: string; systemStart: number } {
  const { append, bootBytes, systemBytes } = disk
  const boot = { start: BOOT_START, bytes: bootBytes, type: 0xef, active: 0x80 }
  const system = { start: BOOT_START + bootBytes + GAP_BYTES, bytes: systemBytes, type: 0x83, active: 0 }
  const file = (name: string, data: Uint8Array | string): string => {
    writeFileSync(join(directory, name), data)
    return join(directory, name)
  }
  const partition = join(directory, 'boot.fat')
  truncate(partition, boot.bytes)
  const tool = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' })
  const size = ['-T', String(boot.bytes / SECTOR), '-H', String(boot.start / SECTOR)]
  tool('mformat', '-i', partition, '-F', '-h', '64', '-s', '32', ...size, '::')
  const configuration = `SERIAL 0 115200\nDEFAULT system\nLABEL system\n LINUX kernel\n INITRD initrd\n APPEND ${append}\n`
  const entry = `title system\nlinux /kernel\ninitrd /initrd\noptions ${append}\n`
  for (const folder of ['EFI', 'EFI/BOOT', 'loader', 'loader/entries']) tool('mmd', '-i', partition, `::${folder}`)
  const copy = (from: string, to: string) => tool('mcopy', '-i', partition, from, `::${to}`)
  copy(file('kernel', disk.kernel), 'kernel')
  copy(file('initrd', disk.initrd), 'initrd')
  copy(file('syslinux.cfg', configuration), 'syslinux.cfg')
  copy(file('system.conf', entry), 'loader/entries/system.conf')
  copy(file('loader.conf', 'default system.conf\ntimeout 0\n'), 'loader/loader.conf')
  copy(SYSTEMD_BOOT, 'EFI/BOOT/BOOTX64.EFI')
  tool('syslinux', '--install', partition)

  const path = join(directory, 'disk.raw')
  truncate(path, system.start + system.bytes)
  const whole = openSync(path, 'r+')
  writeSync(whole, masterBootRecord(readFileSync(MBR), [boot, system]), 0, SECTOR, 0)
  const bytes = readFileSync(partition)
  writeSync(whole, bytes, 0, bytes.length, boot.start)
  closeSync(whole)
  return { path, systemStart: system.start }
}

/** Boots the tiny image, whose ledger has the second partition. `words`: on the kernel's command line. */
export function makeBootableDisk(directory: string, bootImage: string, words: string): string {
  const { kernel, initrd, commandLine } = decodeBootImage(bootImage, readFileSync(bootImage))
  const append = `${commandLine} ${words}`
  return makeDisk(directory, { kernel, initrd, append, bootBytes: 40 * MIB, systemBytes: 48 * MIB }).path
}

interface Partition {
  readonly start: number
  readonly bytes: number
  readonly type: number
  readonly active: number
}

function masterBootRecord(code: Buffer, partitions: readonly Partition[]): Buffer {
  const record = Buffer.alloc(SECTOR)
  code.copy(record, 0, 0, 440)
  for (const [index, { start, bytes, type, active }] of partitions.entries()) {
    const at = 446 + 16 * index
    record[at] = active
    // Of a disk that is addressed by sectors alone.
    record.set([0xfe, 0xff, 0xff], at + 1)
    record[at + 4] = type
    record.set([0xfe, 0xff, 0xff], at + 5)
    record.writeUInt32LE(start / SECTOR, at + 8)
    record.writeUInt32LE(bytes / SECTOR, at + 12)
  }
  record.writeUInt16LE(0xaa55, 510)
  return record
}

function truncate(path: string, bytes: number): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, bytes)
  closeSync(file)
}
