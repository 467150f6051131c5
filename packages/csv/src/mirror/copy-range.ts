// Makes a range equal on the legs that are written to. What a leg in sync cannot read is taken from another that can, block by block,
// and written anew where it could not be read; what none of them can is left out and named: there is no right content of it.

import { isUnreadable } from '@stellwerk/block/device.ts'
import { type Leg, OWNER_IO, readBytes, SPARED_IO, writeLegs } from '../format/device-io.ts'
import { BLOCK_BYTES } from '../format/layout.ts'

/**
 * `legs`: in-sync ones first, so many of them. Gives the addresses of the blocks that no leg in sync can read, ascending. Rejects
 * when a leg does not take what is written, or is gone.
 */
export async function copyRange(
  legs: readonly Leg[],
  inSync: number,
  address: number,
  length: number,
): Promise<readonly number[]> {
  if (legs.length < 2) return []
  const [first, ...others] = legs
  const bytes = await unlessUnreadable(first!, address, length)
  if (bytes !== null) {
    await writeLegs(others, address, bytes, OWNER_IO)
    return []
  }
  const unreadable: number[] = []
  for (let at = address; at < address + length; at += BLOCK_BYTES) {
    if (!(await copyBlock(legs, inSync, at))) unreadable.push(at)
  }
  return unreadable
}

async function copyBlock(legs: readonly Leg[], inSync: number, address: number): Promise<boolean> {
  for (const source of legs.slice(0, inSync)) {
    const bytes = await unlessUnreadable(source, address, BLOCK_BYTES)
    if (bytes === null) continue
    const others = legs.filter(leg => leg !== source)
    await writeLegs(others, address, bytes, OWNER_IO)
    return true
  }
  return false
}

/** From the first of the legs that can, block by block where none can read all of it; null: of some block none can. */
export async function readAny(legs: readonly Leg[], address: number, length: number): Promise<Uint8Array | null> {
  for (const leg of legs) {
    const bytes = await unlessUnreadable(leg, address, length)
    if (bytes !== null) return bytes
  }
  if (length <= BLOCK_BYTES || legs.length < 2) return null
  const all = new Uint8Array(length)
  for (let at = 0; at < length; at += BLOCK_BYTES) {
    const bytes = await readAny(legs, address + at, Math.min(BLOCK_BYTES, length - at))
    if (bytes === null) return null
    all.set(bytes, at)
  }
  return all
}

/** Null: that spot cannot be read there. */
async function unlessUnreadable({ device }: Leg, address: number, length: number): Promise<Uint8Array | null> {
  try {
    return await readBytes(device, address, length, SPARED_IO)
  } catch (error) {
    if (isUnreadable(error)) return null
    throw error
  }
}

/** For people. */
export function unreadableText(blocks: readonly number[]): string {
  const places = blocks.length === 1 ? 'one block' : `${blocks.length} blocks`
  return `${places} cannot be read on any leg in sync, one at byte ${blocks[0]} of the volume; what a guest writes there heals it`
}
