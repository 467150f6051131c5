// The disk from which cloud-init takes what a machine is to become, as its data source NoCloud wants it: a file system with the
// label CIDATA that has `user-data`, `meta-data` and, if need be, `network-config` (cloudinit.readthedocs.io, "NoCloud"). It follows from the VM's definition
// alone, so that every host makes the same.
//
// FAT12 of 64 KiB (Microsoft, "FAT: General Overview of On-Disk Format"): boot sector · one FAT · root directory · data, in
// clusters of a sector. Names that are no 8.3 names stand before their entry, in UTF-16.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { KIB } from '@stellwerk/runtime/units.ts'

const SECTOR = 512
const SECTORS = 128
const FAT_SECTOR = 1
const ROOT_SECTOR = 2
const ROOT_ENTRIES = 16
const DATA_SECTOR = ROOT_SECTOR + (ROOT_ENTRIES * 32) / SECTOR
const FIRST_CLUSTER = 2
const MEDIA = 0xf8
const END_OF_CHAIN = 0xfff
const LABEL = 'CIDATA     '

/** Of a definition: it is kept by every volume that the VM has a disk on. */
export const USER_DATA_MAX_BYTES = 16 * KIB
const NETWORK_CONFIG_MAX_BYTES = 4 * KIB

const READ_ONLY = 0x01
const VOLUME_LABEL = 0x08
const LONG_NAME = 0x0f
const LAST_LONG_NAME = 0x40
/** Where the 13 letters of an entry for a long name stand. */
const LONG_NAME_AT = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]

/** What cloud-init is to read, as the files of those names have it. */
export interface SeedData {
  readonly userData: string
  /** Absent: it asks by DHCP. */
  readonly networkConfig?: string
}

/** Null: the VM's definition has nothing for cloud-init. */
export function seedDataOf({ userData, networkConfig }: { readonly [name: string]: unknown }): SeedData | null {
  const network = typeof networkConfig === 'string' ? { networkConfig } : {}
  if (typeof userData === 'string') return { userData, ...network }
  return typeof networkConfig === 'string' ? { userData: '#cloud-config\n', ...network } : null
}

export function seedImage(vm: string, { userData, networkConfig }: SeedData): Uint8Array {
  const image = Buffer.alloc(SECTORS * SECTOR)
  writeBootSector(image)
  writeFat(image, 0, 0xf00 | MEDIA)
  writeFat(image, 1, END_OF_CHAIN)
  let entry = 0
  let cluster = FIRST_CLUSTER
  const root = (): Buffer => image.subarray(ROOT_SECTOR * SECTOR + 32 * entry++).subarray(0, 32)
  const label = root()
  label.write(LABEL, 'latin1')
  label[11] = VOLUME_LABEL
  // Another instance for cloud-init, which does its work once for each, only if it is another VM.
  // Quoted: a VM may have a name that YAML takes for a number or a date.
  const metaData = `instance-id: ${JSON.stringify(vm)}\nlocal-hostname: ${JSON.stringify(vm)}\n`
  const add = (name: string, short: string, text: string): void => {
    const bytes = Buffer.from(text, 'utf8')
    const clusters = Math.ceil(bytes.length / SECTOR)
    const parts = Math.ceil(name.length / LONG_NAME_AT.length)
    // The last part stands first.
    for (let part = parts; part >= 1; part--) writeLongName(root(), name, short, part, part === parts)
    const file = root()
    file.write(short, 'latin1')
    file[11] = READ_ONLY
    // An empty file has none.
    file.writeUInt16LE(clusters === 0 ? 0 : cluster, 26)
    file.writeUInt32LE(bytes.length, 28)
    image.set(bytes, (DATA_SECTOR + cluster - FIRST_CLUSTER) * SECTOR)
    for (let i = 0; i < clusters; i++, cluster++) {
      writeFat(image, cluster, i + 1 < clusters ? cluster + 1 : END_OF_CHAIN)
    }
  }
  add('meta-data', 'META-D~1   ', metaData)
  add('user-data', 'USER-D~1   ', userData)
  if (networkConfig !== undefined) add('network-config', 'NETWOR~1   ', networkConfig)
  return image
}

function writeBootSector(image: Buffer): void {
  // A jump, as the format wants one; to itself, should anybody boot it.
  image.set([0xeb, 0xfe, 0x90])
  image.write('STELLWRK', 3, 'latin1')
  image.writeUInt16LE(SECTOR, 11)
  image[13] = 1 // sectors in a cluster
  image.writeUInt16LE(FAT_SECTOR, 14)
  image[16] = 1 // FATs
  image.writeUInt16LE(ROOT_ENTRIES, 17)
  image.writeUInt16LE(SECTORS, 19)
  image[21] = MEDIA
  image.writeUInt16LE(ROOT_SECTOR - FAT_SECTOR, 22)
  image.writeUInt16LE(32, 24) // sectors in a track
  image.writeUInt16LE(2, 26) // heads
  image[36] = 0x80 // a fixed disk
  image[38] = 0x29 // what follows is there
  image.writeUInt32LE(0x57_4c_4c_53, 39)
  image.write(LABEL, 43, 'latin1')
  image.write('FAT12   ', 54, 'latin1')
  image.writeUInt16LE(0xaa55, 510)
}

/** Two entries are in three bytes. */
function writeFat(image: Buffer, index: number, value: number): void {
  const at = FAT_SECTOR * SECTOR + index + (index >> 1)
  const both = image.readUInt16LE(at)
  image.writeUInt16LE(index % 2 === 0 ? (both & 0xf000) | value : (both & 0x000f) | (value << 4), at)
}

/** `part`: from 1 on, of 13 letters each. */
function writeLongName(entry: Buffer, name: string, short: string, part: number, isLast: boolean): void {
  entry[0] = isLast ? LAST_LONG_NAME | part : part
  entry[11] = LONG_NAME
  entry[13] = [...short].reduce((sum, letter) => ((sum >> 1) + ((sum & 1) << 7) + letter.charCodeAt(0)) & 0xff, 0)
  const from = (part - 1) * LONG_NAME_AT.length
  for (const [i, at] of LONG_NAME_AT.entries()) {
    const letter = from + i
    entry.writeUInt16LE(letter < name.length ? name.charCodeAt(letter) : letter === name.length ? 0 : 0xffff, at)
  }
}

/** Throws `bad-machine`. */
export function checkNetworkConfig(vm: string, networkConfig: unknown): void {
  if (typeof networkConfig === 'string' && Buffer.byteLength(networkConfig) <= NETWORK_CONFIG_MAX_BYTES) return
  throw new StellwerkError('bad-machine', 'its network configuration is no text, or too long', {
    where: `vm ${vm}`,
    hint: `give at most ${NETWORK_CONFIG_MAX_BYTES} bytes`,
  })
}

/** Throws `bad-machine`. */
export function checkUserData(vm: string, userData: unknown): void {
  const bad = (what: string, hint: string): StellwerkError =>
    new StellwerkError('bad-machine', what, { where: `vm ${vm}`, hint })
  if (typeof userData !== 'string') throw bad('its user data is no text', 'give what cloud-init is to read')
  const bytes = Buffer.byteLength(userData)
  if (bytes > USER_DATA_MAX_BYTES) {
    throw bad(`its user data has ${bytes} bytes`, `give it at most ${USER_DATA_MAX_BYTES}; let it fetch the rest`)
  }
  if (!userData.startsWith('#')) {
    throw bad(
      'its user data begins with no #',
      'cloud-init knows what it is by its first line: #cloud-config, #!/bin/sh',
    )
  }
}
