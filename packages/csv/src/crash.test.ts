// Crash at every write of a long random sequence, losing or tearing whatever was not durable; then open again and see that
// nothing answered is lost, nothing is granted twice, and the check finds nothing.

import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { describe, expect, it } from 'vitest'
import { checkVolume } from './check.ts'
import { CsvDisk } from './disk/csv-disk.ts'
import type { OwnerCall } from './owner/request.ts'
import type { CrashDevice, Platter } from './testing/crash-device.ts'
import { codeOf, EXTENT, IO, legOn, openOwner, readAll, smallVolume } from './testing/fixture.ts'
import { openHost, turns } from './testing/host-fixture.ts'

/** A small generator of its own, so that a seed says everything. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0
  return below => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0
    return Math.floor((((state ^ (state >>> 13)) >>> 0) / 4294967296) * below)
  }
}

const DISK_BLOCKS = (16 * EXTENT) / 4096
const of = { volume: 'csv1' }

interface Answered {
  /** Disk → index → extent, as the owner answered. */
  readonly maps: Map<string, Map<number, number>>
  /** Disks a change of which may or may not have happened. */
  readonly doubtful: Set<string>
}

/** Random requests, a few at a time, until the device dies or they are all done. */
async function ownerLife(platter: Platter, epoch: number, seed: number, crashAt: number | null, known: Answered) {
  const random = randomFrom(seed)
  const death = new Death()
  const opening = openOwner(platter, epoch, {
    ...(crashAt === null ? {} : { crashAt }),
    random: () => random(1000) / 1000,
    onCrash: death.happens,
  })
  const opened = await Promise.race([opening, death.noticed])
  if (opened === null) return { died: true, writes: 0 }
  const { owner, device } = opened
  const attempt = async <T>(disk: string, work: Promise<T>, apply: (reply: T) => void): Promise<void> => {
    known.doubtful.add(disk)
    const reply = await Promise.race([work.catch((error: unknown) => error as StellwerkError), death.noticed])
    // An owner that has ended says nothing about what it had under way.
    if (reply === null || (reply instanceof StellwerkError && reply.code === 'owner-failed')) return
    known.doubtful.delete(disk)
    if (!(reply instanceof StellwerkError)) apply(reply)
  }
  await Promise.race([
    owner.handle('volume.open-host', { ...of, host: 'host-a', hostEpoch: 1, slot: null }),
    death.noticed,
  ])
  for (let step = 0; step < 25 && !death.happened; step += 1) {
    await Promise.all(
      [0, 1, 2].map(async lane => {
        const disk = `disk-${lane}-${random(2)}`
        const indexes = [random(12), random(12), random(12)]
        const hold = { ...of, disk, host: 'host-a', epoch: 1, committed: false }
        const map = known.maps.get(disk)
        const pick = random(10)
        if (map === undefined) {
          const create = { ...of, disk, name: disk, sizeBytes: 12 * EXTENT }
          await attempt(disk, owner.handle('volume.create-disk', create), () => known.maps.set(disk, new Map()))
          return
        }
        if (pick === 0) {
          await attempt(disk, owner.handle('volume.detach', hold), () => undefined)
          if (death.happened) return
          await attempt(disk, owner.handle('volume.delete-disk', { ...of, disk }), () => known.maps.delete(disk))
        } else if (pick < 3) {
          await attempt(disk, owner.handle('volume.attach', { ...hold, vm: 'web-1', hostEpoch: 1 }), () => undefined)
        } else if (pick < 8) {
          await attempt(disk, owner.handle('volume.allocate', { ...hold, indexes, ahead: [] }), reply => {
            for (let i = 0; i < reply.runs.length; i += 4) map.set(reply.runs[i]!, reply.runs[i + 1]!)
          })
        } else {
          const grant = await Promise.race([
            owner.handle('volume.attach', { ...hold, vm: 'web-1', hostEpoch: 1 }).catch(() => null),
            death.noticed,
          ])
          if (grant === null || grant.runs.length === 0) return
          const run = grant.runs.slice(0, 4)
          await attempt(disk, owner.handle('volume.free', { ...hold, runs: run }), () => {
            for (let n = 0; n < run[2]!; n += 1) map.delete(run[0]! + n)
          })
        }
      }),
    )
  }
  return { died: death.happened, writes: device.writes }
}

/** The death of a device. */
class Death {
  happened = false
  /** Resolves some turns after it: whoever waits for the device would wait for ever. */
  readonly noticed: Promise<null>
  #notice: () => void = () => undefined

  constructor() {
    this.noticed = new Promise<void>(resolve => {
      this.#notice = resolve
    }).then(async () => {
      await turns(3)
      return null
    })
  }

  readonly happens = (): void => {
    this.happened = true
    this.#notice()
  }
}

