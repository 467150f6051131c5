// A disk that boots by itself, by BIOS (Syslinux) and by UEFI (systemd-boot), made without root: the kernel and the ledger of
// the tiny image on a FAT partition, and a second partition for the ledger.

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { decodeBootImage } from '@stellwerk/agent/hypervisor/qemu/boot-image.ts'
import { peer, peerFile, peers } from '@stellwerk/runtime/testing/peers.ts'
import { MIB } from '@stellwerk/runtime/units.ts'

const SECTOR = 512
const BOOT = { start: MIB, bytes: 40 * MIB, type: 0xef, active: 0x80 }
const LEDGER = { start: 48 * MIB, bytes: 48 * MIB, type: 0x83, active: 0 }
export const DISK_BYTES = 96 * MIB
const MBR = '/usr/lib/syslinux/mbr/mbr.bin'
const SYSTEMD_BOOT = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi'
export const loaders = peers(
  ...[peer('syslinux', 'syslinux'), peer('mcopy', 'mtools'), peerFile(MBR, 'syslinux-common')],
  ...[peerFile(SYSTEMD_BOOT, 'systemd-boot-efi'), peerFile('/usr/share/OVMF/OVMF_CODE_4M.fd', 'ovmf')],
)

/** Writes `directory/disk.raw` and gives its path. `words`: on the kernel's command line. */
export function makeBootableDisk(directory: string, bootImage: string, words: string): string {
  const { kernel, initrd, commandLine } = decodeBootImage(bootImage, readFileSync(bootImage))
  const file = (name: string, data: Uint8Array | string): string => {
    writeFileSync(join(directory, name), data)
    return join(directory, name)
  }
  const append = `${commandLine} ${words}`
  const partition = join(directory, 'boot.fat')
  truncate(partition, BOOT.bytes)
  const tool = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' })
  tool(
    'mformat',
    '-i',
    partition,
    '-F',
    '-h',
    '64',
    '-s',
    '32',
    '-T',
    String(BOOT.bytes / SECTOR),
    '-H',
    String(BOOT.start / SECTOR),
    '::',
  )
  const configuration = `SERIAL 0 115200\nDEFAULT tiny\nLABEL tiny\n LINUX kernel\n INITRD initrd\n APPEND ${append}\n`
  const entry = `title tiny\nlinux /kernel\ninitrd /initrd\noptions ${append}\n`
  for (const folder of ['EFI', 'EFI/BOOT', 'loader', 'loader/entries']) tool('mmd', '-i', partition, `::${folder}`)
  const copy = (from: string, to: string) => tool('mcopy', '-i', partition, from, `::${to}`)
  copy(file('kernel', kernel), 'kernel')
  copy(file('initrd', initrd), 'initrd')
  copy(file('syslinux.cfg', configuration), 'syslinux.cfg')
  copy(file('tiny.conf', entry), 'loader/entries/tiny.conf')
  copy(file('loader.conf', 'default tiny.conf\ntimeout 0\n'), 'loader/loader.conf')
  copy(SYSTEMD_BOOT, 'EFI/BOOT/BOOTX64.EFI')
  tool('syslinux', '--install', partition)

  const path = join(directory, 'disk.raw')
  truncate(path, DISK_BYTES)
  const disk = openSync(path, 'r+')
  writeSync(disk, masterBootRecord(readFileSync(MBR)), 0, SECTOR, 0)
  const boot = readFileSync(partition)
  writeSync(disk, boot, 0, boot.length, BOOT.start)
  closeSync(disk)
  return path
}

function masterBootRecord(code: Buffer): Buffer {
  const record = Buffer.alloc(SECTOR)
  code.copy(record, 0, 0, 440)
  for (const [index, { start, bytes, type, active }] of [BOOT, LEDGER].entries()) {
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
