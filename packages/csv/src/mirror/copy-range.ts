// Makes a range equal on the legs that are written to. What a leg in sync cannot read is taken from another that can, block by block,
// and written anew where it could not be read; what none of them can is left out and named: there is no right content of it.

import { BlockError } from '@stellwerk/block/device.ts'
import { type Leg, OWNER_IO, readBytes, writeLegs } from '../format/device-io.ts'
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
  const bytes = await unlessUnreadable(() => readBytes(first!.device, address, length, OWNER_IO))
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
    const bytes = await unlessUnreadable(() => readBytes(source.device, address, BLOCK_BYTES, OWNER_IO))
    if (bytes === null) continue
    const others = legs.filter(leg => leg !== source)
    await writeLegs(others, address, bytes, OWNER_IO)
    return true
  }
  return false
}

/** Null: that spot cannot be read there. */
export async function unlessUnreadable<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof BlockError && error.errno === 'EIO' && !error.retryable) return null
    throw error
  }
}

/** For people. */
export function unreadableText(blocks: readonly number[]): string {
  const places = blocks.length === 1 ? 'one block' : `${blocks.length} blocks`
  return `${places} cannot be read on any leg in sync, one at byte ${blocks[0]} of the volume; what a guest writes there heals it`
}
