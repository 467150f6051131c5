import { BlockError } from '@stellwerk/block/device.ts'
import { describe, expect, it } from 'vitest'
import { Sealer } from '../format/checksum.ts'
import { INTENT_BLOCKS } from '../format/layout.ts'
import { readIntent } from '../format/slot.ts'
import { staleLogThrough } from '../mirror/stale-log.ts'
import { CrashDevice, Platter } from '../testing/crash-device.ts'
import { codeOf, IO } from '../testing/fixture.ts'
import { HandTimers, turns } from '../testing/host-fixture.ts'
import { type IntentBit, IntentLog, MAX_INTENT_BITS } from './intent-log.ts'

const SLOT = 8192

async function rig() {
  const platter = new Platter(64 * 1024)
  const device = new CrashDevice(platter)
  const timers = new HandTimers()
  const options = { device, volumeId: 'vol-1', slotOffset: SLOT, timers }
  const log = await IntentLog.open(options)
  const inSlot = async () => (await readIntent(new CrashDevice(platter), SLOT, new Sealer('vol-1'), IO)).regions
  return { platter, device, timers, options, log, inSlot }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

describe('an intent log', () => {
  it('vacates regions once whoever has one in hand lets go, and others stay marked', async () => {
    const { log, inSlot } = await rig()
    const [first, inHand] = (await log.mark([3, 4])) as [IntentBit, IntentBit]
    log.release(first, false)
    log.release((await log.mark([9]))[0]!, false)
    let vacated = false
    const done = log
      .vacate(region => region < 9)
      .then(() => {
        vacated = true
      })
    await turns()
    expect(vacated).toBe(false)
    expect(await inSlot()).toContain(4)
    log.release(inHand, false)
    await done
    expect(await inSlot()).toEqual([9])
  })

  it('vacates nothing where a write may still land', async () => {
    const { log, inSlot } = await rig()
    log.release((await log.mark([3]))[0]!, true)
    expect(await codeOf(log.vacate(() => true))).toBe('outcome-unknown')
    expect(await inSlot()).toEqual([3])
  })

  it('marks regions that are wanted together with one write of the slot', async () => {
    const { log, device, inSlot } = await rig()
    const before = device.writes
    await Promise.all([log.mark([3, 4]), log.mark([900_000]), log.mark([4])])
    expect(device.writes - before).toBe(1)
    expect(await inSlot()).toEqual([3, 4, 900_000])
  })

  it('gives a mark at once when it is durable, and not before', async () => {
    const { log } = await rig()
    const marking = log.mark([5])
    expect(log.take(5)).toBeNull()
    await marking
    expect(log.take(5)).toMatchObject({ region: 5, users: 2 })
    expect(log.takeAll([5, 6])).toBeNull()
    expect(log.take(5)).toMatchObject({ users: 3 })
  })

  it('never has more than 1,024 regions marked, and makes room from those unused', async () => {
    const { log, inSlot } = await rig()
    const held = await log.mark(upTo(MAX_INTENT_BITS - 10))
    let more = false
    const waiting = log.mark(upTo(20).map(i => 5000 + i)).then(bits => {
      more = true
      return bits
    })
    await turns(5)
    expect(more).toBe(false)
    expect((await inSlot()).length).toBe(MAX_INTENT_BITS)
    for (const bit of held.slice(0, 300)) log.release(bit, false)
    await waiting
    const now = await inSlot()
    expect(now.length).toBeLessThanOrEqual(MAX_INTENT_BITS)
    for (const bit of held.slice(300)) expect(now).toContain(bit.region)
  })

  it('takes marks away lazily, once nothing used them for a while', async () => {
    const { log, timers, inSlot } = await rig()
    const [used, unused] = await log.mark([1, 2])
    log.release(unused!, false)
    await timers.advance(4_000)
    expect(await inSlot()).toEqual([1, 2])
    await timers.advance(8_000)
    expect(await inSlot()).toEqual([1])
    log.release(used!, false)
    await timers.advance(12_000)
    expect(await inSlot()).toEqual([])
    expect(timers.pending).toBe(0)
  })

  it('a region wanted again while its mark goes is marked anew before it is given', async () => {
    const { log, inSlot } = await rig()
    for (const bit of await log.mark([1])) log.release(bit, false)
    const clearing = log.clear(() => true)
    const again = log.mark([1])
    await clearing
    await again
    expect(await inSlot()).toEqual([1])
  })

  it('keeps the mark of a write with an unknown outcome until that is settled', async () => {
    const { log, timers, inSlot } = await rig()
    for (const bit of await log.mark([1])) log.release(bit, true)
    await timers.advance(20_000)
    expect(await inSlot()).toEqual([1])
    expect(await codeOf(log.clear(() => true))).toBe('outcome-unknown')
    log.settle(() => true)
    await log.clear(() => true)
    expect(await inSlot()).toEqual([])
  })

  it('makes the legs equal where a write failed as soon as they let it, so that those marks leave room for others', async () => {
    let trouble = true
    const equal: number[] = []
    const equalize = async (region: number): Promise<void> => {
      if (trouble) throw new BlockError('EIO', 'none', 'a leg is in trouble')
      equal.push(region)
    }
    const { options, timers } = await rig()
    const log = await IntentLog.open({ ...options, equalize })
    for (const bit of await log.mark(upTo(MAX_INTENT_BITS))) log.release(bit, true)
    let marked = false
    const more = log.mark([5_000]).then(bits => {
      marked = true
      return bits
    })
    await timers.advance(20_000)
    expect(marked).toBe(false)
    trouble = false
    await timers.advance(10_000)
    expect(marked).toBe(true)
    expect(equal).toEqual(upTo(MAX_INTENT_BITS))
    log.refuseUncertain(() => true)
    for (const bit of await more) log.release(bit, false)
  })

  it('a write that fails while its region is made equal keeps the mark', async () => {
    const { options, timers, inSlot } = await rig()
    let again: () => void = () => undefined
    let turn = 0
    const equalize = async (): Promise<void> => {
      turn += 1
      if (turn === 1) again()
    }
    const log = await IntentLog.open({ ...options, equalize })
    const [bit] = await log.mark([1])
    log.release(bit!, true)
    again = () => log.release(log.take(1)!, true)
    await timers.advance(6_000)
    expect(turn).toBe(1)
    expect(await codeOf(Promise.resolve().then(() => log.refuseUncertain(() => true)))).toBe('outcome-unknown')
    await timers.advance(20_000)
    expect(await inSlot()).toEqual([])
  })

  it('a slot that could not be written gives no mark, and is rewritten with the next', async () => {
    const { log, device, inSlot } = await rig()
    device.refuse = () => new BlockError('EIO', 'unknown', 'no path')
    expect(await codeOf(log.mark([1]))).toBe('EIO')
    expect(log.take(1)).toBeNull()
    device.refuse = null
    await log.mark([2])
    expect(await inSlot()).toEqual([2])
  })

  it('MIR1: marks written while a leg came back are written anew for it, also where that write ends after it came', async () => {
    const { device, options } = await rig()
    const legs = (role: 'stale' | 'syncing') => [
      { id: 'leg-0', index: 0, role: 'in-sync' as const, lastInSync: 8 },
      { id: 'leg-1', index: 1, role, lastInSync: 7 },
    ]
    const stale = staleLogThrough(device, { volumeId: 'vol-1', slotOffset: SLOT, regionCount: 2 * MAX_INTENT_BITS })
    const log = await IntentLog.open({ ...options, stale, generation: { number: 8, legs: legs('stale') } })
    const write = device.write.bind(device)
    const gate = Promise.withResolvers<void>()
    const written: number[] = []
    device.write = async (...args: Parameters<typeof write>) => {
      written.push(args[0])
      await gate.promise
      return write(...args)
    }
    // So many that a block of the slot is under way with all of its sectors.
    const marking = log.mark(upTo(MAX_INTENT_BITS - 100))
    await turns()
    const underWay = [...written]
    expect(underWay.length).toBeGreaterThan(0)
    log.follow({ number: 9, legs: legs('syncing') })
    gate.resolve()
    await marking
    await turns(20)
    for (const block of underWay) expect(written.filter(at => at === block).length).toBeGreaterThanOrEqual(2)
  })

  it('a clear that failed is not taken for one', async () => {
    const { log, device, inSlot } = await rig()
    for (const bit of await log.mark([1])) log.release(bit, false)
    device.refuse = () => new BlockError('EIO', 'unknown', 'no path')
    expect(await codeOf(log.clear(() => true))).toBe('EIO')
    expect(await codeOf(log.clear(() => true))).toBe('EIO')
    device.refuse = null
    await log.clear(() => true)
    expect(await inSlot()).toEqual([])
  })

  it('what lost its mark but could not be written down for the leg that missed it is told to the next generation (MIR1)', async () => {
    const { device, options } = await rig()
    const legs = (role: 'stale' | 'syncing') => [
      { id: 'leg-0', index: 0, role, lastInSync: 7 },
      { id: 'leg-1', index: 1, role: 'in-sync' as const, lastInSync: 8 },
    ]
    const stale = staleLogThrough(device, { volumeId: 'vol-1', slotOffset: SLOT, regionCount: 100 })
    const log = await IntentLog.open({ ...options, stale, generation: { number: 8, legs: legs('stale') } })
    for (const bit of await log.mark([40, 41])) log.release(bit, false)
    device.refuse = () => new BlockError('EIO', 'unknown', 'no path')
    expect(await codeOf(log.clear(region => region === 40))).toBe('EIO')
    expect([...log.follow({ number: 9, legs: legs('syncing') })].sort()).toEqual([40, 41])
  })

  it('finds what an earlier incarnation left, has it recovered, then starts empty', async () => {
    const { log, options, inSlot } = await rig()
    await log.mark([7, 9])
    const found: number[] = []
    await IntentLog.open(options, async intent => {
      expect(await inSlot()).toEqual([7, 9])
      found.push(...intent.regions)
    })
    expect(found).toEqual([7, 9])
    expect(await inSlot()).toEqual([])
  })

  it('a torn write of the slot leaves every earlier mark', async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const platter = new Platter(64 * 1024)
      let state = seed
      const random = (): number => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
        return state / 0x1_0000_0000
      }
      const device = new CrashDevice(platter, { crashAt: 1 + INTENT_BLOCKS + (seed % 4), random })
      const log = await IntentLog.open({ device, volumeId: 'vol-1', slotOffset: SLOT, timers: new HandTimers() })
      const durable: number[] = []
      for (let round = 0; round < 8; round += 1) {
        const regions = upTo(150).map(i => round * 1000 + i)
        const marking = log.mark(regions).then(
          () => durable.push(...regions),
          () => 0,
        )
        await Promise.race([marking, turns(4)])
      }
      const { regions, damagedSectors } = await readIntent(new CrashDevice(platter), SLOT, new Sealer('vol-1'), IO)
      expect(damagedSectors).toEqual([])
      for (const region of durable) expect(regions).toContain(region)
    }
  })
})
