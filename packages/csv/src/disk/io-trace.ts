// The records of one disk's requests, as the IO1 monitor reads them. Only used while someone wants them: a checksum of
// every sector costs more than the request.

import { crc32 } from 'node:zlib'
import { BlockError } from '@stellwerk/block/device.ts'
import type { Json, TraceSink } from '@stellwerk/runtime/environment.ts'
import { isZero } from '../format/device-io.ts'

const SECTOR = 512

export interface DiskIds {
  readonly host: string
  readonly vm: string
  readonly disk: string
  /** Tells this opening of the disk from others on the same host. */
  readonly instance: string
}

export class IoTrace {
  readonly #trace: TraceSink
  readonly #ids: DiskIds
  #next = 1

  constructor(trace: TraceSink, ids: DiskIds) {
    this.#trace = trace
    this.#ids = ids
  }

  get on(): boolean {
    return this.#trace.on('io')
  }

  async read(offset: number, length: number, run: () => Promise<Uint8Array[]>): Promise<Uint8Array[]> {
    const request = this.#invoke({ op: 'read', offset, length })
    try {
      const parts = await run()
      this.#emit('disk.ok', { op: 'read', request, offset, length, sectors: sectorChecksums(parts) })
      return parts
    } catch (error) {
      this.#emit('disk.fail', { op: 'read', request, offset, length })
      throw error
    }
  }

  /** `data`: of a write. */
  async change(
    op: 'write' | 'zero' | 'trim' | 'flush',
    offset: number,
    length: number,
    data: readonly Uint8Array[] | null,
    run: () => Promise<void>,
  ): Promise<void> {
    const request = this.#invoke({ op, offset, length, ...(data === null ? {} : { sectors: sectorChecksums(data) }) })
    try {
      await run()
      this.#emit('disk.ok', { op, request, offset, length })
    } catch (error) {
      const none = error instanceof BlockError && error.outcome === 'none'
      this.#emit(none ? 'disk.fail' : 'disk.info', { op, request, offset, length })
      throw error
    }
  }

  #invoke(body: { readonly [key: string]: Json }): string {
    const request = `${this.#ids.instance}.${this.#next}`
    this.#next += 1
    this.#emit('disk.invoke', { ...body, request })
    return request
  }

  #emit(kind: string, body: Json): void {
    const { host, vm, disk } = this.#ids
    this.#trace.emit({ level: 'io', kind, host, vm, disk, body })
  }
}

/** One a sector; 0 is the zero sector and no other. */
export function sectorChecksums(parts: readonly Uint8Array[]): number[] {
  const sums: number[] = []
  let crc = 0
  let filled = 0
  let zero = true
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const step = Math.min(SECTOR - filled, part.length - at)
      const bytes = part.subarray(at, at + step)
      crc = crc32(bytes, filled === 0 ? 0 : crc)
      zero &&= isZero(bytes)
      filled += step
      at += step
      if (filled < SECTOR) continue
      sums.push(zero ? 0 : crc === 0 ? 1 : crc)
      filled = 0
      zero = true
    }
  }
  return sums
}
