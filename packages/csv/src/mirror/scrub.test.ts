// A scrub of a volume, below the simulation: what its owner and its hosts find on two legs that should be the same, and
// what of it they may write.

import { canaries } from '@stellwerk/runtime/canary.ts'
import { errorCode } from '@stellwerk/runtime/errors.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { checkVolume } from '../check.ts'
import { CsvDisk } from '../disk/csv-disk.ts'
import {
  checkpointAddress,
  extentAddress,
  SLOT_INTENT_OFFSET,
  SUPERBLOCK_OFFSETS,
  slotAddress,
} from '../format/layout.ts'
import { pickFree } from '../owner/state.ts'
import { CorePlay } from '../testing/core-play.ts'
import { CrashDevice } from '../testing/crash-device.ts'
import { EXTENT, IO, REGION } from '../testing/fixture.ts'
import { generation, LEGS, MirroredVolume } from '../testing/mirror-fixture.ts'

const WITHOUT_B = generation(2, ['in-sync', 'stale'], [null, 1])
const BLOCK = 4096

const bytes = (value: number, length = BLOCK): Uint8Array[] => [new Uint8Array(length).fill(value)]
const junk = new Uint8Array(512).fill(0xee)

async function bench() {
  const volume = await MirroredVolume.make()
  const host = await volume.host()
  await volume.call('volume.create-disk', { volume: 'csv1', disk: 'web', name: 'web-0', sizeBytes: 16 * EXTENT })
  const web = await CsvDisk.attach({ volume: host.volume, disk: 'web', vm: 'web', epoch: 1 })
  for (let i = 0; i < 3; i += 1) await web.write(i * EXTENT, bytes(i + 1, EXTENT), {}, IO)
  return { volume, host, web, at: (index: number) => extentOf(volume, 'web', index) }
}

/** Where an extent of a disk lies on the LUN. */
async function extentOf(volume: MirroredVolume, disk: string, index: number): Promise<number> {
  const { runs } = await volume.call('volume.map', {
    volume: 'csv1',
    disk,
    host: 'host-a',
    epoch: 1,
    committed: false,
    from: 0,
  })
  for (let i = 0; i < runs.length; i += 4) {
    const n = index - runs[i]!
    if (n >= 0 && n < runs[i + 2]!) return extentAddress(volume.layout, runs[i + 1]! + n)
  }
  throw new Error(`index ${index} of ${disk} is not mapped`)
}

async function scrub(volume: MirroredVolume, goodLeg: string | null = null) {
  volume.owner.scrubs.begin(goodLeg)
  for (let i = 0; i < 400 && volume.owner.scrubs.report?.state === 'running'; i += 1) await volume.timers.advance(500)
  const report = volume.owner.scrubs.report!
  expect(report.state, report.why ?? '').toBe('done')
  return report
}

const side = (volume: MirroredVolume, leg: number, address: number): number | undefined =>
  volume.platters[leg]!.read(address, 1)[0]

afterEach(() => canaries.clear())

