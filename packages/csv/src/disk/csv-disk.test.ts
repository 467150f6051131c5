import { BlockError } from '@stellwerk/block/device.ts'
import { canaries } from '@stellwerk/runtime/canary.ts'
import { StellwerkError } from '@stellwerk/runtime/errors.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { Sealer } from '../format/checksum.ts'
import { readIntent } from '../format/slot.ts'
import type { OwnerCall } from '../owner/request.ts'
import type { VolumeOwner } from '../owner/volume-owner.ts'
import { CrashDevice, type Platter } from '../testing/crash-device.ts'
import { codeOf, EXTENT, IO, openOwner, REGION, readAll, smallVolume } from '../testing/fixture.ts'
import { openDisk, openHost, turns } from '../testing/host-fixture.ts'
import { CsvDisk } from './csv-disk.ts'
import type { HostVolume } from './host-volume.ts'

const bytes = (value: number, length = 4096): Uint8Array => new Uint8Array(length).fill(value)

async function marks(platter: Platter, volume: HostVolume): Promise<readonly number[]> {
  const sealer = new Sealer(volume.view.volumeId)
  return (await readIntent(new CrashDevice(platter), volume.view.slotOffset, sealer, IO)).regions
}

/** For each write of data, at the moment it reaches the LUN: are all of its regions marked on the platter? */
function marksAtWrite(device: CrashDevice, platter: Platter, volume: HostVolume): Promise<boolean>[] {
  const marked: Promise<boolean>[] = []
  device.refuse = (op, offset, length) => {
    if (op !== 'write' || offset < volume.view.dataOffset) return null
    const snapshot = platter.copy()
    marked.push(
      marks(snapshot, volume).then(regions => {
        for (let at = offset; at < offset + length; at += 512)
          if (!regions.includes(Math.floor(at / REGION))) return false
        return true
      }),
    )
    return null
  }
  return marked
}

/** Volume, owner and one host; the owner can be swapped, and be away. */
async function rig() {
  const { platter, layout } = await smallVolume()
  const opened = await openOwner(platter, 1)
  let current: VolumeOwner | null = opened.owner
  const calls: string[] = []
  const call: OwnerCall = (kind, body) => {
    calls.push(kind)
    if (current === null) return Promise.reject(new StellwerkError('unreachable', 'no owner', { retryable: true }))
    return current.handle(kind, body)
  }
  const device = new CrashDevice(platter)
  const host = await openHost(platter, call, { device })
  const setOwner = (owner: VolumeOwner | null): void => {
    current = owner
  }
  return { platter, layout, owner: opened.owner, ownerRecords: opened.records, device, host, call, calls, setOwner }
}

afterEach(() => canaries.clear())

