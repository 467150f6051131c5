// What a cluster has left when all of it has stopped: its volume's invariants, its legs byte by byte, its guests' ledgers against
// what was heard outside. Each finding is one line.

import { checkVolume } from '@stellwerk/csv/check.ts'
import { type Leg, OWNER_IO, readBytes } from '@stellwerk/csv/format/device-io.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { loadLeg } from '@stellwerk/csv/owner/load.ts'
import { describeError } from '@stellwerk/runtime/errors.ts'
import { legsOf } from '../../cluster/lun-legs.ts'
import { compareLedger } from '../../demo/audit.ts'
import { VolumeReader } from '../../demo/disk-ledger.ts'
import type { HeardLedger } from '../../observer/heard-ledger.ts'
import { mappedExtents } from './mapped-extents.ts'

/** Places named of legs that differ. */
const PLACES_MAX = 5
const PAGE_BYTES = 4_096

export async function aftermath(
  directory: string,
  volume: string,
  ledgers: readonly HeardLedger[],
): Promise<readonly string[]> {
  try {
    const { legs, leastOwnerEpoch, close } = await legsOf(directory, volume)
    try {
      const { findings } = await checkVolume(legs, {}, leastOwnerEpoch)
      const wrong = findings.filter(({ severity }) => severity !== 'degraded')
      return [
        ...wrong.map(({ code, where, message }) => `volume ${volume}: ${code} at ${where}: ${message}`),
        ...(await differences(volume, legs)),
        ...(await lostEntries(legs, ledgers)),
      ]
    } finally {
      await close()
    }
  } catch (error) {
    return [`volume ${volume} can't be looked at: ${describeError(error)}`]
  }
}

/** Nothing is in flight any more: what is mapped must be the same on every leg. */
async function differences(volume: string, legs: readonly Leg[]): Promise<string[]> {
  const [first, second] = legs
  if (first === undefined || second === undefined) return []
  const { metadata, layout } = await loadLeg(first, {})
  const places: number[] = []
  for (const extent of mappedExtents(metadata)) {
    const address = extentAddress(layout, extent)
    const one = await readBytes(first.device, address, layout.extentBytes, OWNER_IO)
    const two = await readBytes(second.device, address, layout.extentBytes, OWNER_IO)
    if (Buffer.compare(one, two) === 0) continue
    for (let at = 0; at < layout.extentBytes; at += PAGE_BYTES) {
      const end = at + PAGE_BYTES
      if (Buffer.compare(one.subarray(at, end), two.subarray(at, end)) !== 0) places.push(address + at)
    }
  }
  if (places.length === 0) return []
  const some = places.slice(0, PLACES_MAX).join(', ')
  return [`volume ${volume}: ${first.id} and ${second.id} differ in ${places.length} pages: at ${some}`]
}

async function lostEntries(legs: readonly Leg[], ledgers: readonly HeardLedger[]): Promise<string[]> {
  const [leg] = legs
  if (leg === undefined) return []
  const volume = await VolumeReader.open(leg)
  const found: string[] = []
  for (const heard of ledgers) {
    const { vm, lost, duplicated, damages } = await compareLedger(heard, volume)
    if (lost > 0) found.push(`${vm}: ${lost} acknowledged entries are not on its disk`)
    if (duplicated > 0) found.push(`${vm}: ${duplicated} entries came twice, or are where they don't belong`)
    for (const damage of damages) found.push(`${vm} found damage: ${damage}`)
  }
  return found
}