describe('a scrub of a volume', () => {
  it('finds nothing on legs that are the same, and says how far it got', async () => {
    const { volume } = await bench()
    const { usedBytes } = await volume.call('volume.usage', { volume: 'csv1' })
    expect(await scrub(volume)).toMatchObject({
      findings: [],
      more: 0,
      repaired: 0,
      unresolved: 0,
      skipped: 0,
      totalBytes: usedBytes,
      doneBytes: usedBytes,
      legs: [...LEGS],
    })
    const kinds = volume.records.events.map(event => event.kind).filter(kind => kind.startsWith('scrub.'))
    expect(kinds).toEqual(['scrub.began', 'scrub.ended'])
  })

  it('tells what differs in a disk that a host holds, and copies nothing', async () => {
    const { volume, at } = await bench()
    const address = (await at(1)) + REGION + BLOCK
    volume.platters[1]!.write(address, junk)
    const report = await scrub(volume)
    expect(report).toMatchObject({ repaired: 0, unresolved: 1, skipped: 0 })
    expect(report.findings).toEqual([
      {
        kind: 'differs',
        where: 'disk web-0',
        disk: 'web',
        offset: EXTENT + REGION + BLOCK,
        address,
        length: BLOCK,
        legs: ['leg-0', 'leg-1'],
        repaired: null,
        why: null,
      },
    ])
    expect([side(volume, 0, address), side(volume, 1, address)]).toEqual([2, 0xee])
    expect(volume.records.events.find(event => event.kind === 'scrub.found')).toMatchObject({ disk: 'web' })
  })

  it('makes the guest read what was bad where it copies from the bad leg, which is how that bug is seen', async () => {
    canaries.add('scrub-from-bad-copy')
    const { volume, web, at } = await bench()
    volume.platters[1]!.write(await at(1), junk)
    await scrub(volume)
    expect(Buffer.concat(await web.read(EXTENT, BLOCK, IO))[0]).toBe(0xee)
  })

  it('writes anew from the other leg what a leg cannot read, at the host and at the owner', async () => {
    const { volume, web, at } = await bench()
    const [held, shared] = [await at(0), await at(2)]
    volume.latent[1]!.add(held / BLOCK)
    volume.platters[1]!.write(held, junk)
    const report = await scrub(volume)
    expect(report.findings).toMatchObject([
      { kind: 'unreadable', disk: 'web', offset: 0, legs: ['leg-1'], repaired: { leg: 'leg-1', from: 'leg-0' } },
    ])
    await web.drain()
    await web.close()
    await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1 })
    volume.latent[0]!.add(shared / BLOCK)
    volume.platters[0]!.write(shared, junk)
    expect((await scrub(volume)).findings).toMatchObject([
      { kind: 'unreadable', offset: 2 * EXTENT, legs: ['leg-0'], repaired: { leg: 'leg-0', from: 'leg-1' } },
    ])
    expect([...volume.latent[0]!, ...volume.latent[1]!]).toEqual([])
    expect(await volume.differing()).toEqual([])
  })

  it('copies from the leg that an operator named', async () => {
    const { volume, at } = await bench()
    volume.platters[0]!.write(await at(1), junk)
    const report = await scrub(volume, 'leg-1')
    expect(report.findings).toMatchObject([{ repaired: { leg: 'leg-0', from: 'leg-1', by: 'operator' } }])
    expect(await volume.differing()).toEqual([])
    expect(side(volume, 0, await at(1))).toBe(2)
  })

  it('compares what was cloned and what nobody holds by itself', async () => {
    const { volume, web, at } = await bench()
    const address = await at(1)
    await web.drain()
    await web.close()
    await volume.call('volume.detach', { volume: 'csv1', disk: 'web', host: 'host-a', epoch: 1 })
    await volume.call('volume.snapshot-disk', { volume: 'csv1', disk: 'web', snapshot: 's', name: 's' })
    const host = volume.hosts.get('host-a')!
    await CsvDisk.attach({ volume: host, disk: 'web', vm: 'web', epoch: 2 })
    volume.platters[1]!.write(address, junk)
    expect((await scrub(volume)).findings).toMatchObject([{ kind: 'differs', disk: 'web', offset: EXTENT }])
  })

  it('repairs metadata from the leg whose checksum holds', async () => {
    const { volume } = await bench()
    const { layout } = volume
    await volume.call('volume.put-cluster-copy', { volume: 'csv1', version: 1, value: { text: 'the cluster' } })
    await volume.call('volume.put-cluster-copy', { volume: 'csv1', version: 2, value: { text: 'the cluster' } })
    const places = [
      SUPERBLOCK_OFFSETS[1],
      checkpointAddress(layout, 0),
      layout.journalOffset,
      layout.clusterCopyOffset,
      slotAddress(layout, 0),
    ]
    for (const [i, address] of places.entries()) volume.platters[i % 2]!.write(address + 16, junk)
    // Its host marks there.
    volume.platters[1]!.write(slotAddress(layout, 0) + SLOT_INTENT_OFFSET, junk)
    const report = await scrub(volume)
    expect(report).toMatchObject({ repaired: places.length + 1, unresolved: 0, skipped: 0 })
    expect(report.findings.map(({ where, repaired }) => `${where}: ${repaired?.leg} ${repaired?.by}`)).toEqual([
      `superblock at ${SUPERBLOCK_OFFSETS[1]}: leg-0 checksum`,
      'checkpoint 0: leg-1 checksum',
      'journal: leg-0 checksum',
      'cluster copy 0: leg-1 checksum',
      'slot 0: leg-0 checksum',
      'slot 0, of host-a: leg-1 checksum',
    ])
    expect(await scrub(volume)).toMatchObject({ findings: [] })
    const legs = LEGS.map((id, i) => ({ id, device: new CrashDevice(volume.platters[i]!) }))
    expect((await checkVolume(legs)).findings).toEqual([])
  })

  it('writes metadata that cannot be read anew', async () => {
    const { volume } = await bench()
    const { layout } = volume
    const places = [SUPERBLOCK_OFFSETS[0], checkpointAddress(layout, 1), layout.journalOffset, slotAddress(layout, 1)]
    for (const address of places) volume.latent[1]!.add(address / BLOCK)
    volume.platters[1]!.write(layout.journalOffset, junk)
    expect(await scrub(volume)).toMatchObject({ repaired: places.length, unresolved: 0 })
    expect([...volume.latent[1]!]).toEqual([])
    const read = (leg: number) => volume.platters[leg]!.read(layout.journalOffset, BLOCK)
    expect(Buffer.compare(read(0), read(1))).toBe(0)
  })

  it('renames a superblock that it takes from the other leg', async () => {
    const { volume } = await bench()
    for (const address of SUPERBLOCK_OFFSETS) volume.platters[1]!.write(address + 16, junk)
    await volume.call('volume.put-cluster-copy', { volume: 'csv1', version: 1, value: { text: 'the cluster' } })
    expect(await scrub(volume)).toMatchObject({ repaired: 2, unresolved: 0 })
    const legs = LEGS.map((id, i) => ({ id, device: new CrashDevice(volume.platters[i]!) }))
    expect((await checkVolume(legs)).findings).toEqual([])
    // The owner that comes next finds nothing to rename.
    const before = Buffer.from(volume.platters[1]!.read(0, BLOCK))
    await volume.enter(generation(2, ['in-sync', 'in-sync']), 2)
    expect(Buffer.compare(before, volume.platters[1]!.read(0, BLOCK))).toBe(0)
  })

  it('tells, and does not copy, where a journal’s unused room differs', async () => {
    const { volume } = await bench()
    const address = volume.layout.journalOffset + volume.layout.journalBytes - BLOCK
    volume.platters[1]!.write(address, junk)
    expect((await scrub(volume)).findings).toMatchObject([{ where: 'journal', kind: 'differs', repaired: null }])
    expect([side(volume, 0, address), side(volume, 1, address)]).toEqual([0, 0xee])
  })

  it('leaves out what its host does not answer for, says so, and goes on', async () => {
    const { volume, at } = await bench()
    volume.hosts.delete('host-a')
    volume.platters[1]!.write(await at(1), junk)
    const report = await scrub(volume)
    expect(report.skipped).toBeGreaterThan(0)
    expect(report.findings[0]).toMatchObject({
      kind: 'not-compared',
      where: 'disk web-0',
      why: 'host-a was asked: it is not open there',
    })
  })

  it('a host that did not answer, and does later, may write in place again what it was asked about', async () => {
    const { volume, web } = await bench()
    volume.partsFail = true
    expect((await scrub(volume)).skipped).toBeGreaterThan(0)
    // As after a snapshot that is gone again: whether it is the disk's alone, the owner is asked.
    await web.barrier()
    let written = false
    const writing = web.write(0, bytes(9), {}, IO).then(() => {
      written = true
    })
    await volume.timers.advance(3_000)
    expect(written).toBe(false)
    volume.partsFail = false
    await volume.timers.advance(2_000)
    await writing
  })

  it('waits, as a request in flight there, with whoever drains the disk', async () => {
    const { volume, web, at } = await bench()
    const address = await at(0)
    const order: string[] = []
    const extent = (address - volume.layout.dataOffset) / EXTENT
    const part = { index: 0, extent, offset: 0, length: REGION, goodLeg: null }
    const scrubbed = web.scrub(part).then(found => order.push(`scrubbed ${found?.length}`))
    const drained = web.drain().then(() => order.push('drained'))
    await Promise.all([scrubbed, drained])
    expect(order).toEqual(['scrubbed 0', 'drained'])
    await expect(web.scrub(part)).rejects.toMatchObject({ code: 'disk-switching' })
    web.resume()
    expect(await web.scrub({ ...part, extent: extent + 1 })).toBeNull()
  })
})