describe('a CSV disk', () => {
  it('reads what is not mapped as zeroes without touching the LUN', async () => {
    const { host, device, call } = await rig()
    const disk = await openDisk(host, call)
    const before = device.reads
    expect((await readAll(disk, 0, 2 * EXTENT)).every(byte => byte === 0)).toBe(true)
    expect(device.reads).toBe(before)
  })

  it('writes a mapped, marked region with exactly one write below', async () => {
    const { host, device, call, calls } = await rig()
    host.records.io = false
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    const [before, asked] = [device.writes, calls.length]
    await disk.write(4096, [bytes(2)], {}, IO)
    expect(device.writes - before).toBe(1)
    expect(calls.length).toBe(asked)
    expect((await readAll(disk, 0, 8192)).equals(Buffer.concat([bytes(1), bytes(2)]))).toBe(true)
  })

  it('records nothing of reads and writes of what is mapped, unless every request is to be recorded', async () => {
    const recordedIn = async (io: boolean): Promise<number> => {
      const { host, call } = await rig()
      host.records.io = io
      const disk = await openDisk(host, call)
      await disk.write(0, [bytes(1)], {}, IO)
      const before = host.records.events.length
      for (let i = 0; i < 20; i += 1) await disk.write(4096 * i, [bytes(i)], {}, IO)
      await readAll(disk, 0, 4096 * 20)
      return host.records.events.length - before
    }
    expect(await recordedIn(false)).toBe(0)
    expect(await recordedIn(true)).toBeGreaterThanOrEqual(20)
  })

  it('has the region marked in its slot before the first write to it lands', async () => {
    const { host, device, call, platter } = await rig()
    const disk = await openDisk(host, call)
    const marked = marksAtWrite(device, platter, host.volume)
    await disk.write(3 * REGION, [bytes(1, 2 * REGION)], {}, IO)
    await disk.write(EXTENT + REGION / 2, [bytes(1, REGION)], {}, IO)
    expect(await Promise.all(marked)).toEqual([true, true, true])
  })

  it('the canary intent-bit-after-write is seen by that test', async () => {
    canaries.add('intent-bit-after-write')
    const { host, device, call, platter } = await rig()
    const disk = await openDisk(host, call)
    const marked = marksAtWrite(device, platter, host.volume)
    await disk.write(0, [bytes(1)], {}, IO)
    expect(await Promise.all(marked)).toEqual([false])
  })

  it('waits for an owner that is away, without an error', async () => {
    const { host, call, owner, setOwner } = await rig()
    const disk = await openDisk(host, call)
    const states: string[] = []
    disk.onState((state, reason) => states.push(`${state} (${reason})`))
    setOwner(null)
    let written = false
    const write = disk.write(0, [bytes(1)], {}, IO).then(() => {
      written = true
    })
    await host.timers.advance(10_000)
    expect(written).toBe(false)
    expect(await readAll(disk, EXTENT, 4096)).toHaveLength(4096)
    setOwner(owner)
    await host.timers.advance(3_000)
    await write
    expect(states).toEqual(['waiting (the volume owner: unreachable)', 'up (the volume owner answers)'])
  })

  it('gives up waiting for the owner at the request’s own deadline, with nothing done', async () => {
    const { host, call, setOwner } = await rig()
    const disk = await openDisk(host, call)
    setOwner(null)
    const write = disk.write(0, [bytes(1)], {}, { origin: 'test', deadlineAt: 500 })
    const failed = expect(write).rejects.toMatchObject({ errno: 'EIO', outcome: 'none' })
    await host.timers.advance(1_000)
    await failed
  })

  it('fails for good when the VM was placed anew', async () => {
    const { host, call, owner } = await rig()
    const disk = await openDisk(host, call)
    await owner.handle('volume.release-host', { volume: 'csv1', host: 'host-a', hostEpoch: 1 })
    await owner.handle('volume.open-host', { volume: 'csv1', host: 'host-b', hostEpoch: 1, slot: null })
    const again = {
      volume: 'csv1',
      disk: 'disk-1',
      vm: 'web-1',
      host: 'host-b',
      hostEpoch: 1,
      epoch: 2,
      committed: false,
    }
    await owner.handle('volume.attach', again)
    await expect(disk.write(0, [bytes(1)], {}, IO)).rejects.toMatchObject({ errno: 'EIO', outcome: 'none' })
    expect(disk.state).toBe('failed')
  })

  it('keeps overlapping writes in order, whatever the LUN does', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1, EXTENT)], {}, IO)
    let release = (): void => undefined
    device.hold = new Promise(resolve => {
      release = resolve
    })
    const order: number[] = []
    const first = disk.write(0, [bytes(2, 8192)], {}, IO).then(() => order.push(1))
    device.hold = null
    const second = disk.write(4096, [bytes(3, 8192)], {}, IO).then(() => order.push(2))
    const third = disk.read(8192, 4096, IO).then(parts => order.push(parts[0]![0]!))
    const apart = disk.write(3 * 8192, [bytes(9)], {}, IO)
    await apart
    expect(order).toEqual([])
    release()
    await Promise.all([first, second, third])
    expect(order).toEqual([1, 2, 3])
    expect((await readAll(disk, 4096, 4096))[0]).toBe(3)
  })

  it('gives trimmed extents back: drained, unmarked, then freed; they read as zeroes all along', async () => {
    const { host, call, owner, ownerRecords, platter } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(7, 3 * EXTENT)], {}, IO)
    expect((await marks(platter, host.volume)).length).toBeGreaterThan(0)
    await disk.trim(0, 3 * EXTENT, {}, IO)
    expect((await readAll(disk, 0, 3 * EXTENT)).every(byte => byte === 0)).toBe(true)
    await turns(20)
    expect(ownerRecords.events.filter(event => event.kind === 'extent.freed')).toHaveLength(3)
    expect(await marks(platter, host.volume)).toEqual([])
    expect(await owner.handle('volume.usage', { volume: 'csv1' })).toMatchObject({ usedBytes: 0 })
    await disk.write(EXTENT, [bytes(8)], {}, IO)
    expect((await readAll(disk, EXTENT, 4096))[0]).toBe(8)
  })

  it('does not free an extent that is still being read', async () => {
    const { host, call, ownerRecords, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(7, EXTENT)], {}, IO)
    let release = (): void => undefined
    const slow = new Promise<void>(resolve => {
      release = resolve
    })
    const read = device.read.bind(device)
    device.read = async (offset, length, io) => {
      await slow
      return read(offset, length, io)
    }
    const reading = disk.read(0, 4096, IO)
    await disk.trim(0, EXTENT, {}, IO)
    await turns(20)
    expect(ownerRecords.events.filter(event => event.kind === 'extent.freed')).toHaveLength(0)
    release()
    await reading
    await turns(20)
    expect(ownerRecords.events.filter(event => event.kind === 'extent.freed')).toHaveLength(1)
  })

  it('the canary freed-extent-before-drain is seen by that test', async () => {
    canaries.add('freed-extent-before-drain')
    const { host, call, ownerRecords, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(7, EXTENT)], {}, IO)
    const read = device.read.bind(device)
    device.read = (offset, length, io) =>
      offset < host.volume.view.dataOffset ? read(offset, length, io) : new Promise(() => undefined)
    void disk.read(0, 4096, IO)
    await disk.trim(0, EXTENT, {}, IO)
    await turns(20)
    expect(ownerRecords.events.filter(event => event.kind === 'extent.freed')).toHaveLength(1)
  })

  it('drains: requests wait, nothing is marked, and go on after resume', async () => {
    const { host, call, platter } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1, 4 * REGION)], {}, IO)
    await disk.drain()
    expect(await marks(platter, host.volume)).toEqual([])
    let done = false
    const write = disk.write(0, [bytes(2)], {}, IO).then(() => {
      done = true
    })
    await turns(5)
    expect(done).toBe(false)
    disk.resume()
    await write
    expect((await readAll(disk, 0, 4096))[0]).toBe(2)
  })

  it('is drained again at once after a resume: what had waited goes on waiting', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    await disk.drain()
    const write = disk.write(0, [bytes(2)], {}, IO)
    await turns()
    const before = device.writes
    disk.resume()
    await disk.drain()
    disk.handover()
    await turns(5)
    expect([device.writes, disk.figures.requests]).toEqual([before, 0])
    disk.resume()
    await write
    expect((await readAll(disk, 0, 4096))[0]).toBe(2)
  })

  it('a drain that is called off says so', async () => {
    const { host, call, setOwner, owner } = await rig()
    const disk = await openDisk(host, call)
    setOwner(null)
    const write = disk.write(0, [bytes(1)], {}, IO)
    await turns()
    const drain = codeOf(disk.drain())
    await turns()
    disk.resume()
    expect(await drain).toBe('drain-interrupted')
    setOwner(owner)
    await host.timers.advance(3_000)
    await write
  })

  it('does not drain over a write of unknown outcome until it is settled', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    device.refuse = () => new BlockError('EIO', 'unknown', 'the path is gone')
    await codeOf(disk.write(0, [bytes(2)], {}, IO))
    device.refuse = null
    expect(await codeOf(disk.drain())).toBe('outcome-unknown')
    disk.resume()
    disk.settleUnknown()
    expect(await codeOf(disk.drain())).toBe('resolved')
  })

  it('drains over a write that the storage answered with an error: nothing of it is under way any more', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    device.refuse = () => new BlockError('EIO', 'partial', 'a bad sector')
    expect(await codeOf(disk.write(0, [bytes(2)], {}, IO))).toBe('EIO')
    device.refuse = null
    expect(await codeOf(disk.drain())).toBe('resolved')
  })

  it('holds a write that the storage has no room for, and what overlaps it, until there is room', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    const critical: (string | null)[] = []
    disk.onCritical(why => critical.push(why))
    await disk.write(0, [bytes(1)], {}, IO)
    // As a storage says it over the wire: a part of it may be there.
    device.refuse = op => (op === 'write' ? new BlockError('ENOSPC', 'partial', 'the storage has no room') : null)
    const order: number[] = []
    const writes = [2, 3].map(value => disk.write(0, [bytes(value)], {}, IO).then(() => order.push(value)))
    await host.timers.advance(2_000)
    expect([order, critical]).toEqual([[], ['storage full']])
    device.refuse = null
    await host.timers.advance(1_000)
    await Promise.all(writes)
    expect([order, critical]).toEqual([
      [2, 3],
      ['storage full', null],
    ])
    expect(await readAll(disk, 0, 4096)).toEqual(Buffer.from(bytes(3)))
    expect(await codeOf(disk.drain())).toBe('resolved')
  })

  it('does not call a write undone that was given up while the storage was full', async () => {
    const { host, call, device } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1)], {}, IO)
    device.refuse = op => (op === 'write' ? new BlockError('ENOSPC', 'partial', 'the storage has no room') : null)
    const write = disk.write(0, [bytes(2)], {}, IO).catch(error => error)
    await host.timers.advance(1_000)
    const closing = disk.close()
    await host.timers.advance(1_000)
    device.refuse = null
    await closing
    expect(await write).toMatchObject({ errno: 'ENOSPC', outcome: 'partial' })
  })

  it('is handed over: the target reads everything and allocates, with the owner away until then', async () => {
    const { host, call, platter, owner, setOwner } = await rig()
    const disk = await openDisk(host, call)
    const target = await openHost(platter, call, { host: 'host-b' })
    await disk.write(5 * EXTENT, [bytes(5)], {}, IO)
    await owner.handle('volume.reserve', {
      volume: 'csv1',
      disk: 'disk-1',
      vm: 'web-1',
      host: 'host-b',
      hostEpoch: 1,
      epoch: 2,
    })
    await disk.drain()
    const handover = JSON.parse(JSON.stringify(disk.handover()))
    setOwner(null)
    const adopted = await CsvDisk.adopt({ volume: target.volume, disk: 'disk-1', vm: 'web-1', epoch: 2 }, handover)
    expect((await readAll(adopted, 5 * EXTENT, 4096))[0]).toBe(5)
    await adopted.write(5 * EXTENT, [bytes(6)], {}, IO)
    const fresh = adopted.write(0, [bytes(1)], {}, IO)
    setOwner(owner)
    await target.timers.advance(3_000)
    await fresh
    const { disks } = await owner.handle('volume.list-disks', { volume: 'csv1' })
    expect(disks).toMatchObject([{ holder: { host: 'host-b', epoch: 2 }, reserved: null }])
    disk.resume()
    await expect(disk.write(9 * EXTENT, [bytes(1)], {}, IO)).rejects.toMatchObject({ errno: 'EIO' })
  })

  it('MIR1: is copied for a leg only by who holds it: not after its drain, and not before the handover is taken', async () => {
    const { host, call, owner, platter } = await rig()
    const target = await openHost(platter, call, { host: 'host-b' })
    const said: string[] = []
    for (const [name, { volume }] of Object.entries({ source: host, target })) {
      volume.resync.add = () => said.push(`${name} copies`)
      volume.resync.remove = async () => void said.push(`${name} ceases`)
    }
    const disk = await openDisk(host, call)
    const reserved = { volume: 'csv1', disk: 'disk-1', vm: 'web-1', host: 'host-b', hostEpoch: 1, epoch: 2 }
    await owner.handle('volume.reserve', reserved)
    await disk.drain()
    const handover = JSON.parse(JSON.stringify(disk.handover()))
    const adopted = await CsvDisk.adopt({ volume: target.volume, disk: 'disk-1', vm: 'web-1', epoch: 2 }, handover)
    expect(said).toEqual(['source copies', 'source ceases'])
    adopted.taken()
    expect(said.at(-1)).toBe('target copies')
    // By an abort it would be the source's again.
    disk.resume()
    expect(said.at(-1)).toBe('source copies')
    await adopted.close()
    expect(said.at(-1)).toBe('target ceases')
  })

  it('records every request with checksums while someone listens, and none otherwise', async () => {
    const { host, call } = await rig()
    const disk = await openDisk(host, call)
    await disk.write(0, [bytes(1, 512), bytes(0, 512)], {}, IO)
    await disk.read(0, 1024, IO)
    const kinds = host.records.events.map(event => [event.kind, (event.body as { op: string }).op])
    expect(kinds).toEqual([
      ['disk.invoke', 'write'],
      ['disk.ok', 'write'],
      ['disk.invoke', 'read'],
      ['disk.ok', 'read'],
    ])
    const sectors = host.records.events.map(event => (event.body as { sectors?: number[] }).sectors)
    expect(sectors[0]).toEqual(sectors[3])
    expect(sectors[0]![1]).toBe(0)
    expect(sectors[0]![0]).toBeGreaterThan(0)
    host.records.io = false
    await disk.write(0, [bytes(1)], {}, IO)
    expect(host.records.events).toHaveLength(4)
  })

  it('grants some ahead to a writer that goes in order', async () => {
    const { host, call, calls } = await rig()
    const disk = await openDisk(host, call)
    for (let index = 0; index < 16; index += 1) await disk.write(index * EXTENT, [bytes(1)], {}, IO)
    expect(calls.filter(kind => kind === 'volume.allocate').length).toBeLessThan(8)
  })

  it('writes where extents were granted ahead while no owner is there, and asks for the next when one is', async () => {
    const { host, call, calls, owner, setOwner } = await rig()
    const disk = await openDisk(host, call)
    const asked = () => calls.filter(kind => kind === 'volume.allocate').length
    let index = 0
    // Until one was granted that was not asked for.
    for (let before = -1; before !== asked(); index += 1) {
      before = asked()
      await disk.write(index * EXTENT, [bytes(1)], {}, IO)
    }
    setOwner(null)
    let ahead = 0
    let waits = false
    while (!waits) {
      const write = disk.write((index + ahead) * EXTENT, [bytes(2)], {}, IO).then(() => 'done')
      waits = (await Promise.race([write, host.timers.advance(0).then(() => 'waits')])) === 'waits'
      if (!waits) ahead += 1
      else {
        setOwner(owner)
        await host.timers.advance(5_000)
        expect(await write).toBe('done')
      }
    }
    expect(ahead).toBeGreaterThan(0)
    for (let at = index; at <= index + ahead; at += 1) {
      expect((await readAll(disk, at * EXTENT, 4096)).equals(bytes(2))).toBe(true)
    }
  })
})