describe('a volume whose owner dies at any write', () => {
  it('keeps what was answered, grants nothing twice, and checks clean', async () => {
    const { platter } = await smallVolume(8 * 1024 * 1024, { journalBytes: 256 * 1024 })
    const whole = await ownerLife(platter.copy(), 1, 7, null, { maps: new Map(), doubtful: new Set() })
    expect(whole.writes).toBeGreaterThan(50)
    let crashes = 0
    for (let crashAt = 1; crashAt <= whole.writes; crashAt += 1) {
      const copy = platter.copy()
      const known: Answered = { maps: new Map(), doubtful: new Set() }
      const life = await ownerLife(copy, 1, 7, crashAt, known)
      if (life.died) crashes += 1
      const report = await checkVolume([legOn(copy)])
      expect(
        report.findings.filter(({ severity }) => severity !== 'degraded'),
        `crash at write ${crashAt}`,
      ).toEqual([])
      const { owner } = await openOwner(copy, 2)
      const { disks } = await owner.handle('volume.list-disks', of)
      const byId = new Map(disks.map(disk => [disk.disk, disk]))
      for (const [disk, map] of known.maps) {
        if (known.doubtful.has(disk)) continue
        expect(byId.has(disk), `disk ${disk} after a crash at write ${crashAt}`).toBe(true)
        expect(byId.get(disk)!.allocatedBytes, `map of ${disk} after a crash at write ${crashAt}`).toBe(
          map.size * EXTENT,
        )
      }
      for (const { disk } of disks) if (!known.doubtful.has(disk)) expect(known.maps.has(disk)).toBe(true)
      await owner.close()
      expect((await checkVolume([legOn(copy)])).clean).toBe(true)
    }
    expect(crashes).toBe(whole.writes)
  })

  it('survives owner after owner dying, for many times its journal', async () => {
    const { platter } = await smallVolume()
    const known: Answered = { maps: new Map(), doubtful: new Set() }
    for (let epoch = 1; epoch <= 60; epoch += 1) {
      known.doubtful.clear()
      known.maps.clear()
      const reader = await openOwner(platter, epoch * 2)
      for (const { disk } of (await reader.owner.handle('volume.list-disks', of)).disks) known.maps.set(disk, new Map())
      await reader.owner.close()
      await ownerLife(platter, epoch * 2 + 1, epoch, 20 + (epoch % 50), known)
      const report = await checkVolume([legOn(platter)])
      expect(
        report.findings.filter(({ severity }) => severity !== 'degraded'),
        `owner ${epoch}`,
      ).toEqual([])
    }
  })
})

describe('a host and an owner that lose power together at any write', () => {
  /** Writes and trims; keeps in `possible` what each 4 KiB block may hold, sector by sector. Gives the number of writes. */
  async function hostLife(
    platter: Platter,
    crashAt: number | null,
    possible: Map<number, Set<number>>,
  ): Promise<number> {
    const death = new Death()
    let device: CrashDevice | null = null
    const life = async (): Promise<void> => {
      const random = randomFrom(11)
      const opened = await openOwner(platter, 1, {
        ...(crashAt === null ? {} : { crashAt }),
        random: () => random(1000) / 1000,
        onCrash: death.happens,
      })
      device = opened.device
      const call: OwnerCall = (kind, body) => opened.owner.handle(kind, body)
      const host = await openHost(platter, call, { device, io: false })
      await call('volume.create-disk', { ...of, disk: 'disk-1', name: 'disk-1', sizeBytes: DISK_BLOCKS * 4096 })
      const disk = await CsvDisk.attach({ volume: host.volume, disk: 'disk-1', vm: 'web-1', epoch: 1 })
      for (let step = 1; step <= 60; step += 1) {
        const writes = [0, 1, 2].map(async lane => {
          const block = random(Math.floor(DISK_BLOCKS / 3)) * 3 + lane
          const value = ((step * 3 + lane) % 250) + 1
          valuesOf(possible, block).add(value)
          await disk.write(block * 4096, [new Uint8Array(4096).fill(value)], {}, IO)
          if (!death.happened) possible.set(block, new Set([value]))
        })
        await Promise.all(writes)
        if (step % 5 !== 0) continue
        const first = random(16) * EXTENT
        const range = Array.from({ length: EXTENT / 4096 }, (_, i) => first / 4096 + i)
        for (const block of range) valuesOf(possible, block).add(0)
        await disk.trim(first, EXTENT, {}, IO)
        if (!death.happened) for (const block of range) possible.set(block, new Set([0]))
      }
    }
    const lived = life().catch(error => {
      if (!death.happened) throw error
      return death.noticed
    })
    await Promise.race([lived, death.noticed])
    return (device as CrashDevice | null)?.writes ?? 0
  }

  function valuesOf(possible: Map<number, Set<number>>, block: number): Set<number> {
    const values = possible.get(block) ?? new Set([0])
    possible.set(block, values)
    return values
  }

  it('find every acknowledged write, and in every other sector the old or the new', async () => {
    const { platter } = await smallVolume()
    const writes = await hostLife(platter.copy(), null, new Map())
    expect(writes).toBeGreaterThan(150)
    let found = 0
    for (let crashAt = 1; crashAt <= writes; crashAt += 5) {
      const copy = platter.copy()
      const possible = new Map<number, Set<number>>()
      await hostLife(copy, crashAt, possible)
      const { owner } = await openOwner(copy, 2)
      expect((await checkVolume([legOn(copy)])).findings.filter(f => f.severity === 'damage')).toEqual([])
      await owner.handle('volume.recover-slot', { ...of, host: 'host-a', hostEpoch: 1 })
      await owner.handle('volume.release-host', { ...of, host: 'host-a', hostEpoch: 1 })
      const call: OwnerCall = (kind, body) => owner.handle(kind, body)
      const host = await openHost(copy, call, { hostEpoch: 2, io: false })
      const attach = CsvDisk.attach({ volume: host.volume, disk: 'disk-1', vm: 'web-1', epoch: 2 })
      if ((await codeOf(attach)) === 'disk-missing') continue
      const disk = await attach
      for (const [block, values] of possible) {
        const content = await readAll(disk, block * 4096, 4096)
        for (let sector = 0; sector < 4096; sector += 512) {
          const value = content[sector]!
          expect(values.has(value), `block ${block} holds ${value} after a crash at write ${crashAt}`).toBe(true)
          found += value === 0 ? 0 : 1
          expect(content.subarray(sector, sector + 512).every(byte => byte === value)).toBe(true)
        }
      }
    }
    expect(found).toBeGreaterThan(1000)
  })
})