describe('while a scrub compares an extent', () => {
  const held = { volume: 'v', disk: 'd', host: 'host-a', epoch: 1, committed: false }

  it('nobody gets to write it in place, or has it anew, and who asks waits', () => {
    const play = new CorePlay()
    play.ask({ kind: 'volume.open-host', body: { volume: 'v', host: 'host-a', hostEpoch: 1, slot: null } })
    play.ask({ kind: 'volume.create-disk', body: { volume: 'v', disk: 'd', name: 'd', sizeBytes: 4 * EXTENT } })
    const attach = () =>
      play.ask({ kind: 'volume.attach', body: { ...held, vm: 'web', hostEpoch: 1 } }).reply as { shared: number[] }
    expect(attach().shared).toEqual([])
    const { reply } = play.ask({ kind: 'volume.allocate', body: { ...held, indexes: [0], ahead: [] } })
    const [, extent, , version] = (reply as { runs: [number, number, number, number] }).runs
    const question = { indexes: [0], extents: [extent], mapVersion: version }
    const unshare = () => play.ask({ kind: 'volume.unshare', body: { ...held, ...question } })

    play.state.comparing.add(extent)
    expect(attach().shared).toEqual([0, 1])
    expect(unshare().code).toBe('waits for ever')
    play.ask({ kind: 'volume.free', body: { ...held, runs: [0, extent, 1, version] } })
    expect(pickFree(play.state, 1_000)).not.toContain(extent)

    play.state.comparing.delete(extent)
    expect(pickFree(play.state, 1_000)).toContain(extent)
  })

  it('no host opens the volume whose slot is being compared', () => {
    const play = new CorePlay()
    const open = () =>
      play.ask({ kind: 'volume.open-host', body: { volume: 'v', host: 'host-a', hostEpoch: 1, slot: null } }).code
    expect(open()).toBe('ok')
    play.state.comparingSlots.add('host-a')
    expect(open()).toBe('waits for ever')
  })
})

