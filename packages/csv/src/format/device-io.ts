// Metadata to and from a device: whole structures as one buffer, in requests the device accepts. Not the path of guests' data.

import { type BlockDevice, type Io, isUnreadable } from '@stellwerk/block/device.ts'
import { BLOCK_BYTES } from './layout.ts'

/** A copy of the volume on one storage subsystem. A volume has one or two. */
export interface Leg {
  readonly id: string
  readonly device: BlockDevice
}

export const OWNER_IO: Io = { origin: 'volume-owner', deadlineAt: null }
/** Of reads that are made from another leg where one cannot: a spot that is bad is no failure of its leg. */
export const SPARED_ORIGIN = 'volume-owner-copy'
export const SPARED_IO: Io = { origin: SPARED_ORIGIN, deadlineAt: null }

export async function readBytes(device: BlockDevice, offset: number, length: number, io: Io): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  let at = 0
  while (at < length) {
    const step = Math.min(length - at, longest(device))
    for (const part of await device.read(offset + at, step, io)) {
      bytes.set(part, at)
      at += part.length
    }
  }
  return bytes
}

/** What a device gave of a range. */
export interface Readout {
  /** Zeroes where it cannot be read. */
  readonly bytes: Uint8Array
  /** Where in it the blocks stand that cannot be read, ascending. */
  readonly unreadable: ReadonlySet<number>
}

/** Blocks of one range that are found unreadable one by one; the rest of it counts as unreadable without being asked for. */
const MAX_UNREADABLE = 256

/** All that can be had of whole blocks. Rejects when it is not a spot of them that fails. */
export async function readWhatCan(device: BlockDevice, offset: number, length: number, io: Io): Promise<Readout> {
  const bytes = new Uint8Array(length)
  const unreadable = new Set<number>()
  const read = async (at: number, size: number): Promise<void> => {
    try {
      if (unreadable.size < MAX_UNREADABLE) bytes.set(await readBytes(device, offset + at, size, io), at)
      else for (let block = at; block < at + size; block += BLOCK_BYTES) unreadable.add(block)
    } catch (error) {
      if (!isUnreadable(error)) throw error
      if (size <= BLOCK_BYTES) {
        unreadable.add(at)
        return
      }
      const half = Math.ceil(size / BLOCK_BYTES / 2) * BLOCK_BYTES
      await read(at, half)
      await read(at + half, size - half)
    }
  }
  await read(0, length)
  return { bytes, unreadable }
}

/** Durable when it resolves. */
export async function writeBytes(device: BlockDevice, offset: number, bytes: Uint8Array, io: Io): Promise<void> {
  const step = longest(device)
  for (let at = 0; at < bytes.length; at += step) {
    await device.write(offset + at, [bytes.subarray(at, at + step)], { fua: true }, io)
  }
}

/** Devices without write-zeroes get zeroes written in steps of this. */
const ZERO_STEP_BYTES = 1024 * 1024

/** The range reads as zeroes, durably, when it resolves. */
export async function zeroRange(device: BlockDevice, offset: number, length: number, io: Io): Promise<void> {
  if (device.caps.zero) return device.zero(offset, length, { fua: true }, io)
  const zeroes = new Uint8Array(Math.min(length, ZERO_STEP_BYTES))
  for (let at = 0; at < length; at += zeroes.length) {
    await writeBytes(device, offset + at, zeroes.subarray(0, Math.min(zeroes.length, length - at)), io)
  }
}

/** The same bytes on every leg, durable when it resolves. */
export async function writeLegs(legs: readonly Leg[], offset: number, bytes: Uint8Array, io: Io): Promise<void> {
  await settleAll(legs.map(leg => writeBytes(leg.device, offset, bytes, io)))
}

/**
 * Waits until all have ended, then fails if one did: nothing of a failed step may still be under way when its caller
 * goes on.
 */
export async function settleAll(promises: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason
  }
}

export function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i += 1) if (bytes[i] !== 0) return false
  return true
}

function longest(device: BlockDevice): number {
  return Math.max(BLOCK_BYTES, Math.floor(device.limits.maximum / BLOCK_BYTES) * BLOCK_BYTES)
}
