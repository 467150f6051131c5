// A host and an owner that lose power together at any write, while snapshots and clones are made, written to and deleted:
// every snapshot that was answered holds exactly what its disk held, the disk what it acknowledged, and the check finds nothing.

import { describe, expect, it } from 'vitest'
import { checkVolume } from './check.ts'
import { CsvDisk } from './disk/csv-disk.ts'
import type { OwnerCall } from './owner/request.ts'
import { VolumeOwner } from './owner/volume-owner.ts'
import type { Platter } from './testing/crash-device.ts'
import { EXTENT, IO, legOn, openOwner, quietLog, Records, readAll, smallVolume } from './testing/fixture.ts'
import { openHost, type TestHost, turns } from './testing/host-fixture.ts'

const of = { volume: 'csv1' }
const EXTENTS = 6
/** A block of each extent is written; its value says all. */
type Content = Map<number, ReadonlySet<number>>

interface Known {
  readonly disk: Content
  /** By name; null: it may or may not be there. */
  readonly copies: Map<string, Content | null>
}

function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0
  return below => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0
    return Math.floor((((state ^ (state >>> 13)) >>> 0) / 4294967296) * below)
  }
}

async function life(platter: Platter, crashAt: number | null, known: Known): Promise<number> {
  const random = randomFrom(5)
  let died = false
  const { promise: death, resolve } = Promise.withResolvers<void>()
  const leg = legOn(platter, {
    ...(crashAt === null ? {} : { crashAt }),
    random: () => random(1000) / 1000,
    onCrash: () => {
      died = true
      resolve()
    },
  })
  const noticed = death.then(() => turns(3))
  let host: TestHost | null = null
  const live = async (): Promise<void> => {
    const owner = await VolumeOwner.open({
      ...{ legs: [leg], volume: 'csv1', ownerEpoch: 1 },
      env: { trace: new Records(), log: quietLog },
      hosts: {
        barrier: async (_, disk) => host?.volume.disks.get(disk)?.barrier(),
        resized: async () => undefined,
      },
    })
    const call: OwnerCall = (kind, body) => owner.handle(kind, body)
    host = await openHost(platter, call, { device: leg.device, io: false })
    await call('volume.create-disk', { ...of, disk: 'd', name: 'd', sizeBytes: EXTENTS * EXTENT })
    const disk = await CsvDisk.attach({ volume: host.volume, disk: 'd', vm: 'web-1', epoch: 1 })
    const made: string[] = []
    for (let step = 1; step <= 24; step += 1) {
      const writes = [0, 1].map(async () => {
        const index = random(EXTENTS)
        const value = (step % 250) + 1
        known.disk.set(index, new Set([...(known.disk.get(index) ?? [0]), value]))
        await disk.write(index * EXTENT, [new Uint8Array(4096).fill(value)], {}, IO)
        if (!died) known.disk.set(index, new Set([value]))
      })
      await Promise.all(writes)
      if (step % 3 === 0) {
        const name = `s${step}`
        const then: Content = new Map(known.disk)
        known.copies.set(name, null)
        await call('volume.snapshot-disk', { ...of, disk: 'd', snapshot: name, name })
        if (!died) known.copies.set(name, then)
        made.push(name)
      } else if (step % 7 === 0) {
        const name = `c${step}`
        const snapshot = made.at(-1)!
        known.copies.set(name, null)
        await call('volume.clone-disk', { ...of, snapshot, disk: name, name })
        if (!died) known.copies.set(name, known.copies.get(snapshot) ?? null)
      } else if (step % 5 === 0) {
        const gone = made.shift()!
        known.copies.set(gone, null)
        await call('volume.delete-disk', { ...of, disk: gone })
        if (!died) known.copies.delete(gone)
      }
    }
  }
  const lived = live().catch(error => {
    if (!died) throw error
  })
  await Promise.race([lived, noticed])
  return leg.device.writes
}

async function expectContent(device: CsvDisk, content: Content, where: string): Promise<void> {
  for (const [index, values] of content) {
    const bytes = await readAll(device, index * EXTENT, 4096)
    for (let sector = 0; sector < 4096; sector += 512) {
      const value = bytes[sector]!
      expect(values.has(value), `${where}: index ${index} holds ${value}`).toBe(true)
      expect(bytes.subarray(sector, sector + 512).every(byte => byte === value)).toBe(true)
    }
  }
}

describe('snapshots and clones under power loss', () => {
  it('are there whole or not at all, and hold what they were made of', async () => {
    const { platter } = await smallVolume(8 * 1024 * 1024)
    const writes = await life(platter.copy(), null, { disk: new Map(), copies: new Map() })
    expect(writes).toBeGreaterThan(100)
    let compared = 0
    for (let crashAt = 1; crashAt <= writes; crashAt += 3) {
      const copy = platter.copy()
      const known: Known = { disk: new Map(), copies: new Map() }
      await life(copy, crashAt, known)
      const at = `crash at write ${crashAt}`
      const { findings } = await checkVolume([legOn(copy)])
      expect(
        findings.filter(({ severity }) => severity !== 'degraded'),
        at,
      ).toEqual([])
      const { owner } = await openOwner(copy, 2)
      await owner.handle('volume.release-host', { ...of, host: 'host-a', hostEpoch: 1 })
      const host = await openHost(copy, (kind, body) => owner.handle(kind, body), { hostEpoch: 2, io: false })
      const { disks } = await owner.handle('volume.list-disks', of)
      const open = (disk: string) => CsvDisk.attach({ volume: host.volume, disk, vm: disk, epoch: 2 })
      if (disks.some(({ disk }) => disk === 'd')) await expectContent(await open('d'), known.disk, `${at}, the disk`)
      for (const [name, content] of known.copies) {
        if (content === null) continue
        await expectContent(await open(name), content, `${at}, ${name}`)
        compared += 1
      }
      for (const { disk } of disks) expect(disk === 'd' || known.copies.has(disk), `${at}: ${disk}`).toBe(true)
    }
    expect(compared).toBeGreaterThan(100)
  })
})