describe('a scrub that an operator cancels', () => {
  it('ends at once with what it has found, lets extents go, and another may begin', async () => {
    const { volume, at } = await bench()
    volume.platters[1]!.write(await at(0), junk)
    expect(() => volume.owner.scrubs.cancel()).toThrow(/no scrub of volume "csv1" is running/)
    const id = volume.owner.scrubs.begin(null)
    for (let i = 0; i < 10_000 && volume.owner.scrubs.report?.unresolved === 0; i += 1) await Promise.resolve()
    expect(volume.owner.scrubs.cancel()).toBe(id)
    const { report } = volume.owner.scrubs
    expect(report).toMatchObject({ scrub: id, state: 'failed', why: 'an operator has cancelled it', unresolved: 1 })
    expect(() => volume.owner.scrubs.cancel()).toThrow(/no scrub/)
    await volume.timers.advance(2_000)
    expect(await scrub(volume, 'leg-0')).toMatchObject({ repaired: 1, unresolved: 0 })
  })
})

describe('a scrub is refused', () => {
  it('while one runs, of a leg that is behind, and where a leg is named that is not there', async () => {
    const { volume } = await bench()
    const begin = (leg: string | null = null): string => {
      try {
        return volume.owner.scrubs.begin(leg)
      } catch (error) {
        return errorCode(error)
      }
    }
    expect(begin('leg-9')).toBe('unknown-leg')
    expect(begin()).toBe('scrub-1-1-1')
    expect(begin()).toBe('scrub-running')
    await volume.enter(WITHOUT_B, 2)
    expect(begin()).toBe('leg-not-in-sync')
    expect(volume.owner.scrubs.report).toBeNull()
  })
})
