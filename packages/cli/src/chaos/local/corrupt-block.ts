// Bytes that change under a storage: a sector of one leg of a mirror, where no guest ever looks (the page in front of a ledger
// guest's log), since there are no checksums over guests' data and whoever read it would be given it (docs/FAULTS.md). Healed by
// naming the good leg, as an operator does who knows of it.

import { LOG_START } from '@stellwerk/agent/guests/ledger-format.ts'
import { extentAddress } from '@stellwerk/csv/format/layout.ts'
import { loadLeg } from '@stellwerk/csv/owner/load.ts'
import type { ScrubReport } from '@stellwerk/protocol/messages/volume-scrub.ts'
import type { Clock, File, Files } from '@stellwerk/runtime/environment.ts'
import { errorCode, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { type ApiClient, pathOf } from '../../api-client/client.ts'
import { FileDevice } from '../../cluster/file-device.ts'
import type { Undo } from './journal.ts'

const SECTOR_BYTES = 512
/** An owner writes its journal while it is read: then once more. */
const TRIES = 20
const AGAIN_MS = 100
const REPAIR_MS = 60_000

interface Place {
  readonly path: string
  readonly address: number
}

/** Throws `no-mirror`, `nothing-to-rot`. */
export async function corruptBlock(options: {
  readonly files: Files
  readonly sleep: (ms: number) => Promise<void>
  readonly api: () => ApiClient
  readonly storage: string
  readonly seed: number
}): Promise<{ undo: readonly Undo[]; act: () => Promise<void> }> {
  const { files, sleep, storage, seed } = options
  const { volumes } = await options.api().status()
  for (const { name, legs } of Object.values(volumes)) {
    const bad = legs.find(leg => leg.storage === storage && leg.role === 'in-sync')
    const good = legs.find(leg => leg.storage !== storage && leg.role === 'in-sync')
    if (bad === undefined || good === undefined) continue
    const place = await quietSector(files, storage, seed, sleep)
    if (place === null) continue
    return { undo: [{ do: 'scrub', volume: name, goodLeg: good.leg }], act: () => invert(files, place) }
  }
  throw new StellwerkError(
    'no-mirror',
    `${storage} has no leg in sync, with data, beside another that could repair it`,
    {
      where: storage,
      hint: 'see: npx stellwerk volume list',
    },
  )
}

async function quietSector(
  files: Files,
  storage: string,
  seed: number,
  sleep: (ms: number) => Promise<void>,
): Promise<Place | null> {
  const luns = (await files.list(`${storage}/luns`)).filter(name => name.endsWith('.data'))
  for (let tries = 0; tries < TRIES; tries++) {
    for (const lun of luns) {
      const path = `${storage}/luns/${lun}`
      const sectors = await quietSectors(files, path)
      if (sectors.length > 0) return { path, address: sectors[seed % sectors.length]! }
    }
    await sleep(AGAIN_MS)
  }
  return null
}

async function quietSectors(files: Files, path: string): Promise<number[]> {
  const device = await FileDevice.open(files, path)
  try {
    const { metadata, layout } = await loadLeg({ id: path, device }, {})
    const starts = [...metadata.disks.values()].flatMap(disk => {
      const extent = disk.map.get(0)
      return extent === undefined ? [] : [extentAddress(layout, extent)]
    })
    const sectors: number[] = []
    for (const start of starts) {
      // A hole has no medium that could rot.
      const [log] = await device.read(start + LOG_START, SECTOR_BYTES)
      if (log?.some(byte => byte !== 0) !== true) continue
      for (let at = start; at < start + LOG_START; at += SECTOR_BYTES) sectors.push(at)
    }
    return sectors.sort((a, b) => a - b)
  } catch (error) {
    // What is written at this moment is read torn.
    if (error instanceof StellwerkError) return []
    throw error
  } finally {
    await device.close()
  }
}

async function invert(files: Files, { path, address }: Place): Promise<void> {
  const file: File = await files.open(path)
  try {
    const bytes = await file.read(address, SECTOR_BYTES)
    await file.write(address, [bytes.map(byte => byte ^ 0xff)], { durable: true })
  } finally {
    await file.close()
  }
}

/** Has the owner compare the legs and take the good one's word. Throws `not-repaired` after a while. */
export async function repairFrom(options: {
  readonly clock: Clock
  readonly sleep: (ms: number) => Promise<void>
  readonly api: ApiClient
  readonly volume: string
  readonly goodLeg: string
}): Promise<void> {
  const { clock, sleep, api, volume, goodLeg } = options
  const until = clock.now() + REPAIR_MS
  const path = pathOf('volumes', volume, 'scrub')
  let why = 'nobody answered'
  for (; clock.now() < until; await sleep(AGAIN_MS)) {
    try {
      const { scrub } = (await api.post(path, { goodLeg })) as { scrub: string }
      const report = await ended(options, path, scrub, until)
      if (report === null) continue
      if (report.state === 'done' && report.unresolved === 0) return
      why = report.why ?? `${report.unresolved} places are undecided`
    } catch (error) {
      why = error instanceof Error ? error.message : errorCode(error)
      // A leg that is away is caught up by the other when it is back, and then both agree.
      if (errorCode(error) === 'unknown-volume') return
    }
  }
  throw new StellwerkError('not-repaired', `volume ${volume} was not repaired from ${goodLeg}: ${why}`, {
    hint: `do it by hand: npx stellwerk volume check ${volume} --scrub --good-leg ${goodLeg}`,
  })
}

async function ended(
  { clock, sleep, api }: { clock: Clock; sleep: (ms: number) => Promise<void>; api: ApiClient },
  path: string,
  scrub: string,
  until: number,
): Promise<ScrubReport | null> {
  while (clock.now() < until) {
    const report = (await api.get(path)) as ScrubReport
    if (report.scrub !== scrub) return null
    if (report.state !== 'running') return report
    await sleep(AGAIN_MS)
  }
  return null
}
