// CRC-32 of a structure, covering its own address and its volume: a structure that landed elsewhere, or is a leftover of
// another volume, does not check out.

import { crc32 } from 'node:zlib'
import { setText, setU64, viewOf } from './bytes.ts'

export const ID_BYTES = 32
const ADDRESS_BYTES = 8

/** Knows the volume; gives the checksum of bytes at an address. */
export class Sealer {
  readonly #prefix = new Uint8Array(ADDRESS_BYTES + ID_BYTES)
  readonly #view = viewOf(this.#prefix)

  constructor(volumeId: string) {
    setText(this.#prefix, ADDRESS_BYTES, ID_BYTES, volumeId)
  }

  /** The checksum of `bytes` standing at `address`, whose own checksum field (4 bytes at `field`) counts as zero. */
  checksum(address: number, bytes: Uint8Array, field: number): number {
    setU64(this.#view, 0, address)
    let crc = crc32(this.#prefix)
    crc = crc32(bytes.subarray(0, field), crc)
    crc = crc32(NOTHING, crc)
    return crc32(bytes.subarray(field + 4), crc)
  }

  seal(address: number, bytes: Uint8Array, field: number): void {
    viewOf(bytes).setUint32(field, this.checksum(address, bytes, field), true)
  }

  isSealed(address: number, bytes: Uint8Array, field: number): boolean {
    return viewOf(bytes).getUint32(field, true) === this.checksum(address, bytes, field)
  }
}

const NOTHING = new Uint8Array(4)
